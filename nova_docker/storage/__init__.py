# SPDX-License-Identifier: Apache-2.0
"""What a server's container has mounted; volumes and ephemeral disks belong here."""
