# SPDX-License-Identifier: Apache-2.0
"""What runs: one table, in the order of starting."""

from __future__ import annotations

import contextlib
import functools
import http.client
import pathlib
import socket
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from cloud import commands
from cloud import configuration
from cloud import databases
from cloud import engine
from cloud import open_vswitch
from cloud import packages
from cloud import settings
from cloud.settings import BIN
from cloud.settings import DATA
from cloud.settings import ETC
from cloud.settings import PORTS
from cloud.settings import RUN
from cloud.settings import VENV
from cloud.settings import memory

# Services from this priority on make interfaces and containers: they have to be
# stopped before those are removed.
MAKERS = 40


@dataclass(frozen=True)
class Service:
    """A process under supervision.

    :ivar ready: tells whether it does its work
    :ivar port: where it listens on 127.0.0.1, if it does
    :ivar prepare: called before a start
    :ivar config: its configuration files; it is restarted when they change
    :ivar version: restarted when this changes
    :ivar priority: higher ones are stopped first
    """

    name: str
    command: str
    ready: Callable[[], bool]
    user: str = "root"
    port: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], object] | None = None
    config: Sequence[str] = ()
    version: str = ""
    priority: int = 0
    stop_signal: str = "TERM"
    stop_group: bool = False

    @property
    def revision(self) -> str:
        paths = [ETC / name for name in self.config]
        return configuration.revision(paths, self.version)


def services() -> list[Service]:
    """Return what the cloud consists of."""
    found = [*infrastructure(), *openstack()]
    return [*found, fake_compute()] if memory.get("fake_compute") else found


def infrastructure() -> list[Service]:
    """Return what OpenStack needs: broker, database, engine and switch."""
    ovs = {"OVS_RUNDIR": f"{RUN}/ovs", "OVN_RUNDIR": f"{RUN}/ovn"}
    own_engine = [
        Service(
            "containerd",
            f"/usr/bin/containerd --config {ETC}/containerd.toml",
            lambda: connects(RUN / "containerd/containerd.sock"),
            config=("containerd.toml",),
            priority=10,
        ),
        Service(
            "dockerd",
            engine.command(),
            lambda: engine.answers(engine.OWN_SOCKET),
            prepare=engine.prepare,
            priority=20,
        ),
    ]
    return [
        Service(
            "epmd",
            f"/usr/bin/epmd -address 127.0.0.1 -port {PORTS['epmd']}",
            lambda: commands.listens(PORTS["epmd"]),
            user="rabbitmq",
            port=PORTS["epmd"],
            priority=10,
        ),
        Service(
            "rabbitmq",
            "/usr/lib/rabbitmq/bin/rabbitmq-server",
            broker_answers,
            user="rabbitmq",
            port=PORTS["rabbitmq"],
            env=rabbitmq_env(),
            config=("rabbitmq.conf",),
            priority=20,
        ),
        Service(
            "mariadb",
            f"/usr/sbin/mariadbd --defaults-file={ETC}/mariadb.cnf",
            lambda: connects(databases.SOCKET),
            user="mysql",
            prepare=databases.prepare,
            config=("mariadb.cnf",),
            priority=20,
        ),
        *([] if engine.is_foreign() else own_engine),
        Service(
            "ovsdb-server",
            f"/usr/sbin/ovsdb-server {open_vswitch.DATABASE}"
            f" --remote=punix:{open_vswitch.SOCKET}"
            f" --remote=ptcp:{PORTS['ovsdb']}:127.0.0.1"
            f" --unixctl={RUN}/ovs/ovsdb-server.ctl",
            lambda: connects(open_vswitch.SOCKET),
            port=PORTS["ovsdb"],
            env=ovs,
            prepare=open_vswitch.make_database,
            priority=20,
        ),
        Service(
            "ovs-vswitchd",
            f"/usr/sbin/ovs-vswitchd unix:{open_vswitch.SOCKET}"
            f" --unixctl={open_vswitch.VSWITCHD}",
            open_vswitch.is_ready,
            env=ovs,
            prepare=open_vswitch.describe,
            priority=30,
        ),
        Service(
            "ovn-databases",
            "/usr/sbin/ovsdb-server"
            f" --remote=punix:{RUN}/ovn/north.sock"
            f" --remote=punix:{RUN}/ovn/south.sock"
            f" --unixctl={RUN}/ovn/databases.ctl"
            f" {DATA}/ovn/north.db {DATA}/ovn/south.db",
            lambda: connects(open_vswitch.NORTH) and connects(open_vswitch.SOUTH),
            user=settings.USER,
            env=ovs,
            prepare=open_vswitch.make_ovn_databases,
            priority=20,
        ),
        Service(
            "ovn-northd",
            f"/usr/bin/ovn-northd --ovnnb-db=unix:{open_vswitch.NORTH}"
            f" --ovnsb-db=unix:{open_vswitch.SOUTH} --unixctl={RUN}/ovn/northd.ctl",
            lambda: connects(RUN / "ovn/northd.ctl"),
            user=settings.USER,
            env=ovs,
            priority=30,
        ),
        Service(
            "ovn-controller",
            f"/usr/bin/ovn-controller unix:{open_vswitch.SOCKET}",
            open_vswitch.has_chassis,
            env=ovs,
            priority=40,
        ),
    ]


