# SPDX-License-Identifier: Apache-2.0
"""A client of the Docker Engine API, and the formats in which engines keep images.

This package knows nothing of OpenStack: :mod:`nova_docker` and :mod:`glance_docker`
stand on it, and it imports neither of them, nor Nova, nor Glance.
"""
