# SPDX-License-Identifier: Apache-2.0
"""The services of the cloud, each of which is a :class:`cloud.service.Service`.

:mod:`cloud.steps` has the steps that start them.
"""

from __future__ import annotations

import functools
import pathlib

from cloud import databases
from cloud import engine
from cloud import horizon
from cloud import lxcfs
from cloud import open_vswitch
from cloud import ovn
from cloud import parts
from cloud import probes
from cloud import settings
from cloud import switch_services
from cloud.hosts import processes
from cloud.install import python_packages
from cloud.service import Service
from cloud.service import api
from cloud.service import nova_compute
from cloud.service import worker
from cloud.settings import DATA
from cloud.settings import ETC
from cloud.settings import PORTS
from cloud.settings import RUN
from cloud.settings import VENV
from cloud.state import state

# Services of this priority or a higher one create network interfaces and containers.
# They must stop before these are removed.
CREATORS = 40

# The modules of the package cloud.cinder_loop
VOLUME_DRIVER = ("__init__", "devices", "driver")


def services() -> list[Service]:
    """Return all services of this cloud."""
    return [
        *infrastructure(),
        *openstack(),
        *(heat() if parts.has("heat") else []),
        *([dashboard()] if parts.has("horizon") else []),
        *([fake_compute()] if state.get("fake_compute") else []),
        *processes.services(),
    ]


def infrastructure() -> list[Service]:
    """Return the services that OpenStack needs: broker, database, engine, switch."""
    ovs = switch_services.environment(open_vswitch.FIRST)
    own_engine = [
        Service(
            "containerd",
            f"/usr/bin/containerd --config {ETC}/containerd.toml",
            lambda: probes.socket_accepts(RUN / "containerd/containerd.sock"),
            config=("containerd.toml",),
            priority=10,
        ),
        Service(
            "dockerd",
            engine.command(),
            lambda: engine.answers(engine.OWN_SOCKET),
            prepare=engine.prepare,
            config=("dockerd.json",),
            priority=20,
        ),
    ]
    own_lxcfs = Service(
        "lxcfs",
        lxcfs.command(),
        lxcfs.is_ready,
        # Threads would reserve much of the address space, which is limited.
        env={"MALLOC_ARENA_MAX": "1"},
        priority=10,
    )
    return [
        *([own_lxcfs] if lxcfs.point() else []),
        Service(
            "epmd",
            f"/usr/bin/epmd -address 127.0.0.1 -port {PORTS['epmd']}",
            lambda: probes.port_accepts(PORTS["epmd"]),
            user="rabbitmq",
            port=PORTS["epmd"],
            priority=10,
        ),
        Service(
            "rabbitmq",
            "/usr/lib/rabbitmq/bin/rabbitmq-server",
            lambda: probes.amqp_answers(PORTS["rabbitmq"]),
            user="rabbitmq",
            port=PORTS["rabbitmq"],
            env=rabbitmq_env(),
            config=("rabbitmq.conf",),
            priority=20,
        ),
        Service(
            "mariadb",
            f"/usr/sbin/mariadbd --defaults-file={ETC}/mariadb.cnf",
            lambda: probes.socket_accepts(databases.SOCKET),
            user="mysql",
            prepare=databases.make_data_directory,
            config=("mariadb.cnf",),
            priority=20,
        ),
        *([] if engine.is_foreign() else own_engine),
        *switch_services.services(open_vswitch.FIRST, open_vswitch.configure_first),
        Service(
            "ovn-databases",
            "/usr/sbin/ovsdb-server"
            f" --remote=punix:{RUN}/ovn/north.sock"
            f" --remote=punix:{RUN}/ovn/south.sock"
            f" --unixctl={RUN}/ovn/databases.ctl"
            f" {DATA}/ovn/north.db {DATA}/ovn/south.db",
            lambda: all(map(probes.socket_accepts, (ovn.NORTH, ovn.SOUTH))),
            user=settings.USER,
            env=ovs,
            prepare=ovn.make_databases,
            priority=20,
        ),
        Service(
            "ovn-northd",
            f"/usr/bin/ovn-northd --ovnnb-db=unix:{ovn.NORTH}"
            f" --ovnsb-db=unix:{ovn.SOUTH} --unixctl={RUN}/ovn/northd.ctl",
            lambda: probes.socket_accepts(RUN / "ovn/northd.ctl"),
            user=settings.USER,
            env=ovs,
            priority=30,
        ),
    ]