def openstack() -> list[Service]:
    """Return OpenStack's processes, all of which run as the user nova."""
    nova = ("nova/nova.conf", "nova/databases.conf")
    # The first one is what the pipeline of filters is loaded from.
    nova_files = [f"{VENV}/etc/nova/api-paste.ini", *(f"{ETC}/{n}" for n in nova)]
    nova_env = {"OS_NOVA_CONFIG_FILES": ";".join(nova_files)}
    keystone = "keystone/keystone.conf"
    glance = ("glance/glance-api.conf", "glance/paste.ini")
    neutron = ("neutron/neutron.conf",)
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
            version=packages.project_revision(),
            processes=2,
        ),
        api(
            "neutron",
            "neutron.wsgi.api",
            {
                "OS_NEUTRON_CONFIG_DIR": f"{ETC}/neutron",
                "OS_NEUTRON_CONFIG_FILES": f"{ETC}/{neutron[0]}",
                # It keeps files there that are named by process ids.
                "TMPDIR": f"{RUN}/neutron",
            },
            neutron,
            prepare=functools.partial(empty, RUN / "neutron"),
        ),
        api("nova-api", "nova.wsgi.osapi_compute", nova_env, nova),
        api("nova-metadata", "nova.wsgi.metadata", nova_env, nova),
        worker("nova-conductor", nova),
        worker("nova-scheduler", nova),
        worker(
            "nova-compute",
            ("nova/nova.conf",),
            version=packages.project_revision(),
            priority=60,
        ),
        worker(
            "glance-docker-sync",
            ("glance/glance-docker-sync.conf",),
            version=packages.project_revision(),
        ),
        worker("nova-serialproxy", nova, port=PORTS["nova-serialproxy"]),
        worker("neutron-ovn-maintenance-worker", neutron),
        worker("neutron-ovn-agent", ("neutron/ovn-agent.ini",)),
    ]


def fake_compute() -> Service:
    """Return a nova-compute with Nova's fake driver, to measure against."""
    files = ("nova/nova.conf", "nova/fake-compute.conf")
    return worker("nova-compute-fake", files, program="nova-compute", priority=60)


def api(
    name: str,
    module: str,
    env: Mapping[str, str],
    files: Sequence[str],
    prepare: Callable[[], object] | None = None,
    version: str = "",
    processes: int = 1,
) -> Service:
    """Return a WSGI application behind uWSGI."""
    port = PORTS[name]
    return Service(
        name,
        f"{BIN}/uwsgi --ini {ETC}/uwsgi.ini --http-socket 127.0.0.1:{port}"
        f" --module {module}:application --procname-prefix {name}:"
        f" --processes {processes}",
        functools.partial(answers_http, port),
        user=settings.USER,
        port=port,
        env={"HOME": f"{DATA}/nova", **env},
        prepare=prepare,
        config=(*files, "uwsgi.ini", "uwsgi_worker.py"),
        version=version + packages.openstack_revision(),
        priority=50,
        # uWSGI's way to end at once; it would wait for idle threads otherwise.
        stop_signal="INT",
    )


def worker(
    name: str,
    files: Sequence[str],
    *,
    program: str | None = None,
    version: str = "",
    priority: int = 50,
    port: int | None = None,
) -> Service:
    """Return a process that listens to the broker alone, or to one port too.

    What has to work next shows whether it hears the broker: nothing waits for it.
    """
    options = (f"--config-file {ETC}/{file}" for file in files)
    return Service(
        name,
        " ".join([f"{BIN}/{program or name}", *options]),
        lambda: port is None or commands.listens(port),
        user=settings.USER,
        port=port,
        env={"HOME": f"{DATA}/nova"},
        config=files,
        version=version + packages.openstack_revision(),
        priority=priority,
        stop_group=True,
    )


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
        # Become the Erlang VM, which ends cleanly on SIGTERM, instead of
        # waiting for it and calling rabbitmqctl.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def connects(path: pathlib.Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        return True
    return False


def broker_answers() -> bool:
    """Tell whether RabbitMQ greets AMQP 0-9-1."""
    with contextlib.suppress(OSError):
        address = ("127.0.0.1", PORTS["rabbitmq"])
        with socket.create_connection(address, timeout=2) as sock:
            sock.sendall(b"AMQP\x00\x00\x09\x01")
            return sock.recv(1) == b"\x01"
    return False


def answers_http(port: int) -> bool:
    """Tell whether an API answers; that it may ask for a token is an answer."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    return False


def empty(directory: pathlib.Path) -> None:
    for file in directory.iterdir():
        file.unlink()
