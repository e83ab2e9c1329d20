# SPDX-License-Identifier: Apache-2.0
"""What nova-compute needs root for: one context for each set of capabilities.

nova-compute runs unprivileged; oslo.privsep runs the functions of this package in
a daemon for each context, which holds that context's capabilities and no more.
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
        # setns(2) and the bind mount that names a namespace ask for it.
        capabilities.CAP_SYS_ADMIN,
    ],
)
