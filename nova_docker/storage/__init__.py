# SPDX-License-Identifier: Apache-2.0
"""Mounts of a server's container, and the space that they take."""
