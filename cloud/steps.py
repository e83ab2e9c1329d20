# SPDX-License-Identifier: Apache-2.0
"""The steps of ``./quickstart up``, with their dependencies.

To add a step, write its action here or in a module of its own, and add a
:class:`~cloud.step_runner.Step` to :func:`steps`. A step that starts a process also
needs an entry in :mod:`cloud.services`.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable

from cloud import cgroup
from cloud import commands
from cloud import configuration
from cloud import credentials
from cloud import databases
from cloud import directories
from cloud import engine
from cloud import firewall
from cloud import horizon
from cloud import images
from cloud import kernel_limits
from cloud import lxcfs
from cloud import open_vswitch
from cloud import ovn
from cloud import parts
from cloud import settings
from cloud import supervisor
from cloud.errors import QuickstartError
from cloud.hosts import host as hosts
from cloud.hosts import life
from cloud.hosts import networks
from cloud.hosts import ssh
from cloud.install import debian_packages
from cloud.install import python_packages
from cloud.install import service_user
from cloud.services import services
from cloud.state import state
from cloud.step_runner import Step

SWITCH = (
    "ovsdb-server",
    "ovs-vswitchd",
    "ovn-databases",
    "ovn-northd",
    "ovn-controller",
)


def steps(*, fake_compute: bool) -> list[Step]:
    """Return the steps; each returns soon if its work is done already.

    :param fake_compute: also start a nova-compute with Nova's fake driver
    """
    return [
        Step("venv", "Virtual environment", python_packages.make_venv),
        Step("debian", "Debian packages", install_debian, ("venv",)),
        Step(
            "pypi",
            "OpenStack from PyPI",
            python_packages.install_openstack,
            ("venv",),
        ),
        Step("setup", "User, configuration", set_up, ("debian",)),
        Step(
            "project",
            "This driver",
            python_packages.install_project,
            ("pypi", "setup"),
        ),
        Step("mariadb", "MariaDB", start_mariadb, ("setup",)),
        Step("rabbitmq", "RabbitMQ", start("epmd", "rabbitmq"), ("setup",)),
        Step("kernel", "Kernel limits", kernel_limits.raise_limits, ("setup",)),
        Step("firewall", "Firewall", firewall.apply, ("setup",)),
        Step("lxcfs", "lxcfs", start_lxcfs, ("setup",)),
        Step("engine", "Docker engine", start_engine, ("firewall",)),
        Step("switch", "Open vSwitch and OVN", start_switch, ("firewall",)),
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
        Step("users", "Users and endpoints", resources("users"), ("keystone",)),
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
                "nova-api",
                "nova-metadata",
                "nova-conductor",
                "nova-scheduler",
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
        Step("networks", "Networks", resources("networks"), ("users", "neutron")),
        Step("flavors", "Flavors, key pair", resources("flavors"), ("users", "nova")),
        Step(
            "compute",
            "nova-compute",
            start_compute,
            (
                *("project", "nova", "placement", "users", "neutron", "engine"),
                *("kernel", "lxcfs"),
            ),
        ),
        Step(
            "server",
            "First server, SSH through its floating IP",
            resources("server"),
            ("compute", "images", "networks", "flavors"),
        ),
        # Volumes come last: the first server does not wait for them.
        Step("schema-cinder", "Database of cinder", databases.sync_cinder, ("server",)),
        Step("cinder", "Cinder", start_cinder, ("schema-cinder",)),
        *(heat() if parts.has("heat") else []),
        *([HORIZON] if parts.has("horizon") else []),
        *more_hosts(),
        *([FAKE_COMPUTE] if fake_compute else []),
    ]


def more_hosts() -> list[Step]:
    """Return the steps for the hosts beside the first one."""
    found = [host for host in hosts.others() if host.is_on]
    if not found:
        return []
    # What the first nova-compute needs
    needed = ("project", "nova", "placement", "users", "neutron", "kernel", "lxcfs")
    return [
        Step("host-networks", "Networks of the hosts", connect_hosts, ("switch",)),
        *(
            Step(
                f"host-{host.number}",
                f"Host {host.name}",
                functools.partial(life.start, host),
                (*needed, "host-networks"),
            )
            for host in found
        ),
    ]


def heat() -> list[Step]:
    """Return the steps for Heat, which nothing else needs."""
    return [
        # After the project, whose installation uses the same environment.
        Step(
            "heat-pypi",
            "Heat from PyPI",
            functools.partial(python_packages.install_optional, "heat"),
            ("project",),
        ),
        Step(
            "schema-heat",
            "Database of heat",
            databases.sync_heat,
            ("heat-pypi", "mariadb"),
        ),
        Step("heat-users", "Domain of stacks", resources("stacks"), ("users",)),
        Step(
            "heat",
            "Heat",
            start_heat,
            ("schema-heat", "heat-users", "rabbitmq"),
        ),
    ]


def schema(service: str, action: Callable[[], None]) -> Step:
    """Return the step that creates or migrates the database of a service."""
    title = f"Database of {service}"
    return Step(f"schema-{service}", title, action, ("pypi", "mariadb"))


def start(*names: str) -> Callable[[], None]:
    """Return an action that starts these services, one after the other."""

    def action() -> None:
        by_name = {service.name: service for service in services()}
        for name in names:
            supervisor.start(by_name[name])

    return action


def resources(part: str) -> Callable[[], None]:
    """Return an action that creates a part of :mod:`cloud.resources`."""
    return lambda: commands.run_python("cloud.resources", part)


def install_debian() -> None:
    debian_packages.install_missing("quickstart")
    if parts.has("gvisor"):
        debian_packages.install_missing("gvisor")


def set_up() -> None:
    service_user.make_user()
    directories.make_directories()
    credentials.make_ssh_key()
    if not pathlib.Path("/run/netns").exists():
        state.set("made_netns_directory", True)
    if not supervisor.running():
        cgroup.kill()
        for service in services():
            supervisor.check_port(service)
    engine.choose()
    configuration.write()
    ssh.write()
    engine.keep_servers()
    supervisor.configure(services())


def start_mariadb() -> None:
    start("mariadb")()
    databases.make_databases()


def start_lxcfs() -> None:
    if lxcfs.point():
        start("lxcfs")()


def start_engine() -> None:
    if not engine.is_foreign():
        start("containerd", "dockerd")()
    elif not engine.answers(engine.socket()):
        raise QuickstartError(
            f"the Docker engine at {engine.socket()}, which this cloud uses, does not "
            "answer; start it"
        )
    elif parts.has("gvisor") and not engine.knows(engine.GVISOR_RUNTIME):
        raise QuickstartError(
            f"the Docker engine at {engine.socket()}, which this cloud uses, has no "
            f"OCI runtime {engine.GVISOR_RUNTIME}; add nova-docker-gvisor to its "
            "daemon.json"
        )


def start_switch() -> None:
    start(*SWITCH)()
    open_vswitch.address_public_bridge()


def make_busybox() -> None:
    images.make_busybox_tree()
    images.import_busybox()


def list_images() -> None:
    start("glance-docker-sync")()
    resources("images")()


def start_compute() -> None:
    start("nova-compute")()
    resources("compute")()


def connect_hosts() -> None:
    networks.make()
    start("sshd")()


def start_cinder() -> None:
    start("cinder", "cinder-scheduler", "cinder-volume")()
    resources("volume-types")()


def start_heat() -> None:
    start("heat-api", "heat-engine")()
    resources("heat-engine")()


def start_horizon() -> None:
    horizon.install()
    start("horizon")()


HORIZON = Step("horizon", "Horizon", start_horizon, ("project", "users"))


def start_fake_compute() -> None:
    """Start a second nova-compute, with Nova's fake driver, for benchmarks."""
    ovn.add_chassis(settings.FAKE_HOST)
    if supervisor.state("nova-compute-fake")["statename"] != "RUNNING":
        resources("no-fake-compute")()
    start("nova-compute-fake")()
    resources("fake-compute")()
    databases.map_hosts()


FAKE_COMPUTE = Step(
    "fake-compute", "Fake nova-compute", start_fake_compute, ("compute", "switch")
)
