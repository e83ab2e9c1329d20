# SPDX-License-Identifier: Apache-2.0
"""Block devices of servers: volumes of Cinder, and ephemeral disks."""
