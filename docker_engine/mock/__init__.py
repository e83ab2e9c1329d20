# SPDX-License-Identifier: Apache-2.0
"""The mock engine, divided as :mod:`docker_engine.api` is."""
