# SPDX-License-Identifier: Apache-2.0
"""The description of a server's container: pure functions that call no engine."""
