# SPDX-License-Identifier: Apache-2.0
"""Taking the cloud down: removing what it created, and nothing else."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterable

from cloud import cgroup
from cloud import commands
from cloud import databases
from cloud import engine
from cloud import firewall
from cloud import images
from cloud import kernel_limits
from cloud import open_vswitch
from cloud import ovn
from cloud import settings
from cloud import supervisor
from cloud import volumes
from cloud.errors import QuickstartError
from cloud.hosts import host as hosts
from cloud.hosts import namespaces
from cloud.hosts import networks
from cloud.install import debian_packages
from cloud.install import service_user
from cloud.services import CREATORS
from cloud.services import services
from cloud.state import state
from cloud.supervisor import UP


def down(*, purge: bool) -> None:
    """Stop the cloud, whether it is up, down, or half up.

    :param purge: also remove its data, its user and its sudoers file
    """
    debian_packages.restore_policy()
    if supervisor.running():
        _stop_services()
        supervisor.shutdown()
    cgroup.kill()
    _remove_namespaces(f"nova-{uuid}" for uuid in engine.servers_on_disk())
    _remove_namespaces(ovn.metadata_namespaces())
    for host in hosts.others():
        namespaces.remove(host)
    networks.remove()
    _unmount()
    volumes.detach_devices()
    for link in (settings.ENGINE_BRIDGE, *open_vswitch.INTERFACES):
        open_vswitch.remove_interface(link)
    firewall.remove()
    kernel_limits.restore()
    cgroup.remove()
    shutil.rmtree(settings.RUN, ignore_errors=True)
    if purge:
        _purge()


def _stop_services() -> None:
    """Stop the services in the order of their priorities.

    Services that create interfaces and containers stop before these are removed, and
    the engine and the switch stop after that.
    """
    states = {each["name"]: each["statename"] for each in supervisor.states()}
    running = [service for service in services() if states.get(service.name) in UP]
    names = [service.name for service in running]

    def stop(priorities: Iterable[int]) -> None:
        for priority in sorted(priorities, reverse=True):
            supervisor.stop(*(s.name for s in running if s.priority == priority))

    priorities = {service.priority for service in running}
    creators = {priority for priority in priorities if priority >= CREATORS}
    stop(creators)
    if "mariadb" in names:
        _record_resources()
    _stop_servers()
    if "ovs-vswitchd" in names:
        open_vswitch.FIRST.remove_bridges()
    stop(priorities - creators)


def _record_resources() -> None:
    """Record which servers and images belong to this cloud, from its database."""
    # There are no tables yet if `up` failed before it created them.
    with contextlib.suppress(QuickstartError):
        state.set("servers", databases.instances())
        state.set("images", databases.images())


def _stop_servers() -> None:
    """Stop the servers, and remove their network namespaces.

    On an engine that the quickstart started, all servers belong to this cloud. On
    another engine, only those in this cloud's database do.
    """
    known = set(state.get("servers", []))
    containers = {}
    if engine.answers(engine.socket()):
        containers = engine.servers()
    if engine.is_foreign():
        containers = {u: c for u, c in containers.items() if u in known}
    engine.stop(list(containers.values()))
    for host in hosts.others():
        engine.stop_all(host.engine)
    _remove_namespaces(f"nova-{uuid}" for uuid in {*containers, *known})


def _remove_namespaces(names: Iterable[str]) -> None:
    """Remove network namespaces with the NICs in them, and user namespaces."""
    for name in names:
        if pathlib.Path("/run/netns", name).exists():
            commands.run("ip", "netns", "delete", name, check=False)
        pin = pathlib.Path("/run/nova-docker/userns", name)
        if pin.exists():
            commands.run("umount", "--lazy", pin, check=False)
            pin.unlink()
        pathlib.Path("/run/nova-docker/owners", name).unlink(missing_ok=True)
        # Another volume may get the number of a device that is detached.
        shutil.rmtree(f"/run/nova-docker/devices/{name}", ignore_errors=True)
        unmount_volumes(name)


def unmount_volumes(name: str) -> None:
    """Unmount the volumes of a server that does not run any more.

    :param name: of its container
    """
    directory = f"/run/nova-docker/filesystems/{name}"
    points = [p for p in _mount_points() if p.startswith(f"{directory}/")]
    for point in points:
        commands.run("umount", point, check=False)
    for path in *points, directory:
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _unmount() -> None:
    """Unmount everything below the state directory, innermost mounts first."""
    for point in reversed(_mount_points()):
        if point.startswith(f"{settings.STATE}/"):
            commands.run("umount", "--lazy", point, check=False)


def _mount_points() -> list[str]:
    mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in mounts]


def _purge() -> None:
    """Remove what outlives the processes: images, the user, and the data."""
    if engine.is_foreign():
        for server in state.get("servers", []):
            engine.remove(f"nova-{server}")
        for image_id in state.get("images", []):
            engine.remove_image(f"nova-glance/{image_id}:latest")
        for name in (*images.NAMES, images.SYSTEMD):
            engine.remove_image(name)
    service_user.remove_user()
    if state.get("made_netns_directory"):
        _remove_netns_directory()
    shutil.rmtree(settings.STATE)


def _remove_netns_directory() -> None:
    """Remove /run/netns, on which ``ip netns`` has mounted a file system."""
    directory = pathlib.Path("/run/netns")
    if str(directory) in _mount_points() and not any(directory.iterdir()):
        commands.run("umount", directory, check=False)
        with contextlib.suppress(OSError):
            directory.rmdir()
