# SPDX-License-Identifier: Apache-2.0
"""How strongly a server is isolated from its host and from other servers.

The flavor decides, and where it says nothing, the configuration of the host. Nothing of
an image can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nova import exception
from oslo_utils import strutils

from nova_docker.container.naming import LABEL_PREFIX

#: Each server has a user namespace.
USER = "user"
#: Servers share the user namespace of the host.
SHARED = "shared"
#: Each server has a kernel of its own in user space, which is gVisor's.
GVISOR = "gvisor"
LEVELS = (USER, SHARED, GVISOR)
_STRENGTH = (SHARED, USER, GVISOR)

LABEL = LABEL_PREFIX + "isolation"
TRAIT = "CUSTOM_DOCKER_ISOLATION_{}"

_SPEC = "docker:isolation"
_NET_ADMIN_SPEC = "docker:net_admin"

# What root in a server may do. Everything else is dropped, including some of Docker's
# own defaults:
#   AUDIT_WRITE           sshd and login refuse to work without it
#   CHOWN DAC_OVERRIDE FOWNER FSETID
#                         package managers and home directories need to manage files
#   KILL                  an init process stops the services of other users
#   NET_BIND_SERVICE      listening below port 1024 where the sysctl is overridden
#   SETGID SETUID         services that drop root privileges
#   SYS_CHROOT            the empty jails of sshd and other services
# These are Docker's defaults without MKNOD (device nodes have been used to escape from
# containers), NET_RAW (allows forged frames; ping can work without it), SETFCAP and
# SETPCAP (useless under no-new-privileges).
_SHARED_CAPABILITIES = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETUID",
    "SYS_CHROOT",
)

# With a user namespace, the kernel grants capabilities only over what belongs to the
# server itself, and gVisor's kernel has nothing else. These more are what root of a
# machine expects:
#   NET_RAW               raw and packet sockets of its own network namespace: ping,
#                         tcpdump, DHCP clients. The virtual switch drops forged frames.
#   SETFCAP               file capabilities, which the kernel ties to the namespace:
#                         packages that contain some can be installed
#   SETPCAP               services that give up capabilities for good, as systemd's do
#   SYS_BOOT              reboot(2) ends the first process of the PID namespace
_USER_CAPABILITIES = ("NET_RAW", "SETFCAP", "SETPCAP", "SYS_BOOT")

# Its own interfaces, routes and packet filter. This opens the largest part of the
# kernel (netlink, nf_tables, traffic control), in which vulnerabilities are found every
# year: a flavor can take it away.
_NET_ADMIN = "NET_ADMIN"


def level_of(flavor: Any, default: str) -> str:
    """Return the level that a flavor requests.

    :param default: that of flavors that request none
    :raises InvalidInput: if there is no such level
    """
    level = str(flavor.extra_specs.get(_SPEC, default))
    if level not in LEVELS:
        raise exception.InvalidInput(
            reason=f"the flavor's {_SPEC}={level} is none of {', '.join(LEVELS)}; use "
            "another flavor"
        )
    return level


def of_container(labels: Mapping[str, str] | None) -> str:
    """Return the level of an existing container.

    One that an earlier release has created has no label. Should it have inherited one
    from its image, it is isolated better than it was.
    """
    level = (labels or {}).get(LABEL, SHARED)
    return level if level in LEVELS else SHARED


def has_net_admin(flavor: Any) -> bool:
    """Return whether root may configure the network of a server that is not shared.

    :raises InvalidInput: if the flavor's value is not a boolean
    """
    value = flavor.extra_specs.get(_NET_ADMIN_SPEC, "true")
    try:
        return bool(strutils.bool_from_string(value, strict=True))
    except ValueError as error:
        raise exception.InvalidInput(
            reason=f"the flavor's {_NET_ADMIN_SPEC}={value} is neither true nor false; "
            "use another flavor"
        ) from error


def refuse(flavor: Any, default: str, missing: Mapping[str, str]) -> None:
    """Refuse a flavor whose request this host cannot fulfil.

    :param default: as for :func:`level_of`
    :param missing: why the host does not have a level, by level
    :raises InvalidInput: if it does not have the flavor's, or the request is malformed
    """
    level = level_of(flavor, default)
    has_net_admin(flavor)
    if level in missing:
        raise exception.InvalidInput(
            reason=f"this host cannot isolate servers as the flavor's {_SPEC}={level} "
            f"requests: {missing[level]}"
        )


def is_weaker(level: str, flavor: Any, default: str) -> bool:
    """Return whether a level isolates a server less than its flavor requests.

    :param default: as for :func:`level_of`
    """
    return _STRENGTH.index(level) < _STRENGTH.index(level_of(flavor, default))


def refuse_change(old: Any, new: Any, default: str, current: str) -> None:
    """Refuse a resize that would need another container.

    :param old: the flavor that the server has
    :param new: the flavor that it is to get
    :param default: as for :func:`level_of`
    :param current: the level that the server has
    :raises ResizeError: if the new flavor requests something else
    """
    same_level = level_of(new, default) == current
    same_net_admin = current == SHARED or has_net_admin(new) == has_net_admin(old)
    for name, same in ((_SPEC, same_level), (_NET_ADMIN_SPEC, same_net_admin)):
        # A server of an earlier release may have less than its flavor requests.
        if not same and new.extra_specs.get(name) != old.extra_specs.get(name):
            raise exception.ResizeError(
                reason=f"the isolation of a server cannot change while it exists, and "
                f"{name} of the new flavor differs from what the server has; choose "
                "a flavor with the same isolation, or create another server"
            )


def refuse_change_of_nics(level: str, in_use: bool, uuid: str) -> None:
    """Refuse to attach a NIC to a server that would not notice it, or to detach one.

    :param in_use: whether the server's processes run, or are frozen
    :raises AttachInterfaceNotSupported: if so
    """
    if level == GVISOR and in_use:
        raise exception.AttachInterfaceNotSupported(
            f"Server {uuid} has docker:isolation=gvisor. gVisor's network stack takes "
            "the interfaces when the server starts; stop the server before you attach "
            "or detach one"
        )


def container(level: str, flavor: Any) -> dict[str, Any]:
    """Return the part of HostConfig that confines root in a server."""
    capabilities = [*_SHARED_CAPABILITIES]
    if level != SHARED:
        capabilities += _USER_CAPABILITIES
        capabilities += [_NET_ADMIN] if has_net_admin(flavor) else []
    return {
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": sorted(capabilities),
        # Elsewhere, setuid programs only raise to root of the server.
        "SecurityOpt": ["no-new-privileges"] if level == SHARED else [],
    }


def traits(missing: Mapping[str, str]) -> dict[str, bool]:
    """Return a trait for each level, with whether the host has it."""
    return {TRAIT.format(level.upper()): level not in missing for level in LEVELS}
