# SPDX-License-Identifier: Apache-2.0
"""Neutron's API, for uWSGI."""

from neutron import policy
from neutron.wsgi.api import application

# Neutron would load its policies during its first request. Until that is done, it
# considers everything forbidden, and a list that another thread answers is empty: Nova
# would leave the ports of a server that it deletes just then.
policy.init()

__all__ = ["application"]
