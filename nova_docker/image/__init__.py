# SPDX-License-Identifier: Apache-2.0
"""Glance images on the engine: fetching, caching, removal, and snapshots."""
