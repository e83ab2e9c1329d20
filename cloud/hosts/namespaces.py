# SPDX-License-Identifier: Apache-2.0
"""The network and the mount namespace of a host."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import shutil
import signal

from cloud import cgroup
from cloud import commands
from cloud import settings
from cloud.hosts import networks
from cloud.hosts.host import Host
from cloud.probes import wait_until

_ROOT = ("root", "root", 0o700)
_ROOT_THROUGH = ("root", "root", 0o711)
_NOVA = (settings.USER, settings.USER, 0o700)

# User, group and mode of the directories below Host.data and Host.run. The module
# cloud.directories has those of the first host.
_DATA = {
    "docker": ("root", "root", 0o710),
    "containerd": _ROOT_THROUGH,
    "nova": _NOVA,
}
_RUN = {
    "docker": _ROOT_THROUGH,
    "containerd": _ROOT_THROUGH,
    "ovs": ("root", settings.USER, 0o2750),
    "ovn": _ROOT,
    "netns": ("root", "root", 0o755),
    "nova-docker": _ROOT_THROUGH,
    "metadata": _NOVA,
    "locks": _NOVA,
    "cgroup": _ROOT,
}

# Directories of the machine in whose place a host has its own: network namespaces of
# servers, and what the driver keeps about them.
_OWN = ("netns", "nova-docker")


def make(host: Host) -> None:
    """Make the namespaces and the directories of a host, unless they exist."""
    _make_directories(host)
    if not pathlib.Path("/run/netns", host.netns).exists():
        commands.run("ip", "netns", "add", host.netns)
    networks.connect(host)
    if not _is_mounted(host.mounts):
        _keep_private(host.mounts.parent)
        host.mounts.touch()
        commands.run(
            *("nsenter", f"--net=/run/netns/{host.netns}"),
            *("unshare", f"--mount={host.mounts}", "--propagation=slave"),
            *("sh", "-ec", _mounts(host)),
        )


def processes(host: Host) -> set[int]:
    """Return the IDs of the processes that run in a host's namespaces.

    Servers have network namespaces of their own, and their first process has a mount
    namespace of its own: they are in the host's control group.
    """
    found = cgroup.processes(host.cgroup)
    for kind, path in (
        ("net", pathlib.Path("/run/netns", host.netns)),
        ("mnt", host.mounts),
    ):
        with contextlib.suppress(OSError):
            wanted = path.stat()
            for process in pathlib.Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if os.path.samestat((process / "ns" / kind).stat(), wanted):
                        found.add(int(process.name))
    return found


def signal_all(host: Host, number: signal.Signals) -> None:
    """Send a signal to all processes of a host."""
    for pid in processes(host):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def remove(host: Host) -> None:
    """Kill what runs in a host's namespaces, and remove them."""

    def killed() -> bool:
        signal_all(host, signal.SIGKILL)
        cgroup.thaw(host.cgroup)
        return not processes(host)

    wait_until(killed, f"processes of {host.name} survive SIGKILL", timeout=30)
    if _is_mounted(host.mounts):
        commands.run("umount", host.mounts)
        host.mounts.unlink()
    if pathlib.Path("/run/netns", host.netns).exists():
        commands.run("ip", "netns", "delete", host.netns)


def _make_directories(host: Host) -> None:
    for top in host.data.parent, host.run.parent, host.data, host.run:
        top.mkdir(exist_ok=True)
        top.chmod(0o711)
    for top, wanted in (host.data, _DATA), (host.run, _RUN):
        for name, (user, group, mode) in wanted.items():
            path = top / name
            path.mkdir(mode=0o700, exist_ok=True)
            shutil.chown(path, user, group)
            path.chmod(mode)


def _mounts(host: Host) -> str:
    """Return the commands that a host's mount namespace begins with.

    /sys shows the network devices of the namespace of whoever has mounted it. The
    control groups below it stay those of the machine.
    """
    groups = shlex.quote(f"{host.run}/cgroup")
    lines = [
        f"mount --rbind /sys/fs/cgroup {groups}",
        "mount -t sysfs sysfs /sys",
        f"mount --rbind {groups} /sys/fs/cgroup",
    ]
    for name in _OWN:
        own = shlex.quote(f"{host.run}/{name}")
        lines += [f"mkdir -p /run/{name}", f"mount --bind {own} /run/{name}"]
        # The engine's mount namespaces must see what the driver mounts there.
        lines.append(f"mount --make-shared /run/{name}")
    return "\n".join(lines)


def _keep_private(directory: pathlib.Path) -> None:
    """Make a directory a private mount, as mount namespaces must be kept on one."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if not _is_mounted(directory):
        commands.run("mount", "--bind", directory, directory)
        commands.run("mount", "--make-private", directory)


def _is_mounted(path: pathlib.Path) -> bool:
    mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return str(path) in (line.split()[4] for line in mounts)
