# SPDX-License-Identifier: Apache-2.0
"""Docker images in Glance: a read-only store, and the commands that add images."""
