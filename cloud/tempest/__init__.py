# SPDX-License-Identifier: Apache-2.0
"""OpenStack's own acceptance tests, run against the quickstart's cloud."""
