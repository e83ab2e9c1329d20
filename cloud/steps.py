# SPDX-License-Identifier: Apache-2.0
"""What ``up`` does: one list of steps, with what each has to wait for."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from cloud import cgroup
from cloud import commands
from cloud import configuration
from cloud import databases
from cloud import engine
from cloud import images
from cloud import open_vswitch
from cloud import packages
from cloud import settings
from cloud import supervisor
from cloud.services import services
from cloud.settings import memory
from cloud.step_runner import Step

SWITCH = (
    "ovsdb-server",
    "ovs-vswitchd",
    "ovn-databases",
    "ovn-northd",
    "ovn-controller",
)


def steps() -> list[Step]:
    """Return the steps; each is quick when what it does is done already."""
    fake_compute = Step(
        "fake-compute", "Fake nova-compute", start_fake_compute, ("compute", "switch")
    )
    return [
        Step("venv", "Virtual environment", packages.make_venv),
        Step("debian", "Debian packages", packages.install_debian, ("venv",)),
        Step("pypi", "OpenStack from PyPI", packages.install_openstack, ("venv",)),
        Step("setup", "User, configuration", set_up, ("debian",)),
        Step("project", "This driver", packages.install_project, ("pypi", "setup")),
        Step("mariadb", "MariaDB", start_mariadb, ("setup",)),
        Step("rabbitmq", "RabbitMQ", start("epmd", "rabbitmq"), ("setup",)),
        Step("engine", "Docker engine", start_engine, ("setup",)),
        Step("switch", "Open vSwitch and OVN", start_switch, ("setup",)),
        Step("debian-tree", "Debian tree", images.make_debian_tree, ("setup",)),
        Step("busybox", "Image busybox", make_busybox, ("engine",)),
        Step(
            "debian-image",
            "Image debian",
            images.import_debian,
            ("debian-tree", "engine"),
        ),
        schema("keystone", databases.sync_keystone),
        schema("neutron", databases.sync_neutron),
        schema("nova", databases.sync_nova),
        schema("nova-api", databases.sync_nova_api),
        schema("glance", databases.sync_glance),
        schema("placement", databases.sync_placement),
        Step("keystone", "Keystone", start("keystone"), ("schema-keystone",)),
        Step("users", "Users and endpoints", contents("users"), ("keystone",)),
        Step("placement", "Placement", start("placement"), ("schema-placement",)),
        Step("glance", "Glance", start("glance"), ("schema-glance", "project")),
        Step(
            "metadefs",
            "Metadata definitions",
            databases.load_metadefs,
            ("schema-glance", "project"),
        ),
        Step(
            "neutron",
            "Neutron",
            start("neutron", "neutron-ovn-maintenance-worker", "neutron-ovn-agent"),
            ("schema-neutron", "switch", "rabbitmq"),
        ),
        Step(
            "nova",
            "Nova",
            start(
                "nova-conductor",
                "nova-scheduler",
                "nova-api",
                "nova-metadata",
                "nova-serialproxy",
            ),
            ("schema-nova", "schema-nova-api", "rabbitmq"),
        ),
        Step(
            "images",
            "Images in Glance",
            list_images,
            ("users", "glance", "busybox", "debian-image"),
        ),
        Step("networks", "Networks", contents("networks"), ("users", "neutron")),
        Step("flavors", "Flavors, key pair", contents("flavors"), ("users", "nova")),
        Step(
            "compute",
            "nova-compute",
            start_compute,
            ("project", "nova", "placement", "users", "neutron", "engine"),
        ),
        Step(
            "server",
            "First server, SSH through its floating IP",
            contents("server"),
            ("compute", "images", "networks", "flavors"),
        ),
        *([fake_compute] if memory.get("fake_compute") else []),
    ]


def set_up() -> None:
    packages.make_user()
    configuration.make_directories()
    images.make_key()
    if not pathlib.Path("/run/netns").exists():
        memory.set("made_netns_directory", True)
    if not supervisor.running():
        cgroup.kill()
        for service in services():
            supervisor.check_port(service)
    engine.choose()
    configuration.write()
    supervisor.configure(services())


def start(*names: str) -> Callable[[], None]:
    """Return an action that starts these services, one after the other."""

    def action() -> None:
        for service in services():
            if service.name in names:
                supervisor.start(service)

    return action


def start_mariadb() -> None:
    start("mariadb")()
    databases.make()


def start_engine() -> None:
    if not engine.is_foreign():
        start("containerd", "dockerd")()
    elif not engine.answers(engine.socket()):
        raise commands.Failed(
            f"the engine that this cloud uses does not run ({engine.socket()})"
        )


def start_switch() -> None:
    start(*SWITCH)()
    open_vswitch.address_public_bridge()


def make_busybox() -> None:
    images.make_busybox_tree()
    images.import_busybox()


def list_images() -> None:
    start("glance-docker-sync")()
    contents("images_listed")()


def start_compute() -> None:
    start("nova-compute")()
    contents("compute_ready")()


def start_fake_compute() -> None:
    """Start a second nova-compute, with Nova's fake driver, for benchmarks."""
    open_vswitch.add_chassis(settings.FAKE_HOST)
    if supervisor.state("nova-compute-fake")["statename"] != "RUNNING":
        contents("forget_fake_compute")()
    start("nova-compute-fake")()
    contents("fake_compute")()
    databases.map_hosts()


def schema(name: str, action: Callable[[], None]) -> Step:
    title = f"Database of {name}"
    return Step(f"schema-{name}", title, action, ("pypi", "mariadb"))


def contents(*parts: str) -> Callable[[], None]:
    """Return an action that runs parts of :mod:`cloud.contents`."""
    return lambda: commands.run_python("cloud.contents", *parts)
