# SPDX-License-Identifier: Apache-2.0
"""Docker's images in Glance: a read-only store, and what keeps its list."""
