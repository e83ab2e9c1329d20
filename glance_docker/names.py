# SPDX-License-Identifier: Apache-2.0
"""The name by which glance-api-paste.ini files have the middleware."""

from glance_docker.middleware import filter_factory

__all__ = ["filter_factory"]
