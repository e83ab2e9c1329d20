# SPDX-License-Identifier: Apache-2.0
"""The driver on a real engine and a real virtual switch, without OpenStack."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import tempfile
import time
import types
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from nova import objects
from nova.network import model
from nova.virt import fake
from pyroute2 import netns

from nova_docker import config_drive
from nova_docker.driver import DockerDriver
from nova_docker.image.store import tag_of
from nova_docker.privsep import devices
from nova_docker.privsep import filesystems
from nova_docker.privsep import network
from tests import archives
from tests import samples
from tests import systemd
from tests.engine import Engine
from tests.functional import host
from tests.functional import ovs
from tests.functional.host import Glance
from tests.functional.host import Server
from tests.lxcfs import Lxcfs

# Docker's tag of an image without a name
NO_TAG = "<none>:<none>"

# What Nova would take from its database
CONFIG_DRIVE = {
    "openstack/latest/meta_data.json": b'{"uuid": "1", "hostname": "web-1"}',
    "openstack/latest/user_data": b"#cloud-config\nwrite_files:\n"
    b"- {path: /srv/note, content: from the user}\n",
}
SYSTEM_SECONDS = 90  # until systemd and cloud-init have finished


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
    host.configure(engine, switch, tmp_path_factory.mktemp("state"))


@pytest.fixture
def glance() -> Glance:
    return Glance()


@pytest.fixture
def make_driver(
    configuration: None, glance: Glance, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], DockerDriver]]:
    """Starts a driver, as nova-compute does when it starts."""
    host.without_openstack(monkeypatch, glance)
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
    """Uploads an image; takes the arguments of :func:`archives.busybox_archive`."""

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
    """Makes a port on the private switch."""

    def port(*subnets: model.Subnet, **values: Any) -> model.VIF:
        vif = samples.vif(*subnets, **values)
        vif["network"]["bridge"] = ovs.BRIDGE
        vif["details"]["datapath_type"] = ovs.DATAPATH
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

    Without ``nics`` it has one, with the address 192.0.2.N.
    """
    servers: list[Server] = []
    default = image()

    def spawn(
        image_meta: objects.ImageMeta | None = None,
        nics: list[model.VIF] | None = None,
        *,
        files: list[tuple[str, bytes]] | None = None,
        password: str | None = None,
        block_device_info: dict[str, Any] | None = None,
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
            files or [],
            password,
            {},
            server.network_info,
            block_device_info,
        )
        return server

    yield spawn
    for server in servers:
        driver.destroy(None, server.instance, server.network_info)
        assert not devices.has_any(server.name)
        assert not filesystems.recorded(server.name)


@pytest.fixture(scope="session")
def debian_systemd(engine: Engine, request: pytest.FixtureRequest) -> str:
    """The Glance ID of a Debian with systemd, which the engine has."""
    cache = request.config.cache.mkdir("debian-systemd")
    image_id = samples.uuid()
    systemd.load(engine.host, systemd.tree(pathlib.Path(cache)), tag_of(image_id))
    return image_id


@pytest.fixture
def systemd_image(debian_systemd: str) -> objects.ImageMeta:
    return samples.image_meta(id=debian_systemd)


@pytest.fixture
def running() -> Callable[[Server], bool]:
    """Waits until systemd has started everything; returns whether all is well."""

    def wait(server: Server) -> bool:
        deadline = time.monotonic() + SYSTEM_SECONDS
        found = ""
        while found not in ("running", "degraded") and time.monotonic() < deadline:
            time.sleep(0.2)
            with contextlib.suppress(subprocess.CalledProcessError):
                found = server.run("systemctl is-system-running || :").strip()
        return found == "running"

    return wait


