# SPDX-License-Identifier: Apache-2.0
"""Resizing servers in place; migration between hosts belongs here."""
