# SPDX-License-Identifier: Apache-2.0
"""What a service is, and the two kinds of them that OpenStack has.

:mod:`cloud.services` lists the services of the cloud.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from cloud import parts
from cloud import probes
from cloud import settings
from cloud import volumes
from cloud.install import python_packages
from cloud.settings import BIN
from cloud.settings import DATA
from cloud.settings import ETC
from cloud.settings import PORTS


@dataclass(frozen=True)
class Service:
    """A process that supervisord runs.

    :ivar ready: tells whether the service can do its work
    :ivar port: the port of 127.0.0.1 that it listens on, if any
    :ivar prepare: called before each start
    :ivar config: configuration files below ``settings.ETC``; the service is restarted
        when one of them changes
    :ivar version: the service is also restarted when this changes
    :ivar umask: with which the service creates files and sockets
    :ivar priority: services with a higher priority stop first
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
    umask: str = "022"
    priority: int = 0
    stop_signal: str = "TERM"
    stop_group: bool = False

    @property
    def revision(self) -> str:
        """A hash that changes when the service must be restarted."""
        found = hashlib.sha256(self.version.encode())
        for name in self.config:
            found.update((ETC / name).read_bytes())
        return found.hexdigest()[:16]


def api(
    name: str,
    module: str,
    env: Mapping[str, str],
    files: Sequence[str],
    prepare: Callable[[], object] | None = None,
    version: str = "",
    processes: int = 1,
    arguments: Sequence[str] = (),
    options: str = "",
) -> Service:
    """Return the service that runs a WSGI application in uWSGI.

    :param arguments: configuration files below ``settings.ETC`` that the application
        reads from its command line
    :param options: more options of uWSGI
    """
    port = PORTS[name]
    return Service(
        name,
        f"{BIN}/uwsgi --ini {ETC}/uwsgi.ini --http-socket 127.0.0.1:{port}"
        f" --module {module}:application --procname-prefix {name}:"
        f" --processes {processes}"
        + "".join(f" --pyargv=--config-file={ETC}/{name}" for name in arguments)
        + (f" {options}" if options else ""),
        functools.partial(probes.http_answers, port),
        user=settings.USER,
        port=port,
        env={"HOME": f"{DATA}/nova", **env},
        prepare=prepare,
        config=(*files, "uwsgi.ini", "uwsgi_worker.py"),
        version=version + python_packages.openstack_revision(),
        priority=50,
        # On SIGINT uWSGI ends at once; on SIGTERM it waits for idle threads.
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
    prepare: Callable[[], object] | None = None,
    env: Mapping[str, str] | None = None,
    watched: Sequence[str] = (),
) -> Service:
    """Return a service that consumes messages, and may listen on one port.

    It counts as ready without a check that it consumes: nothing depends on that
    before the first request, which waits in its queue.

    :param files: its configuration files
    :param watched: other files whose change restarts it
    """
    options = (f"--config-file {ETC}/{file}" for file in files)
    return Service(
        name,
        " ".join([f"{BIN}/{program or name}", *options]),
        lambda: port is None or probes.port_accepts(port),
        user=settings.USER,
        port=port,
        env={"HOME": f"{DATA}/nova", **(env or {})},
        prepare=prepare,
        config=(*files, *watched),
        version=version + python_packages.openstack_revision(),
        priority=priority,
        stop_group=True,
    )


def nova_compute(*files: str) -> Service:
    """Return the nova-compute of a host.

    :param files: its configuration files
    """
    return worker(
        "nova-compute",
        files,
        # It asks the engine only once for its runtimes.
        version=python_packages.project_revision()
        + ("gvisor" if parts.has("gvisor") else ""),
        priority=60,
        prepare=volumes.restore_devices,
    )
