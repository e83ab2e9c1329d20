# SPDX-License-Identifier: Apache-2.0
"""Taking the cloud down: everything that it made, and nothing else."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterable

from cloud import cgroup
from cloud import commands
from cloud import databases
from cloud import engine
from cloud import images
from cloud import open_vswitch
from cloud import packages
from cloud import settings
from cloud import supervisor
from cloud.services import MAKERS
from cloud.services import services
from cloud.settings import memory
from cloud.supervisor import UP


def down(*, purge: bool) -> None:
    """Stop the cloud; safe to call when it is down, or half up.

    :param purge: remove its data, user and sudoers file too
    """
    packages.restore_policy()
    if supervisor.running():
        _stop_services()
        supervisor.shutdown()
    cgroup.kill()
    _remove_namespaces(f"nova-{uuid}" for uuid in engine.servers_on_disk())
    _remove_namespaces(open_vswitch.metadata_namespaces())
    _unmount()
    for link in (settings.ENGINE_BRIDGE, *open_vswitch.INTERFACES):
        open_vswitch.remove_interface(link)
    cgroup.remove()
    shutil.rmtree(settings.RUN, ignore_errors=True)
    if purge:
        _purge()


def _stop_services() -> None:
    """Stop tier after tier, those that make things before what they make."""
    states = {state["name"]: state["statename"] for state in supervisor.states()}
    running = [service for service in services() if states.get(service.name) in UP]
    names = [service.name for service in running]

    def stop(priorities: Iterable[int]) -> None:
        for priority in sorted(priorities, reverse=True):
            supervisor.stop(*(s.name for s in running if s.priority == priority))

    priorities = {service.priority for service in running}
    makers = {priority for priority in priorities if priority >= MAKERS}
    stop(makers)
    if "mariadb" in names:
        _note_contents()
    _stop_servers()
    if "ovs-vswitchd" in names:
        open_vswitch.remove_bridges()
    stop(priorities - makers)


def _note_contents() -> None:
    """Note which servers and images are this cloud's, while its database runs."""
    # It has no tables yet when `up` did not get that far.
    with contextlib.suppress(commands.Failed):
        memory.set("servers", databases.instances())
        memory.set("images", databases.images())


def _stop_servers() -> None:
    """Stop the servers, and remove their network namespaces.

    In the cloud's own engine every server is this cloud's. In one that was
    there before, those are that this cloud's Nova knows.
    """
    known = set(memory.get("servers", []))
    containers = {}
    if engine.answers(engine.socket()):
        containers = engine.servers()
    if engine.is_foreign():
        containers = {u: c for u, c in containers.items() if u in known}
    engine.stop(list(containers.values()))
    _remove_namespaces(f"nova-{uuid}" for uuid in {*containers, *known})


def _remove_namespaces(names: Iterable[str]) -> None:
    """Remove network namespaces, and their NICs with them."""
    for name in names:
        if pathlib.Path("/run/netns", name).exists():
            commands.run("ip", "netns", "delete", name, check=False)


def _unmount() -> None:
    """Unmount what is mounted below the state directory, inmost first."""
    for point in reversed(_mount_points()):
        if point.startswith(f"{settings.STATE}/"):
            commands.run("umount", "--lazy", point, check=False)


def _mount_points() -> list[str]:
    mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in mounts]


def _purge() -> None:
    if engine.is_foreign():
        for server in memory.get("servers", []):
            engine.remove(f"nova-{server}")
        for image_id in memory.get("images", []):
            engine.remove_image(f"nova-glance/{image_id}:latest")
        for name in images.NAMES:
            engine.remove_image(name)
    settings.SUDOERS.unlink(missing_ok=True)
    if memory.get("made_user"):
        commands.run("userdel", settings.USER, check=False)
    elif memory.get("made_group_member"):
        commands.run("gpasswd", "--delete", settings.USER, "docker", check=False)
    if memory.get("made_netns_directory"):
        _remove_netns_directory()
    shutil.rmtree(settings.STATE)


def _remove_netns_directory() -> None:
    """Remove /run/netns with the mount that ``ip netns`` puts over it."""
    directory = pathlib.Path("/run/netns")
    if str(directory) in _mount_points() and not any(directory.iterdir()):
        commands.run("umount", directory, check=False)
        with contextlib.suppress(OSError):
            directory.rmdir()
