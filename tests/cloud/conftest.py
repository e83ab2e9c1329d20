# SPDX-License-Identifier: Apache-2.0
"""Servers of a real OpenStack, used through its APIs as users of a project do."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
import websocket
from openstack import exceptions
from oslo_utils import uuidutils
from ovsdbapp.backend.ovs_idl import connection as ovsdb
from ovsdbapp.schema.open_vswitch import impl_idl
from pyroute2 import netns

from cloud import images
from cloud import open_vswitch
from cloud.cinder_loop import devices
from cloud.settings import VOLUMES
from docker_engine.client import DockerClient
from nova_docker.privsep import netns_admin
from nova_docker.privsep import network
from nova_docker.privsep import userns_admin
from tests.cloud import cloud

SECONDS = 60  # of silence that a console may take
TIMEOUT = 120  # seconds; most waits end within a few
OVSDB = f"unix:{open_vswitch.FIRST.socket}"


def eventually(
    condition: Callable[[], Any], timeout: float = TIMEOUT, interval: float = 0.2
) -> Any:
    """Wait until a condition is true, and return its value, true or not."""
    deadline = time.monotonic() + timeout
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(interval)
    return found


def opens(address: str, port: int) -> bool:
    """Return whether a TCP connection can be made."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), 2):
        return True
    return False


