# SPDX-License-Identifier: Apache-2.0
"""What a server looks like as a container: pure functions, no engine.

Names are the engine's for containers (Engine API, "Create a container") and
Nova's for servers.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from nova import exception
from nova import objects
from nova.compute import power_state
from oslo_utils import units

_PREFIX = "nova-"
_LABEL = "org.openstack.nova."
UUID_LABEL = _LABEL + "uuid"
NAME_LABEL = _LABEL + "name"  # Nova's own, instance-00000001
SERVERS = {"label": [UUID_LABEL]}  # the engine's filter for them
# An image may say what its serial console is: "attach" or "shell".
CONSOLE_LABEL = "org.openstack.nova-docker.console"

# Variables that the OCI runtime reads.
_NETNS = "NOVA_NETNS"
_ENGINE_NETWORK = "NOVA_ENGINE_NETWORK"
_ENVIRONMENT = (_NETNS, _ENGINE_NETWORK)

# By this cloud-init knows where it is, as it cannot tell by the DMI of the host.
_PRODUCT = "product_name=OpenStack Nova"

# What root inside a container may do. Everything else is dropped, from
# Docker's own default set too:
#   AUDIT_WRITE           sshd and login refuse to work without it
#   CHOWN DAC_OVERRIDE FOWNER FSETID  manage the server's own files: package
#                         managers, home directories
#   KILL                  an init stops the services of other users
#   NET_BIND_SERVICE      listen below port 1024 where the sysctl is overridden
#   SETGID SETUID         services that give up root
#   SYS_CHROOT            sshd's and other services' empty jail
# Left out of Docker's defaults: MKNOD (device nodes are how containers have
# been left before), NET_RAW (forged frames; ping works without it), SETFCAP
# and SETPCAP (no use under no-new-privileges).
CAPABILITIES = (
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

_CPU_PERIOD = 100_000  # microseconds: the kernel's own default
_MAX_HOSTNAME = 64
_SHARES_PER_VCPU = 1024
_MAX_SHARES = 262_144  # the kernel refuses more

# First processes at whose terminal one can work.
_SHELLS = ("ash", "bash", "dash", "fish", "ksh", "sh", "zsh")
_LOGINS = ("agetty", "getty", "init", "login", "systemd")

_POWER_STATES = {
    "created": power_state.SHUTDOWN,
    "running": power_state.RUNNING,
    "paused": power_state.PAUSED,
    "restarting": power_state.RUNNING,
    "removing": power_state.SHUTDOWN,
    "exited": power_state.SHUTDOWN,
    "dead": power_state.CRASHED,
}


def name_of(uuid: str) -> str:
    """Name of a server's container, and of its network namespace."""
    return _PREFIX + uuid


def aside_name_of(uuid: str) -> str:
    """Name of a server's container while another runs in its place, in rescue."""
    return name_of(uuid) + "-rescued"


