# SPDX-License-Identifier: Apache-2.0
"""The specification of a server's container: POST /containers/create."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from nova import objects

from nova_docker.container import init as inits
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.container import volume_mode
from nova_docker.image import properties

# Environment variables that the OCI runtime reads.
_NETNS = "NOVA_NETNS"
_ENGINE_NETWORK = "NOVA_ENGINE_NETWORK"
_ROOT_VOLUMES = "NOVA_ROOT_VOLUMES"
_ISOLATION = "NOVA_ISOLATION"
_INIT = "NOVA_INIT"
_READ_ONLY = "NOVA_READ_ONLY"
_LXCFS = "NOVA_LXCFS"
#: Variables of one server, which an image made from it must not inherit
OWN_ENVIRONMENT = (
    _NETNS,
    _ENGINE_NETWORK,
    _ROOT_VOLUMES,
    _ISOLATION,
    _INIT,
    _READ_ONLY,
    _LXCFS,
)
#: With this variable, the runtime leaves out the mounts that stand for volumes
VOLUMES_IN_ROOT = f"{_ROOT_VOLUMES}=1"

# Lets cloud-init detect OpenStack: in a container, DMI data would be the host's.
_PRODUCT = "product_name=OpenStack Nova"

_MAX_HOSTNAME = 64


def specification(
    instance: objects.Instance,
    image_meta: objects.ImageMeta,
    image: str,
    *,
    nameservers: Sequence[str],
    address: str | None,
    level: str,
    init: str = inits.NONE,
    mode: str = volume_mode.DEVICE,
    limits: Mapping[str, Any],
    read_only: bool = False,
    lxcfs: str = "",
    mounts: Sequence[Mapping[str, Any]] = (),
    image_healthcheck: bool = False,
    runtime: str,
    network_mode: str,
    log_size_mb: int,
) -> dict[str, Any]:
    """Return the body of POST /containers/create for a server.

    :param image: the engine's ID of the image
    :param nameservers: DNS servers; if empty, the engine's defaults apply
    :param address: the server's first fixed IP, to which its host name resolves
    :param level: as :func:`nova_docker.container.isolation.level_of` returns it
    :param init: as :func:`nova_docker.container.init.of_image` returns it
    :param mode: as :func:`nova_docker.container.volume_mode.of_server` returns it
    :param limits: as :mod:`nova_docker.container.limits` returns them
    :param read_only: whether the root file system is
    :param lxcfs: where lxcfs is mounted, empty without it
    :param mounts: as :mod:`nova_docker.storage.mounts` returns them
    :param image_healthcheck: whether the engine runs the image's health check
    :raises ImageUnacceptable: if :func:`properties.command` does
    """
    bridge = network_mode == "bridge"
    # These replace variables of the same names in the image. All that the OCI runtime
    # reads are always set, so that an image cannot set them.
    env = [
        f"{_NETNS}={naming.name_of(instance.uuid)}",
        f"{_ENGINE_NETWORK}={int(bridge)}",
        VOLUMES_IN_ROOT,
        f"{_ISOLATION}={level}",
        f"{_INIT}={inits.SYSTEMD if init == inits.SYSTEMD else ''}",
        f"{_READ_ONLY}={int(read_only)}",
        # gVisor has a /proc of its own.
        f"{_LXCFS}={'' if level == isolation.GVISOR else lxcfs}",
        _PRODUCT,
    ]
    body: dict[str, Any] = {
        "Image": image,
        "Hostname": _hostname(instance),
        "Env": env,
        "Labels": {
            **naming.labels(instance),
            isolation.LABEL: level,
            inits.LABEL: init,
            volume_mode.LABEL: mode,
        },
        # Without a terminal, a shell would reach the end of its input and exit.
        "Tty": True,
        "OpenStdin": True,
        "HostConfig": {
            **limits,
            **isolation.container(level, instance.flavor),
            "Runtime": runtime,
            **inits.host_config(init),
            "NetworkMode": "bridge" if bridge else "none",
            "Dns": list(nameservers),
            "ExtraHosts": [
                f"{name}:{address}"
                for name in dict.fromkeys([instance.hostname, _hostname(instance)])
                if name and address
            ],
            # Nova decides what to do after a crash, and after a reboot of the host.
            "RestartPolicy": {"Name": "no"},
            "LogConfig": _log(log_size_mb),
            "Mounts": list(mounts),
        },
    }
    body |= inits.container(init)
    if not image_healthcheck:
        body["Healthcheck"] = {"Test": ["NONE"]}
    if words := properties.command(image_meta):
        body["Cmd"] = words
    return body


def _hostname(instance: objects.Instance) -> str:
    """Return a server's name in a form that the kernel accepts.

    Nova's name may be qualified and 255 characters long; the kernel's limit is 64.
    """
    name: str = instance.hostname or ""
    if len(name) > _MAX_HOSTNAME:
        name = name.partition(".")[0][:_MAX_HOSTNAME]
    return name


def _log(size_mb: int) -> dict[str, Any]:
    return {
        # json-file would replace bytes that are not UTF-8.
        "Type": "local",
        # Two halves: the older one is dropped when the newer one is full.
        "Config": {
            "max-size": f"{size_mb * 512}k",
            "max-file": "2",
            "compress": "false",
        },
    }
