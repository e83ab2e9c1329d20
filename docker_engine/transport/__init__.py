# SPDX-License-Identifier: Apache-2.0
"""HTTP to an engine or a registry: sockets, TLS, retries, timeouts."""