def of_servers(listed: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """One container for each server, by uuid: a server in rescue has two.

    :param listed: servers' containers, as GET /containers/json lists them
    """
    found: dict[str, dict[str, Any]] = {}
    for item in listed:
        uuid = uuid_of(item["Labels"])
        if uuid not in found or f"/{name_of(uuid)}" in item["Names"]:
            found[uuid] = item
    return found


def uuid_of(labels: Mapping[str, str]) -> str:
    """The server's uuid from its container's labels; KeyError if not Nova's."""
    return labels[UUID_LABEL]


def power_state_of(status: str) -> int:
    """Nova's power state for the engine's ``State.Status``."""
    return _POWER_STATES.get(status, power_state.NOSTATE)


def has_interactive_process(found: Mapping[str, Any]) -> bool:
    """Whether one can work at the terminal of a container's first process.

    :param found: what GET /containers/{id}/json answered
    """
    wish = found["Config"]["Labels"].get(CONSOLE_LABEL)
    if wish in ("attach", "shell"):
        return bool(wish == "attach")
    program = found["Path"].rpartition("/")[2]
    # A shell that has a script does what that says.
    options = all(
        word.startswith("--") or (word.startswith("-") and "c" not in word)
        for word in found["Args"]
    )
    return program in _LOGINS or (program in _SHELLS and options)


def labels(instance: objects.Instance) -> dict[str, str]:
    """What an operator finds on the container, for ``docker ps --filter``."""
    return {
        UUID_LABEL: instance.uuid,
        NAME_LABEL: instance.name,
        _LABEL + "display_name": instance.display_name or "",
        _LABEL + "project": instance.project_id or "",
        _LABEL + "image": instance.image_ref or "",
    }


def snapshot_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an image of a server must not have of that server.

    :param config: ``Config`` of the container, as the engine describes it
    :returns: ``config`` of POST /commit, which can empty but not remove
    """
    return {
        "Env": [
            f"{name}="
            for name in _ENVIRONMENT
            if any(item.startswith(f"{name}=") for item in config["Env"])
        ],
        "Labels": {name: "" for name in config["Labels"] if name.startswith(_LABEL)},
    }


def command(image_meta: objects.ImageMeta) -> list[str] | None:
    """The command that the image property ``os_command_line`` asks for.

    :returns: words, split as a shell does; None to run the image's own
    :raises ImageUnacceptable: when a quotation is not closed
    """
    line = image_meta.properties.get("os_command_line")
    if not line:
        return None
    try:
        return shlex.split(line)
    except ValueError as error:
        raise exception.ImageUnacceptable(
            image_id=image_meta.id,
            reason=f"its property os_command_line cannot be split into words: {error}",
        ) from error


def admin_user(image_meta: objects.ImageMeta) -> str:
    """Who keys and passwords are for: image property ``os_admin_user``, or root."""
    return image_meta.properties.get("os_admin_user") or "root"


def limits(flavor: Any, *, pids: int) -> dict[str, Any]:
    """The engine's limits for a flavor, but for that of the disk.

    :param flavor: its ``memory_mb`` and ``swap`` are MiB
    :param pids: processes and threads at most, 0 for no limit
    :returns: a part of HostConfig, and the body of POST /containers/{id}/update
    """
    memory = flavor.memory_mb * units.Mi
    return {
        "Memory": memory,
        # The engine counts memory and swap together.
        "MemorySwap": memory + (flavor.swap or 0) * units.Mi,
        "CpuShares": min(flavor.vcpus * _SHARES_PER_VCPU, _MAX_SHARES),
        "CpuPeriod": _CPU_PERIOD,
        "CpuQuota": flavor.vcpus * _CPU_PERIOD,
        "PidsLimit": pids or -1,
    }


def config(
    instance: objects.Instance,
    image_meta: objects.ImageMeta,
    image: str,
    *,
    nameservers: Sequence[str],
    address: str | None,
    limits: Mapping[str, Any],
    disk_gb: int,
    mounts: Sequence[Mapping[str, Any]] = (),
    runtime: str,
    network_mode: str,
    log_size_mb: int,
) -> dict[str, Any]:
    """The body of POST /containers/create for a server.

    :param image: the engine's id of its image
    :param nameservers: DNS servers; none leaves the engine's default
    :param address: the server's first fixed IP, by which it knows itself
    :param limits: what :func:`limits` returned
    :param disk_gb: size of the root disk, 0 for no limit
    :param mounts: the engine's HostConfig.Mounts
    :raises ImageUnacceptable: as :func:`command` does
    """
    bridge = network_mode == "bridge"
    # They replace what an image may set.
    env = [f"{_NETNS}={name_of(instance.uuid)}", _PRODUCT]
    if bridge:
        env.append(f"{_ENGINE_NETWORK}=1")
    body: dict[str, Any] = {
        "Image": image,
        "Hostname": _hostname(instance),
        "Env": env,
        "Labels": labels(instance),
        # A shell with no terminal would see its input end and exit at once.
        "Tty": True,
        "OpenStdin": True,
        "HostConfig": {
            **limits,
            "Runtime": runtime,
            "NetworkMode": "bridge" if bridge else "none",
            "Dns": list(nameservers),
            "ExtraHosts": [
                f"{name}:{address}"
                for name in dict.fromkeys([instance.hostname, _hostname(instance)])
                if name and address
            ],
            # Nova decides what runs after a crash or a reboot of the host.
            "RestartPolicy": {"Name": "no"},
            "Privileged": False,
            "CapDrop": ["ALL"],
            "CapAdd": list(CAPABILITIES),
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": _log(log_size_mb),
            "Mounts": list(mounts),
        },
    }
    if disk_gb:
        body["HostConfig"]["StorageOpt"] = {"size": f"{disk_gb}G"}
    if words := command(image_meta):
        body["Cmd"] = words
    return body


def _hostname(instance: objects.Instance) -> str:
    """A server's name as the kernel takes it.

    Nova's may be qualified and 255 characters long, the kernel's has 64 at most.
    """
    name: str = instance.hostname or ""
    if len(name) > _MAX_HOSTNAME:
        name = name.partition(".")[0][:_MAX_HOSTNAME]
    return name


def _log(size_mb: int) -> dict[str, Any]:
    return {
        # json-file would replace what is not UTF-8.
        "Type": "local",
        # Two halves: the older one is dropped when the newer is full.
        "Config": {
            "max-size": f"{size_mb * 512}k",
            "max-file": "2",
            "compress": "false",
        },
    }
