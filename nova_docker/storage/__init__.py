# SPDX-License-Identifier: Apache-2.0
"""Mounts of a server's container; volumes and ephemeral disks belong here."""
