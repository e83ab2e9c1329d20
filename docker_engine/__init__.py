# SPDX-License-Identifier: Apache-2.0
"""A client for the Docker Engine API and image registries, and Docker's image formats.

This package is independent of OpenStack services: :mod:`nova_docker` and
:mod:`glance_docker` build on it, and it imports neither them nor Nova nor Glance.
"""
