# SPDX-License-Identifier: Apache-2.0
"""Servers of a real OpenStack, used through its APIs as a project's user does."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from openstack import exceptions
from oslo_utils import uuidutils
from ovsdbapp.backend.ovs_idl import connection as ovsdb
from ovsdbapp.schema.open_vswitch import impl_idl
from pyroute2 import netns

from cloud import images
from docker_engine.client import DockerClient
from nova_docker.privsep import netns_admin
from nova_docker.privsep import network
from tests.cloud import cloud

TIMEOUT = 120  # seconds, for what takes a few
OVSDB = "tcp:127.0.0.1:6640"


def eventually(
    happens: Callable[[], Any], timeout: float = TIMEOUT, interval: float = 0.2
) -> Any:
    """The first true answer, or the last one when time is up."""
    deadline = time.monotonic() + timeout
    while not (answer := happens()) and time.monotonic() < deadline:
        time.sleep(interval)
    return answer


@dataclasses.dataclass
class Server:
    """A server, as its user and as its host see it."""

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
        """Call an action of the compute API and wait for a status."""
        getattr(self.user.compute, action)(self.id, *arguments)
        eventually(lambda: self.show().task_state is None and self.status == until)
        assert self.status == until

    def run(self, script: str, *, check: bool = True) -> str:
        """The output of a shell script in it, run by the host's administrator."""
        return subprocess.run(
            ["docker", "exec", f"nova-{self.id}", "sh", "-c", script],
            env=os.environ | cloud.environment(),
            check=check,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout


@pytest.fixture(scope="session", autouse=True)
def the_cloud() -> None:
    cloud.up()


@pytest.fixture(scope="session")
def admin(the_cloud: None) -> Any:
    return cloud.connect("admin")


@pytest.fixture(scope="session")
def demo(the_cloud: None) -> Any:
    return cloud.connect("demo")


@pytest.fixture(scope="session")
def engine(the_cloud: None) -> DockerClient:
    """The cloud's engine, in the place of the one that other tests start."""
    return DockerClient(cloud.environment()["DOCKER_HOST"])


@pytest.fixture(scope="session")
def switch(the_cloud: None) -> Any:
    schema = ovsdb.OvsdbIdl.from_server(OVSDB, "Open_vSwitch")
    return impl_idl.OvsdbIdl(ovsdb.Connection(schema, timeout=20))


@pytest.fixture(autouse=True)
def nothing_is_left(engine: DockerClient, switch: Any, demo: Any) -> Iterator[None]:
    """Fails a test after which the host is not as it was before.

    A veth is there for as long as its namespace. Other engines and switches may
    be at work on the host meanwhile.
    """

    # The tests are root: no daemon in between.
    netns_admin.set_client_mode(False)
    directory = engine.info()["DockerRootDir"]

    def there() -> dict[str, set[str]]:
        return {
            "containers": {c["Names"][0] for c in engine.list_containers()},
            "namespaces": {
                name
                for name in netns.listnetns()
                if directory in (network.describe(name)[0] or "")
            },
            "ports": set(switch.list_ports("br-int").execute(check_error=True)),
            "servers": {server.id for server in demo.compute.servers()},
        }

    before = there()
    yield
    # OVN takes a patch port of a network that has gone away a moment later.
    eventually(lambda: there() == before, timeout=10)
    assert there() == before


@pytest.fixture
def boot(demo: Any, nothing_is_left: None) -> Iterator[Callable[..., Server]]:
    """Boots a server, deleted when the test ends; ACTIVE unless ``until`` differs.

    ``existing`` is the id of one whose boot was asked for already.
    """
    servers = []

    def create(
        image: str = images.BUSYBOX,
        *,
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
                name="test",
                image_id=demo.image.find_image(image, ignore_missing=False).id,
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
def floating_ip(demo: Any) -> Iterator[Callable[[Server], str]]:
    """Gives a server a floating IP, taken back when the test ends."""
    made = []

    def give(server: Server) -> str:
        public = demo.network.find_network("public")
        address = demo.network.create_ip(
            floating_network_id=public.id, port_id=server.port().id
        )
        made.append(address)
        return address.floating_ip_address

    yield give
    for address in made:
        demo.network.delete_ip(address)


@pytest.fixture
def upload(demo: Any) -> Iterator[Callable[..., str]]:
    """Uploads an image of the user's own; returns its name."""
    made = []

    def create(content: bytes, **values: Any) -> str:
        name = f"test-{uuidutils.generate_uuid()}"
        image = demo.image.create_image(
            name,
            data=content,
            **{"container_format": "docker", "disk_format": "raw"} | values,
        )
        made.append(image)
        return name

    yield create
    for image in made:
        demo.image.delete_image(image)


@pytest.fixture
def flavor(admin: Any) -> Iterator[Callable[..., str]]:
    """Makes a flavor like docker.tiny; returns its name."""
    made = []

    def create(extra_specs: dict[str, str] | None = None, **values: Any) -> str:
        found = admin.compute.create_flavor(
            name=f"test-{uuidutils.generate_uuid()}",
            **{"vcpus": 1, "ram": 64, "disk": 1} | values,
        )
        made.append(found)
        if extra_specs:
            admin.compute.create_flavor_extra_specs(found, extra_specs)
        return found.name

    yield create
    for found in made:
        admin.compute.delete_flavor(found)
