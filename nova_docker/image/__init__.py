# SPDX-License-Identifier: Apache-2.0
"""Glance images on the engine: fetched, cached, removed, and made from servers."""
