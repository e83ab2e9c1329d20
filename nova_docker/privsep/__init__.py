# SPDX-License-Identifier: Apache-2.0
"""The operations that need root: one oslo.privsep context per set of capabilities.

nova-compute runs unprivileged. oslo.privsep runs the functions of each context in a
daemon that has the capabilities of that context and no others.
"""

from __future__ import annotations

from oslo_privsep import capabilities
from oslo_privsep import priv_context

netns_admin = priv_context.PrivContext(
    "nova_docker",
    cfg_section="nova_docker_privileged",
    pypath=__name__ + ".netns_admin",
    capabilities=[
        capabilities.CAP_NET_ADMIN,
        # setns(2) and the bind mount that names a namespace need it.
        capabilities.CAP_SYS_ADMIN,
    ],
)
