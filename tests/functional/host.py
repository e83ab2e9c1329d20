# SPDX-License-Identifier: Apache-2.0
"""A host for the driver without OpenStack, and helpers for the tests on it.

The configuration is for a private engine and a private switch; Glance has a stand-in.
"""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.network import model
from os_brick.privileged import default as os_brick_privileged
from oslo_concurrency import lockutils
from vif_plug_ovs import ovs as vif_plug_ovs
from vif_plug_ovs import privsep as vif_plug_privsep

from nova_docker.container import naming
from nova_docker.driver import DockerDriver
from nova_docker.privsep import devices_admin
from nova_docker.privsep import filesystems_admin
from nova_docker.privsep import layers_admin
from nova_docker.privsep import netns_admin
from nova_docker.privsep import shares_admin
from nova_docker.privsep import userns_admin
from tests.engine import Engine
from tests.functional import ovs

CONF = nova_conf.CONF

TIMEOUT = 20  # seconds


class Glance:
    """A stand-in for ``nova.image.glance.API``: one archive per image."""

    def __init__(self) -> None:
        self.archives: dict[str, bytes] = {}
        self.downloads: list[str] = []
        self.uploads: dict[str, dict[str, Any]] = {}

    def get(self, context: Any, image_id: str) -> dict[str, Any]:
        return {"id": image_id}

    def download(
        self, context: Any, image_id: str, data: Any, trusted_certs: Any = None
    ) -> None:
        self.downloads.append(image_id)
        archive = self.archives[image_id]
        for start in range(0, len(archive), 65536):
            data.write(archive[start : start + 65536])

    def update(
        self, context: Any, image_id: str, image_info: Any, data: Any, purge_props: bool
    ) -> None:
        self.archives[image_id] = b"".join(iter(lambda: data.read(65536), b""))
        self.uploads[image_id] = image_info


@dataclasses.dataclass
class Server:
    """A server that a test has booted."""

    instance: objects.Instance
    network_info: model.NetworkInfo
    engine: Engine

    @property
    def name(self) -> str:
        return naming.name_of(self.instance.uuid)

    def run(self, script: str) -> str:
        """Run a shell script in the server and return its output."""
        command = ["docker", "--host", self.engine.host, "exec", self.name]
        return subprocess.run(
            [*command, "sh", "-c", script],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout

    def inspect(self) -> dict[str, Any]:
        return self.engine.client.inspect_container(self.name)

    @property
    def pid(self) -> int:
        """Of its first process, on the host."""
        return int(self.inspect()["State"]["Pid"])

    def as_root(self, *command: object, **more: Any) -> str:
        """Run a program of the host as root in the server's user and network namespace.

        It has all capabilities there, more than root in a server. It sees the host's
        files and processes, as if it had got out of the server's other namespaces.

        :param more: arguments of subprocess.run
        :returns: its output
        """
        enter = ["nsenter", f"--target={self.pid}", "--user", "--net"]
        return subprocess.run(
            [*enter, "--setuid=0", "--setgid=0", *map(str, command)],
            capture_output=True,
            text=True,
            timeout=30,
            **{"check": True} | more,
        ).stdout


def state(driver: DockerDriver, server: Server) -> int:
    """Return the power state of a server."""
    return driver.get_info(server.instance).state


def eventually(condition: Callable[[], Any]) -> Any:
    """Wait until a condition is true, and return whether it is.

    It counts as false if the server has stopped.
    """
    deadline = time.monotonic() + TIMEOUT
    try:
        while not (met := condition()) and time.monotonic() < deadline:
            time.sleep(0.02)
    except subprocess.CalledProcessError:
        return False
    return met


def without_openstack(monkeypatch: pytest.MonkeyPatch, glance: Glance) -> None:
    """Replace Nova's database and image API."""
    monkeypatch.setattr("nova.image.glance.API", lambda: glance)
    for kind in "BlockDeviceMapping", "ShareMapping", "VirtualInterface":
        monkeypatch.setattr(
            f"nova.objects.{kind}List.get_by_instance_uuid", lambda *args: []
        )
    monkeypatch.setattr("nova.objects.Instance.save", lambda instance: None)

    def no_instance(*args: Any, **more: Any) -> None:
        raise exception.InstanceNotFound(instance_id=args[-1])

    monkeypatch.setattr("nova.objects.Instance.get_by_uuid", no_instance)


def configure(engine: Engine, switch: ovs.OpenVSwitch, state: pathlib.Path) -> None:
    """Set the options that nova.conf would have."""
    CONF([], project="nova", default_config_files=[])
    lockutils.set_defaults(str(state))
    CONF.set_override("state_path", str(state))
    CONF.set_override("host", "test-host")
    CONF.set_override("host", engine.host, "docker")
    CONF.set_override("ovs_bridge", ovs.BRIDGE, "neutron")
    # os-vif registers these only when it loads its plugins.
    CONF.register_opts(vif_plug_ovs.OvsPlugin.CONFIG_OPTS, "os_vif_ovs")
    CONF.set_override("ovsdb_connection", switch.connection, "os_vif_ovs")
    # The tests run as root and need no privsep daemon; tests/cloud has one.
    for context in (
        devices_admin,
        filesystems_admin,
        layers_admin,
        netns_admin,
        shares_admin,
        userns_admin,
    ):
        context.set_client_mode(False)
    vif_plug_privsep.vif_plug.set_client_mode(False)
    os_brick_privileged.set_client_mode(False)
