# SPDX-License-Identifier: Apache-2.0
"""How a host is added and removed, loses its power and gets it back."""

from __future__ import annotations

import shutil
import signal

from cloud import commands
from cloud import databases
from cloud import engine
from cloud import ovn
from cloud import settings
from cloud import supervisor
from cloud.cinder_loop import devices
from cloud.errors import QuickstartError
from cloud.hosts import host as hosts
from cloud.hosts import namespaces
from cloud.hosts import networks
from cloud.hosts import processes
from cloud.hosts.host import Host

# Characters of the state directory's name. The longest socket below it is the engine's
# run/hosts/N/docker/exec/libnetwork/<12 digits>.sock, and the kernel accepts 107 bytes.
_LONGEST = 54


def check(wanted: int) -> None:
    """Refuse a number of hosts that this machine cannot have.

    :raises QuickstartError: if so
    """
    if not 1 <= wanted <= hosts.MOST:
        raise QuickstartError(f"a cloud has 1 to {hosts.MOST} hosts, not {wanted}")
    if wanted > 1:
        if len(str(settings.STATE)) > _LONGEST:
            raise QuickstartError(
                f"the name of {settings.STATE} is too long for a cloud with several "
                f"hosts; use at most {_LONGEST} characters in NOVA_DOCKER_CLOUD_DIR"
            )
        engine.choose()
        if engine.is_foreign():
            raise QuickstartError(
                f"the cloud uses the Docker engine at {engine.socket()}, which the "
                "quickstart did not start, and can have one host only; to have more, "
                "run ./quickstart down --purge, stop that engine and start again"
            )


def start(host: Host) -> None:
    """Start what a host needs, and wait until it accepts servers.

    The first host must be on the networks of the hosts.
    """
    by_name = {each.name: each for each in processes.services_of(host)}

    def start_services(*names: str) -> None:
        for name in names:
            supervisor.start(by_name[host.service(name)])

    namespaces.make(host)
    start_services("ovsdb-server", "ovs-vswitchd")
    networks.add_tunnels(host)
    start_services("sshd", "ovn-controller", *processes.ENGINE, *processes.OPENSTACK)
    commands.run_python("cloud.resources.host", "wait", host.name)
    # Nova's scheduler would do it a moment later.
    databases.map_hosts()


def stop(host: Host) -> None:
    """Stop the servers and the services of a host, and remove its namespaces."""
    own = processes.services_of(host)
    running = {
        each["name"]
        for each in supervisor.states()
        if each["statename"] in supervisor.UP
    }
    names = [service.name for service in own if service.name in running]
    supervisor.stop(*(name for name in names if name == host.service("nova-compute")))
    engine.stop_all(host.engine)
    supervisor.stop(*names)
    namespaces.remove(host)


def kill(host: Host) -> None:
    """Cut the power of a host: its processes end at once, and clean up nothing."""
    # No process may see others end, and supervisord must not start one again.
    namespaces.signal_all(host, signal.SIGSTOP)
    names = [service.name for service in processes.services_of(host)]
    supervisor.request_stop(*names)
    namespaces.remove(host)
    supervisor.stop(*names)
    host.turn(on=False)
    _detach(host)
    shutil.rmtree(host.run, ignore_errors=True)


def power(host: Host) -> None:
    """Give a host its power back."""
    host.turn(on=True)
    # `up` leaves them out if no host has power.
    networks.make()
    start(host)


def forget(host: Host) -> None:
    """Remove a host that has no servers.

    :raises QuickstartError: if it has one
    """
    commands.run_python("cloud.resources.host", "retire", host.name)
    stop(host)
    commands.run_python("cloud.resources.host", "forget", host.name)
    databases.forget_services(host.name)
    ovn.remove_chassis(host.name)
    _detach(host)
    for directory in host.data, host.run, host.etc:
        shutil.rmtree(directory, ignore_errors=True)
    # The next host of this number has power.
    host.turn(on=True)


def _detach(host: Host) -> None:
    """Detach the loop devices of a host's own disks."""
    for device, file in devices.all_devices():
        if file.is_relative_to(host.data.resolve()):
            commands.run("losetup", "--detach", device, check=False)
