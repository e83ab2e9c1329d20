# SPDX-License-Identifier: Apache-2.0
"""The oslo.privsep contexts: one per set of capabilities."""

from __future__ import annotations

from oslo_privsep import capabilities
from oslo_privsep import priv_context

netns_admin = priv_context.PrivContext(
    "nova_docker",
    cfg_section="nova_docker_privileged",
    # The name that privsep-helper gets, which sudo and rootwrap rules may contain.
    pypath="nova_docker.privsep.netns_admin",
    capabilities=[
        capabilities.CAP_NET_ADMIN,
        # setns(2) and the bind mount that names a namespace need it.
        capabilities.CAP_SYS_ADMIN,
    ],
)
