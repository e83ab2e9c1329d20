# SPDX-License-Identifier: Apache-2.0
"""The oslo.privsep contexts: one per set of capabilities."""

from __future__ import annotations

from oslo_config import cfg
from oslo_privsep import capabilities
from oslo_privsep import priv_context

CONF = cfg.CONF

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

userns_admin = priv_context.PrivContext(
    "nova_docker",
    cfg_section="nova_docker_userns_privileged",
    pypath="nova_docker.privsep.userns_admin",
    capabilities=[
        # The bind mount that pins a namespace, and a mount with other ids
        capabilities.CAP_SYS_ADMIN,
        # To create a namespace as another user, and to map its ids
        capabilities.CAP_SETGID,
        capabilities.CAP_SETUID,
        # To keep the capabilities as that user
        capabilities.CAP_SETPCAP,
    ],
)


def configure() -> None:
    """Start the daemons of all contexts in the same way, unless configured otherwise.

    Configurations of earlier releases have a section for the first one only.
    """
    command = CONF[netns_admin.cfg_section].helper_command
    CONF.set_default("helper_command", command, group=userns_admin.cfg_section)
