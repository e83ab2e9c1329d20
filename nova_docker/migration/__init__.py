# SPDX-License-Identifier: Apache-2.0
"""Resizes, and later moves of servers between hosts."""
