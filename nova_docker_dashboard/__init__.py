# SPDX-License-Identifier: Apache-2.0
"""A plug-in of Horizon for servers that are containers.

It adds a tab with what is known of a server's container, and replaces the script of
the serial console's page, because Horizon's does not tell the server its size.
"""
