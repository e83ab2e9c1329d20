# SPDX-License-Identifier: Apache-2.0
"""Resizes on this host; moves of servers between hosts belong here."""
