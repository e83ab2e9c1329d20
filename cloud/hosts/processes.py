# SPDX-License-Identifier: Apache-2.0
"""The services of the hosts: those that the first host has for its servers.

:mod:`cloud.services` lists all services of the first host.
"""

from __future__ import annotations

import dataclasses
import shlex

from cloud import engine
from cloud import probes
from cloud import settings
from cloud import switch_services
from cloud.hosts import host as hosts
from cloud.hosts import networks
from cloud.hosts import ssh
from cloud.hosts.host import Host
from cloud.service import Service
from cloud.service import nova_compute
from cloud.service import worker
from cloud.settings import ETC

#: In the order in which they start
ENGINE = ("containerd", "dockerd")
OPENSTACK = ("neutron-ovn-agent", "nova-compute")


def services() -> list[Service]:
    """Return the services of all hosts, with or without power."""
    found = [service for host in hosts.others() for service in services_of(host)]
    return [ssh.daemon(hosts.Host(1)), *found] if found else []


def services_of(host: Host) -> list[Service]:
    """Return the services of a host, in its namespaces."""
    return [
        ssh.daemon(host),
        *(_inside(host, service) for service in _services(host)),
    ]


def _services(host: Host) -> list[Service]:
    """Return the services of a host that the first one has under the same names."""
    return [
        *_engine(host),
        *_switch(host),
        *_openstack(host),
    ]


def _engine(host: Host) -> list[Service]:
    config = f"hosts/{host.number}/containerd.toml"
    return [
        Service(
            "containerd",
            f"/usr/bin/containerd --config {ETC}/{config}",
            lambda: probes.socket_accepts(host.run / "containerd/containerd.sock"),
            config=(config,),
            priority=10,
        ),
        Service(
            "dockerd",
            # Neutron connects all servers.
            engine.command(host.data, host.run, "none", host.cgroup),
            lambda: engine.answers(host.engine),
            prepare=lambda: (host.run / "docker/docker.pid").unlink(missing_ok=True),
            config=("dockerd.json",),
            priority=20,
        ),
    ]


def _switch(host: Host) -> list[Service]:
    switch = networks.switch_of(host)
    return switch_services.services(switch, lambda: switch.configure(host.tunnel))


def _openstack(host: Host) -> list[Service]:
    agent = ("neutron/ovn-agent.ini", f"hosts/{host.number}/ovn-agent.ini")
    return [
        worker("neutron-ovn-agent", agent),
        nova_compute("nova/nova.conf", f"hosts/{host.number}/nova.conf"),
    ]


def _inside(host: Host, service: Service) -> Service:
    """Return a service of the first host as one of another host."""
    words = [*host.inside]
    if service.user != "root":
        # Only root enters namespaces. The user's groups let it use the engine.
        user = f"--reuid={service.user} --regid={service.user} --init-groups"
        words += ["/usr/bin/setpriv", *user.split()]
    return dataclasses.replace(
        service,
        name=host.service(service.name),
        command=f"{shlex.join(words)} {service.command}",
        user="root",
        env={**service.env, "HOME": str(host.data / "nova")}
        if service.user == settings.USER
        else service.env,
    )