def openstack() -> list[Service]:
    """Return OpenStack's services, all of which run as the user nova."""
    nova = ("nova/nova.conf", "nova/databases.conf")
    # Nova loads the pipeline of its API from the first file.
    nova_files = [f"{VENV}/etc/nova/api-paste.ini", *(f"{ETC}/{n}" for n in nova)]
    nova_env = {"OS_NOVA_CONFIG_FILES": ";".join(nova_files)}
    keystone = "keystone/keystone.conf"
    glance = ("glance/glance-api.conf", "glance/paste.ini")
    neutron = ("neutron/neutron.conf",)
    cinder = ("cinder/cinder.conf",)
    volume_driver = [f"cinder/python/cloud/cinder_loop/{n}.py" for n in VOLUME_DRIVER]
    return [
        api(
            "keystone",
            "keystone.wsgi.api",
            {"OS_KEYSTONE_CONFIG_FILES": f"{ETC}/{keystone}"},
            (keystone,),
        ),
        api(
            "placement",
            "placement.wsgi.api",
            {"OS_PLACEMENT_CONFIG_DIR": f"{ETC}/placement"},
            ("placement/placement.conf",),
        ),
        api(
            "glance",
            "glance.wsgi.api",
            {"OS_GLANCE_CONFIG_DIR": f"{ETC}/glance"},
            glance,
            version=python_packages.project_revision(),
            processes=2,
        ),
        api(
            "neutron",
            "neutron_wsgi",
            {
                "PYTHONPATH": f"{ETC}/neutron",
                "OS_NEUTRON_CONFIG_DIR": f"{ETC}/neutron",
                "OS_NEUTRON_CONFIG_FILES": f"{ETC}/{neutron[0]}",
                # Neutron keeps files there whose names contain process ids.
                "TMPDIR": f"{RUN}/neutron",
            },
            (*neutron, "neutron/neutron_wsgi.py"),
            prepare=functools.partial(remove_files, RUN / "neutron"),
        ),
        api("nova-api", "nova.wsgi.osapi_compute", nova_env, nova),
        api("nova-metadata", "nova.wsgi.metadata", nova_env, nova),
        worker("nova-conductor", nova),
        worker("nova-scheduler", nova),
        nova_compute("nova/nova.conf"),
        worker(
            "glance-docker-sync",
            ("glance/glance-docker-sync.conf",),
            version=python_packages.project_revision(),
        ),
        worker("nova-serialproxy", nova, port=PORTS["nova-serialproxy"]),
        worker("neutron-ovn-maintenance-worker", neutron),
        worker("neutron-ovn-agent", ("neutron/ovn-agent.ini",)),
        api("cinder", "cinder.wsgi.api", {}, cinder, arguments=cinder),
        worker("cinder-scheduler", cinder),
        worker(
            "cinder-volume",
            cinder,
            env={"PYTHONPATH": f"{ETC}/cinder/python"},
            watched=volume_driver,
        ),
    ]


def heat() -> list[Service]:
    """Return Heat's services."""
    files = ("heat/heat.conf",)
    version = python_packages.optional_revision("heat")
    return [
        api(
            "heat-api",
            "heat.wsgi.api",
            {},
            files,
            version=version,
            # Heat has no environment variable for the path of its configuration.
            arguments=files[:1],
        ),
        worker("heat-engine", files, version=version),
    ]


def dashboard() -> Service:
    """Return Horizon, which also serves its static files."""
    return api(
        "horizon",
        "openstack_dashboard.wsgi",
        {},
        (horizon.SETTINGS,),
        version=horizon.revision(),
        # A browser keeps up to 6 connections open, some of them without a request.
        # Such a connection blocks a thread for seconds, so that pages seem to hang.
        options=f"--threads 16 --static-map /static={horizon.STATIC}",
    )


def fake_compute() -> Service:
    """Return a nova-compute with Nova's fake driver, for benchmarks."""
    files = ("nova/nova.conf", "nova/fake-compute.conf")
    return worker("nova-compute-fake", files, program="nova-compute", priority=60)


def rabbitmq_env() -> dict[str, str]:
    base = DATA / "rabbitmq"
    return {
        "HOME": f"{base}",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(PORTS["epmd"]),
        "RABBITMQ_NODENAME": "nova-docker@localhost",
        "RABBITMQ_DIST_PORT": str(PORTS["rabbitmq-dist"]),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none"
        ),
        "RABBITMQ_CONFIG_FILE": f"{ETC}/rabbitmq.conf",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{ETC}/rabbitmq.plugins",
        "RABBITMQ_MNESIA_BASE": f"{base}/mnesia",
        "RABBITMQ_GENERATED_CONFIG_DIR": f"{base}/config",
        "RABBITMQ_PID_FILE": f"{base}/pid",
        "RABBITMQ_LOG_BASE": f"{base}/log",
        "RABBITMQ_LOGS": "-",
        # Makes the script exec the Erlang VM, which ends cleanly on SIGTERM,
        # instead of waiting for it and calling rabbitmqctl.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def remove_files(directory: pathlib.Path) -> None:
    for file in directory.iterdir():
        file.unlink()