@dataclasses.dataclass
class Server:
    """A server, seen by its user and from its host.

    :ivar user: the connection of its owner
    """

    id: str
    user: Any

    def show(self) -> Any:
        return self.user.compute.get_server(self.id)

    @property
    def status(self) -> str:
        return self.show().status

    def address(self, network: str = "private", version: int = 4) -> str:
        return next(
            found["addr"]
            for found in self.show().addresses[network]
            if found["version"] == version and found["OS-EXT-IPS:type"] == "fixed"
        )

    def port(self, network: str | None = None) -> Any:
        return next(
            port
            for port in self.user.network.ports(device_id=self.id)
            if network is None or port.network_id == network
        )

    def port_of(self, nic: str) -> Any:
        mac = self.run(f"cat /sys/class/net/{nic}/address").strip()
        return next(
            port
            for port in self.user.network.ports(device_id=self.id)
            if port.mac_address == mac
        )

    def console(self, lines: int | None = None) -> str:
        return self.user.compute.get_server_console_output(self.id, lines)["output"]

    def act(self, action: str, *arguments: Any, until: str) -> None:
        """Call an action of the compute API, and wait for the status ``until``."""
        getattr(self.user.compute, action)(self.id, *arguments)
        eventually(lambda: self.show().task_state is None and self.status == until)
        assert self.status == until

    def run(self, script: str, *, check: bool = True) -> str:
        """Run a shell script in the server with docker exec, and return its output."""
        return subprocess.run(
            ["docker", "exec", f"nova-{self.id}", "sh", "-c", script],
            env=os.environ | cloud.environment(),
            check=check,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout


@dataclasses.dataclass
class Volume:
    """A volume, seen by its user and from the host of its data."""

    id: str
    user: Any

    def show(self) -> Any:
        return self.user.block_storage.get_volume(self.id)

    @property
    def status(self) -> str:
        return self.show().status

    def until(self, *statuses: str) -> None:
        eventually(lambda: self.status in (*statuses, "error"))
        assert self.status in statuses

    @property
    def file(self) -> pathlib.Path:
        return VOLUMES / "files" / f"volume-{self.id}"

    @property
    def link(self) -> pathlib.Path:
        """The link to its device, while it has one."""
        return VOLUMES / "devices" / f"volume-{self.id}"


class OpenStackClient:
    """Calls openstackclient as demo."""

    def __init__(self, at_end: contextlib.ExitStack) -> None:
        self._at_end = at_end

    def __call__(self, command: str, *more: str) -> Any:
        """Run a command; return its output, parsed if it is JSON.

        :param more: words that may contain spaces
        """
        shell = 'eval "$("$0" env demo)" && exec openstack "$@"'
        done = subprocess.run(
            ["bash", "-c", shell, str(cloud.QUICKSTART), *command.split(), *more],
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(done.stdout)
        return done.stdout

    def later(self, command: str, *more: str) -> None:
        """Run a command when the test ends."""
        self._at_end.callback(self, command, *more)


@pytest.fixture(scope="session", autouse=True)
def the_cloud() -> None:
    cloud.up()


@pytest.fixture(scope="session")
def admin(the_cloud: None) -> Any:
    return cloud.connect("admin")


@pytest.fixture(scope="session")
def demo(the_cloud: None) -> Any:
    return cloud.connect("demo")


@pytest.fixture
def openstack(nothing_is_left: None) -> Iterator[OpenStackClient]:
    with contextlib.ExitStack() as at_end:
        yield OpenStackClient(at_end)


@pytest.fixture(scope="session")
def engine(the_cloud: None) -> DockerClient:
    """The cloud's engine, which replaces the private one of other tests."""
    return DockerClient(cloud.environment()["DOCKER_HOST"])


@pytest.fixture(scope="session")
def switch(the_cloud: None) -> Any:
    schema = ovsdb.OvsdbIdl.from_server(OVSDB, "Open_vSwitch")
    return impl_idl.OvsdbIdl(ovsdb.Connection(schema, timeout=20))


@pytest.fixture(autouse=True)
def nothing_is_left(engine: DockerClient, switch: Any, demo: Any) -> Iterator[None]:
    """Fails a test that leaves a container, namespace, port, server or volume behind.

    A veth exists as long as its namespace. Only this cloud's engine and switch count:
    the host may have others.
    """

    # The tests run as root and need no privsep daemon.
    for context in (netns_admin, userns_admin):
        context.set_client_mode(False)
    directory = engine.info()["DockerRootDir"]

    def present() -> dict[str, set[str]]:
        return {
            "containers": {c["Names"][0] for c in engine.list_containers()},
            "namespaces": {
                name
                for name in netns.listnetns()
                if directory in (network.describe(name)[0] or "")
            },
            "ports": set(switch.list_ports("br-int").execute(check_error=True)),
            "servers": {server.id for server in demo.compute.servers()},
            "volumes": {
                path.name
                for kind in ("files", "devices")
                for path in (VOLUMES / kind).iterdir()
            },
            "loop devices": {
                str(file)
                for _, file in devices.all_devices()
                if file.is_relative_to(VOLUMES)
            },
        }

    before = present()
    yield
    # OVN removes the patch port of a deleted network a moment later.
    eventually(lambda: present() == before, timeout=10)
    assert present() == before


@pytest.fixture
def boot(demo: Any, nothing_is_left: None) -> Iterator[Callable[..., Server]]:
    """Boots a server, and deletes it when the test ends.

    It waits for the status ``until``; None does not wait. ``existing`` is the ID of a
    server that the test has created itself.
    """
    servers = []

    def create(
        image: str | None = images.BUSYBOX,
        *,
        name: str = "test",
        flavor: str = "docker.tiny",
        networks: Any = None,
        until: str | None = "ACTIVE",
        existing: str | None = None,
        **values: Any,
    ) -> Server:
        if existing is None:
            if networks is None:
                networks = [{"uuid": demo.network.find_network("private").id}]
            existing = demo.compute.create_server(
                name=name,
                image_id=image
                and demo.image.find_image(image, ignore_missing=False).id,
                flavor_id=demo.compute.find_flavor(flavor, ignore_missing=False).id,
                networks=networks,
                **values,
            ).id
        server = Server(existing, demo)
        servers.append(server)
        if until:
            eventually(lambda: server.status in (until, "ERROR"))
            assert server.status == until, server.show().fault
        return server

    yield create
    for server in servers:
        demo.compute.delete_server(server.id)
    for server in servers:
        with contextlib.suppress(exceptions.NotFoundException):
            demo.compute.wait_for_delete(server.show(), interval=0.2, wait=TIMEOUT)


@pytest.fixture
def volume(demo: Any, nothing_is_left: None) -> Iterator[Callable[..., Volume]]:
    """Creates a volume, and deletes it and its snapshots when the test ends.

    Tests name it before ``boot``, so that servers are deleted first.
    """
    api = demo.block_storage
    created = []

    def create(size: int = 1, **values: Any) -> Volume:
        found = Volume(api.create_volume(size=size, **values).id, demo)
        created.append(found)
        found.until("available")
        return found

    yield create
    for each in reversed(created):
        for snapshot in api.snapshots(volume_id=each.id):
            api.delete_snapshot(snapshot)
            api.wait_for_delete(snapshot, interval=0.2, wait=TIMEOUT)
        with contextlib.suppress(exceptions.NotFoundException):
            # Cinder may not know yet that its server is deleted.
            each.until("available", "error")
            api.delete_volume(each.id)
            api.wait_for_delete(each.show(), interval=0.2, wait=TIMEOUT)


@pytest.fixture
def floating_ip(demo: Any) -> Iterator[Callable[[Server], str]]:
    """Gives a server a floating IP, and deletes it when the test ends."""
    created = []

    def associate(server: Server) -> str:
        public = demo.network.find_network("public")
        address = demo.network.create_ip(
            floating_network_id=public.id, port_id=server.port().id
        )
        created.append(address)
        return address.floating_ip_address

    yield associate
    for address in created:
        demo.network.delete_ip(address)


@pytest.fixture
def upload(demo: Any) -> Iterator[Callable[..., str]]:
    """Uploads an image as the user, and returns its name."""
    created = []

    def create(content: bytes, **values: Any) -> str:
        name = f"test-{uuidutils.generate_uuid()}"
        image = demo.image.create_image(
            name,
            data=content,
            **{"container_format": "docker", "disk_format": "raw"} | values,
        )
        created.append(image)
        return name

    yield create
    for image in created:
        demo.image.delete_image(image)


@pytest.fixture
def flavor(admin: Any) -> Iterator[Callable[..., str]]:
    """Creates a flavor like docker.tiny, and returns its name."""
    created = []

    def create(extra_specs: dict[str, str] | None = None, **values: Any) -> str:
        found = admin.compute.create_flavor(
            name=f"test-{uuidutils.generate_uuid()}",
            **{"vcpus": 1, "ram": 64, "disk": 1} | values,
        )
        created.append(found)
        if extra_specs:
            admin.compute.create_flavor_extra_specs(found, extra_specs)
        return found.name

    yield create
    for found in created:
        admin.compute.delete_flavor(found)


@pytest.fixture
def url_of(demo: Any) -> Callable[[Server], str]:
    """Returns the URL of a server's console, which Nova gives to the user."""

    def get(server: Server) -> str:
        answer = demo.compute.post(
            f"/servers/{server.id}/remote-consoles",
            json={"remote_console": {"protocol": "serial", "type": "serial"}},
            microversion="2.8",
        )
        answer.raise_for_status()
        return answer.json()["remote_console"]["url"]

    return get


@pytest.fixture
def view(url_of: Callable[[Server], str]) -> Iterator[Callable[[Server], Any]]:
    """Opens a server's console in a websocket client."""
    with contextlib.ExitStack() as viewers:

        def connect(server: Server) -> Any:
            return viewers.enter_context(
                contextlib.closing(
                    websocket.create_connection(
                        url_of(server), timeout=SECONDS, subprotocols=["binary"]
                    )
                )
            )

        yield connect


def shown(viewer: Any, expected: bytes) -> bytes:
    """Return what a viewer sees up to ``expected``."""
    seen = b""
    while expected not in seen:
        frame = viewer.recv()
        assert frame, seen
        seen += frame
    return seen
