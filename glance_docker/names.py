# SPDX-License-Identifier: Apache-2.0
"""The middleware under the module name that glance-api-paste.ini files use."""

from glance_docker.middleware import filter_factory

__all__ = ["filter_factory"]
