# SPDX-License-Identifier: Apache-2.0
"""The driver on a real engine and a real virtual switch, without OpenStack."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from nova import conf as nova_conf
from nova import objects
from nova.network import model
from nova.virt import fake
from oslo_concurrency import lockutils
from pyroute2 import IPRoute
from pyroute2 import netns
from vif_plug_ovs import ovs as vif_plug_ovs
from vif_plug_ovs import privsep as vif_plug_privsep

from nova_docker import container
from nova_docker import privsep
from nova_docker.driver import DockerDriver
from tests import archives
from tests import samples
from tests.engine import Engine
from tests.functional import ovs

CONF = nova_conf.CONF


class Glance:
    """Stands for ``nova.image.glance.API``: one archive for each image."""

    def __init__(self) -> None:
        self.archives: dict[str, bytes] = {}
        self.downloads: list[str] = []

    def download(
        self, context: Any, image_id: str, data: Any, trusted_certs: Any = None
    ) -> None:
        self.downloads.append(image_id)
        archive = self.archives[image_id]
        for start in range(0, len(archive), 65536):
            data.write(archive[start : start + 65536])


@dataclasses.dataclass
class Server:
    """A server that a test has booted."""

    instance: objects.Instance
    network_info: model.NetworkInfo
    engine: Engine

    @property
    def name(self) -> str:
        return container.name_of(self.instance.uuid)

    def run(self, script: str) -> str:
        """The output of a shell script in the running server."""
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


@pytest.fixture(scope="session")
def switch() -> Iterator[ovs.OpenVSwitch]:
    with (
        tempfile.TemporaryDirectory(prefix="nd-") as directory,
        ovs.running(pathlib.Path(directory)) as switch,
    ):
        yield switch


@pytest.fixture(scope="session")
def configuration(
    engine: Engine, switch: ovs.OpenVSwitch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """nova.conf for the private engine and switch."""
    CONF([], project="nova", default_config_files=[])
    lockutils.set_defaults(str(tmp_path_factory.mktemp("locks")))
    CONF.set_override("host", "test-host")
    CONF.set_override("host", engine.host, "docker")
    CONF.set_override("ovs_bridge", ovs.BRIDGE, "neutron")
    # os-vif registers and reads these when it loads its plugins.
    CONF.register_opts(vif_plug_ovs.OvsPlugin.CONFIG_OPTS, "os_vif_ovs")
    CONF.set_override("ovsdb_connection", switch.connection, "os_vif_ovs")
    # The tests are root: no daemon in between. tests/cloud has it.
    privsep.netns_admin.set_client_mode(False)
    vif_plug_privsep.vif_plug.set_client_mode(False)


@pytest.fixture
def glance() -> Glance:
    return Glance()


@pytest.fixture
def make_driver(
    configuration: None, glance: Glance, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], DockerDriver]]:
    """Starts a driver, as a start of nova-compute does."""
    monkeypatch.setattr("nova.image.glance.API", lambda: glance)
    started = []

    def start() -> DockerDriver:
        driver = DockerDriver(fake.FakeVirtAPI())
        driver.init_host("test-host")
        started.append(driver)
        return driver

    yield start
    for driver in started:
        driver.cleanup_host("test-host")


@pytest.fixture
def driver(make_driver: Callable[[], DockerDriver]) -> DockerDriver:
    return make_driver()


@pytest.fixture
def image(glance: Glance) -> Callable[..., objects.ImageMeta]:
    """Uploads an image; arguments are :func:`archives.busybox_archive`'s."""

    def upload(
        archive: bytes | None = None,
        properties: dict[str, str] | None = None,
        **values: Any,
    ) -> objects.ImageMeta:
        image_meta = samples.image_meta(id=samples.uuid(), properties=properties or {})
        glance.archives[image_meta.id] = (
            archives.busybox_archive(**values) if archive is None else archive
        )
        return image_meta

    return upload


@pytest.fixture
def nic() -> Callable[..., model.VIF]:
    """A port on the private switch."""

    def port(*subnets: model.Subnet, **values: Any) -> model.VIF:
        vif = samples.vif(*subnets, **values)
        vif["network"]["bridge"] = ovs.BRIDGE
        return vif

    return port


@pytest.fixture
def boot(
    driver: DockerDriver,
    engine: Engine,
    image: Callable[..., objects.ImageMeta],
    nic: Callable[..., model.VIF],
    nothing_is_left: None,
) -> Iterator[Callable[..., Server]]:
    """Boots a server, which is destroyed when the test ends.

    With no ``nics`` it has one, 192.0.2.N.
    """
    servers = []
    default = image()

    def spawn(
        image_meta: objects.ImageMeta | None = None,
        nics: list[model.VIF] | None = None,
        **values: Any,
    ) -> Server:
        if nics is None:
            address = f"192.0.2.{10 + len(servers)}"
            nics = [nic(samples.subnet("192.0.2.0/24", address))]
        server = Server(samples.instance(**values), samples.nics(*nics), engine)
        servers.append(server)
        driver.spawn(
            samples.request_context(),
            server.instance,
            image_meta or default,
            [],
            None,
            {},
            server.network_info,
        )
        return server

    yield spawn
    for server in servers:
        driver.destroy(None, server.instance, server.network_info)


@pytest.fixture
def nothing_is_left(engine: Engine, switch: ovs.OpenVSwitch) -> Iterator[None]:
    """Fails a test that leaves a container, namespace, veth, port or volume."""
    before = _what_is_there(engine, switch)
    yield
    assert _what_is_there(engine, switch) == before


def _what_is_there(engine: Engine, switch: ovs.OpenVSwitch) -> dict[str, set[str]]:
    volumes = ["docker", "--host", engine.host, "volume", "ls", "--quiet"]
    listed = subprocess.run(volumes, check=True, capture_output=True, text=True)
    with IPRoute() as host:
        veths = {link.get("ifname") for link in host.get_links(kind="veth")}
    return {
        "containers": {c["Id"] for c in engine.client.list_containers()},
        "namespaces": set(netns.listnetns()),
        "veths": veths,
        "ports": switch.ports(),
        "volumes": set(listed.stdout.split()),
    }
