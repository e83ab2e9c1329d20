# SPDX-License-Identifier: Apache-2.0
"""The oslo.privsep contexts: one per set of capabilities."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from os_brick import privileged as os_brick_privileged
from oslo_config import cfg
from oslo_log import log as logging
from oslo_privsep import capabilities
from oslo_privsep import priv_context

CONF = cfg.CONF
LOG = logging.getLogger(__name__)


class Context(priv_context.PrivContext):
    """A context whose functions may be called again after they were broken off.

    oslo.privsep starts a daemon that has ended again, but a call in progress fails. The
    verb would fail with it, half-way: a server may have stopped and still be connected.
    """

    def entrypoint(self, func: Callable[..., Any]) -> functools.partial[Any]:
        call = super().entrypoint(func)
        return _Repeated(self._call, call)

    def is_entrypoint(self, func: Callable[..., Any]) -> bool:
        return isinstance(func, _Repeated) and super().is_entrypoint(func.args[0])

    def _call(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except OSError:
            # The function itself may have raised it.
            if self.channel is None or self.channel.running:
                raise
            LOG.warning("The privileged daemon %s has ended; trying again", self.pypath)
            return call(*args, **kwargs)


class _Repeated(functools.partial[Any]):
    """A function of a context."""


netns_admin = Context(
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

userns_admin = Context(
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

devices_admin = Context(
    "nova_docker",
    cfg_section="nova_docker_devices_privileged",
    pypath="nova_docker.privsep.devices_admin",
    capabilities=[
        # Mounts in the mount namespace of a server, and its device cgroup
        capabilities.CAP_SYS_ADMIN,
        # To enter a mount namespace, whose root directory becomes the process's
        capabilities.CAP_SYS_CHROOT,
        # To enter the namespaces of other users' processes, and to see their files
        capabilities.CAP_SYS_PTRACE,
        # The device nodes, whose owner is root of the server
        capabilities.CAP_MKNOD,
        capabilities.CAP_CHOWN,
        capabilities.CAP_SETGID,
        capabilities.CAP_SETUID,
        # Volumes that are files, which may belong to another user
        capabilities.CAP_DAC_OVERRIDE,
    ],
)

shares_admin = Context(
    "nova_docker",
    cfg_section="nova_docker_shares_privileged",
    pypath="nova_docker.privsep.shares_admin",
    # What it runs has all capabilities of root, as programs of root always have.
    capabilities=[capabilities.CAP_SYS_ADMIN],
)

layers_admin = Context(
    "nova_docker",
    cfg_section="nova_docker_layers_privileged",
    pypath="nova_docker.privsep.layers_admin",
    # It runs tar, which has more capabilities than this, as programs of root always
    # have: the files of a layer belong to the server's users.
    capabilities=[
        # To make the rest of the host read-only for it, and to take others from it
        capabilities.CAP_SYS_ADMIN,
        capabilities.CAP_SETPCAP,
        capabilities.CAP_CHOWN,
        capabilities.CAP_DAC_OVERRIDE,
        capabilities.CAP_FOWNER,
    ],
)

filesystems_admin = Context(
    "nova_docker",
    cfg_section="nova_docker_filesystems_privileged",
    pypath="nova_docker.privsep.filesystems_admin",
    # As for shares
    capabilities=[capabilities.CAP_SYS_ADMIN],
)


def configure() -> None:
    """Start the daemons of all contexts in the same way, unless configured otherwise.

    os-brick has a daemon of its own. Configurations of earlier releases have a section
    for the first one only.
    """
    command = CONF[netns_admin.cfg_section].helper_command
    others = (
        userns_admin,
        devices_admin,
        shares_admin,
        filesystems_admin,
        layers_admin,
        os_brick_privileged.default,
    )
    for context in others:
        CONF.set_default("helper_command", command, group=context.cfg_section)