@pytest.fixture
def boot_systemd(
    boot: Callable[..., Server],
    systemd_image: objects.ImageMeta,
    running: Callable[[Server], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Server]:
    """Boots a Debian with systemd, and waits until all of it runs."""

    # Without a config drive, cloud-init would look for the metadata service.
    monkeypatch.setattr(config_drive, "_contents", lambda *args: CONFIG_DRIVE)

    def spawn(image_meta: objects.ImageMeta = systemd_image, **values: Any) -> Server:
        values = {"flavor": samples.flavor(memory_mb=512, vcpus=2)} | values
        server = boot(
            image_meta, image_ref=image_meta.id, config_drive="True", **values
        )
        assert running(server), server.run("systemctl --failed; journalctl -b | tail")
        return server

    return spawn


@pytest.fixture
def small_engine() -> Iterator[Engine]:
    """An engine with little disk space, which a test may stop."""
    with tempfile.TemporaryDirectory(prefix="nd-", dir="/tmp") as path:
        directory = pathlib.Path(path, "e")
        directory.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", directory], check=True
        )
        (directory / "d").mkdir()
        engine = Engine(directory / "d")
        try:
            engine.start()
            yield engine
        finally:
            engine.destroy()
            subprocess.run(["umount", directory], check=True)


@pytest.fixture
def images(engine: Engine) -> Iterator[None]:
    """Removes the images and tags that a test has created."""

    def present() -> tuple[set[str], set[str]]:
        found = engine.client.list_images()
        tags = {tag for image in found for tag in image["RepoTags"] or ()}
        return {image["Id"] for image in found}, tags - {NO_TAG}

    ids, tags = present()
    yield
    for tag in present()[1] - tags:
        engine.client.remove_image(tag)
    for image_id in present()[0] - ids:
        engine.client.remove_image(image_id, force=True)


@pytest.fixture
def configure() -> Iterator[Callable[[str, Any], None]]:
    """Sets an option of [docker] during a test."""
    before: dict[str, Any] = {}

    def override(name: str, value: Any) -> None:
        before.setdefault(name, host.CONF.docker[name])
        host.CONF.set_override(name, value, "docker")

    yield override
    for name, value in before.items():
        host.CONF.set_override(name, value, "docker")


@pytest.fixture
def soon() -> Iterator[None]:
    """Gives servers little time to stop: a shell ignores the signal."""
    host.CONF.set_override("shutdown_timeout", 1)
    yield
    host.CONF.clear_override("shutdown_timeout")


@pytest.fixture
def host_with_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets flavors have swap, whether this host has any or not."""
    swap = types.SimpleNamespace(total=1 << 30)
    monkeypatch.setattr("psutil.swap_memory", lambda: swap)


@pytest.fixture
def lxcfs(
    configure: Callable[[str, Any], None], tmp_path: pathlib.Path
) -> Iterator[Lxcfs]:
    """An lxcfs, whose files the driver's servers get."""
    made = Lxcfs(tmp_path)
    made.start()
    configure("lxcfs", str(made.point))
    yield made
    made.kill()
    made.unmount()


@pytest.fixture
def nothing_is_left(engine: Engine, switch: ovs.OpenVSwitch) -> Iterator[None]:
    """Fails a test that leaves a container, namespace, port or volume behind."""
    before = _resources(engine, switch)
    yield
    assert _resources(engine, switch) == before


def _resources(engine: Engine, switch: ovs.OpenVSwitch) -> dict[str, set[str]]:
    """Return what this engine and this switch have; the host may have others.

    A veth exists as long as its namespace.
    """
    volumes = ["docker", "--host", engine.host, "volume", "ls", "--quiet"]
    listed = subprocess.run(volumes, check=True, capture_output=True, text=True)
    directory = engine.client.info()["DockerRootDir"]
    return {
        "containers": {c["Id"] for c in engine.client.list_containers()},
        "namespaces": {name for name in netns.listnetns() if directory in _owner(name)},
        "ids": {name for name in _with_ids() if directory in _owner(name)},
        "ports": switch.ports(),
        "volumes": set(listed.stdout.split()),
    }


def _with_ids() -> set[str]:
    """Return the names of the servers with a range of ids."""
    return {path.name for path in pathlib.Path("/run/nova-docker").glob("*/nova-*")}


def _owner(namespace: str) -> str:
    """Return the engine that a network namespace belongs to, if it is one of Nova's."""
    try:
        return network.describe(namespace)[0] or ""
    except OSError:
        # Another program of the host is just creating or removing it.
        return ""
