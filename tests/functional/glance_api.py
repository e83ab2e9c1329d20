# SPDX-License-Identifier: Apache-2.0
"""A real Glance with the store of Docker images, for tests, without Keystone.

It takes the identity of a user from the request's headers, which Keystone's
middleware would set: :meth:`GlanceApi.as_` can be anybody.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from collections.abc import Mapping
from importlib import metadata
from types import TracebackType
from typing import Any
from typing import Self
from wsgiref import simple_server

import requests
import sqlalchemy
from keystoneauth1 import adapter
from keystoneauth1 import plugin
from keystoneauth1 import session as keystone
from openstack.config.cloud_region import CloudRegion

from glance_docker.gateway import ImageGateway
from tests.glance import read_chunked

CHECKOUT = pathlib.Path(__file__).parents[2]
ENTRY_POINTS = "glance_store.drivers"
# The project and the roles of glance-docker-sync.
SERVICE = "service"
SERVICE_ROLES = ("admin", "service", "member", "reader")

_START = 60  # seconds
_STOP = 20

_PASTE = """
[pipeline:glance-api]
pipeline = docker-names versionnegotiation context rootapp

[filter:docker-names]
paste.filter_factory = glance_docker.middleware:filter_factory

[filter:versionnegotiation]
paste.filter_factory = \
glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory

[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory

[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app

[app:apiversions]
paste.app_factory = glance.api.versions:create_resource

[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
"""


class Session(requests.Session):
    """A user's session, whose URLs are paths of Glance's, such as ``/v2/images``."""

    def __init__(self, base: str, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._base = base
        self.trust_env = False
        self.headers.update(headers)

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("timeout", 60)
        return super().request(method, self._base + url, *args, **kwargs)


class GlanceApi:
    """A Glance that runs in a ``with`` block.

    :param docker_host: address of the engine of the store ``engine``, whose name in
        locations is ``local``
    :param registry: options of the store ``registry``; None for no such store
    :param options: more options of the store ``engine``
    :ivar url: Glance's root
    :ivar disk: the directory of the default store, ``disk``
    :ivar locks: the directory of its locks
    """

    engine = "local"

    def __init__(
        self,
        docker_host: str,
        registry: Mapping[str, str] | None = None,
        **options: str,
    ) -> None:
        self._stores: dict[str, Mapping[str, str]] = {
            "engine": {
                "docker_host": docker_host,
                "docker_engine": self.engine,
                **options,
            }
        }
        if registry:
            self._stores["registry"] = registry
        self._process: subprocess.Popen[bytes] | None = None
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._exit as stack:
            directory = tempfile.TemporaryDirectory(prefix="nd-glance-")
            self._directory = pathlib.Path(stack.enter_context(directory))
            self.disk = self._directory / "disk"
            self.locks = self._directory / "locks"
            self._socket = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
            self._configure()
            self._manage("db_sync")
            stack.callback(self.stop)
            self.start()
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit.close()

    def as_(self, project: str, *roles: str) -> Session:
        """Return the session of a user with roles in a project."""
        return Session(self.url, _identity(project, roles))

    def service(self) -> Session:
        """Return the session of glance-docker-sync's user."""
        return self.as_(SERVICE, *SERVICE_ROLES)

    def gateway(self) -> ImageGateway:
        """Return a gateway with glance-docker-sync's user."""
        session = keystone.Session(auth=_Auth(SERVICE, SERVICE_ROLES))
        return ImageGateway(
            adapter.Adapter(session, endpoint_override=f"{self.url}/v2")
        )

    def cloud(self, project: str, *roles: str, endpoint: str = "") -> CloudRegion:
        """Return openstacksdk's configuration of a cloud that has this Glance.

        :param endpoint: the path of the configured image endpoint
        """
        return CloudRegion(
            "test",
            config={"image_endpoint_override": self.url + endpoint},
            session=keystone.Session(auth=_Auth(project, roles)),
        )

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")

    # The process

    def start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._socket.fileno())],
                cwd=CHECKOUT,
                env=self._environment(),
                pass_fds=[self._socket.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        # The socket listens already, so early requests wait.
        deadline = time.monotonic() + _START
        while True:
            with contextlib.suppress(requests.RequestException):
                return Session(self.url, {}).get("/", timeout=1).close()
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Glance did not start: {self.log[-4000:]}")

    def stop(self) -> None:
        if process := self._process:
            self._process = None
            process.terminate()
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def restart(self) -> None:
        self.stop()
        self.start()

    def _manage(self, *command: str) -> None:
        program = pathlib.Path(sys.executable).with_name("glance-manage")
        configuration = ["--config-file", str(self._directory / "glance-api.conf")]
        done = subprocess.run(
            [program, *configuration, *command],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_START,
        )
        if done.returncode:
            raise RuntimeError(f"glance-manage failed: {done.stderr[-4000:]}")

    def _configure(self) -> None:
        directory = self._directory
        for name in ("disk", "staging", "tasks", "locks"):
            (directory / name).mkdir()
        (directory / "paste.ini").write_text(_PASTE)
        kinds = ",".join(["disk:file", *(f"{name}:docker" for name in self._stores)])
        sections: dict[str, Mapping[str, str]] = {
            "DEFAULT": {
                "use_stderr": "true",
                "enabled_backends": kinds,
                "do_secure_hash": "false",
                "worker_self_reference_url": self.url,
            },
            "database": {"connection": f"sqlite:///{directory}/glance.sqlite"},
            "glance_store": {"default_backend": "disk"},
            "disk": {"filesystem_store_datadir": str(self.disk)},
            "os_glance_staging_store": {
                "filesystem_store_datadir": str(directory / "staging")
            },
            "os_glance_tasks_store": {
                "filesystem_store_datadir": str(directory / "tasks")
            },
            "oslo_concurrency": {"lock_path": str(directory / "locks")},
            "paste_deploy": {"config_file": str(directory / "paste.ini")},
            **self._stores,
        }
        (directory / "glance-api.conf").write_text(
            "".join(
                f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in options.items())
                for name, options in sections.items()
            )
        )
        if not metadata.entry_points(group=ENTRY_POINTS, name="docker"):
            _write_entry_points(directory / "nova_docker_test.dist-info")

    def _environment(self) -> dict[str, str]:
        paths = [str(self._directory), str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
        return os.environ | {
            "OS_GLANCE_CONFIG_DIR": str(self._directory),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            # Where stevedore caches entry points.
            "XDG_CACHE_HOME": str(self._directory / "cache"),
        }


class _Auth(plugin.BaseAuthPlugin):
    """Authentication by a user's headers in place of a token."""

    def __init__(self, project: str, roles: Iterable[str]) -> None:
        super().__init__()
        self._project = project
        self._headers = _identity(project, roles)

    def get_headers(self, session: Any, **kwargs: Any) -> dict[str, str]:
        return self._headers

    def get_project_id(self, session: Any, **kwargs: Any) -> str:
        return self._project


def _identity(project: str, roles: Iterable[str]) -> dict[str, str]:
    return {
        "X-Identity-Status": "Confirmed",
        "X-Project-Id": project,
        "X-User-Id": f"user-of-{project}",
        "X-Roles": ",".join(roles),
        "X-Service-Roles": "",
    }


def _write_entry_points(directory: pathlib.Path) -> None:
    """Make the checkout's drivers known where the checkout is not installed."""
    declared = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    drivers = declared["project"]["entry-points"][ENTRY_POINTS]
    lines = [f"[{ENTRY_POINTS}]", *(f"{k} = {v}" for k, v in drivers.items())]
    directory.mkdir()
    (directory / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nova-docker-test\nVersion: 0\n"
    )
    (directory / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (directory / "RECORD").touch()


# In Glance's process


class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True


def _take_turns() -> None:
    """Make each SQLite transaction wait for the one before it.

    Otherwise a transaction that reads and then writes fails at once when another one
    wrote in between: "database is locked".
    """

    def connected(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA busy_timeout = {1000 * _START}")
        connection.execute("PRAGMA synchronous = OFF")

    # oslo.db emits the BEGIN.
    def begun(
        connection: Any, cursor: Any, statement: str, parameters: Any, *args: Any
    ) -> tuple[str, Any]:
        if statement == "BEGIN":
            statement = "BEGIN IMMEDIATE"
        return statement, parameters

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", connected)
    sqlalchemy.event.listen(
        sqlalchemy.Engine, "before_cursor_execute", begun, retval=True
    )


def _serve(descriptor: int) -> None:
    """Serve Glance on a listening socket until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))
    _take_turns()
    from glance.wsgi.api import application

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # Read it all: a client whose connection is closed while a part is unread would
        # not get the response.
        if environ.get("HTTP_TRANSFER_ENCODING") == "chunked":
            body = read_chunked(environ["wsgi.input"])
        else:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        return application(environ, start_response)

    server = _Server(
        ("127.0.0.1", 0), simple_server.WSGIRequestHandler, bind_and_activate=False
    )
    server.socket.close()
    server.socket = socket.socket(fileno=descriptor)
    server.server_name, server.server_port = server.socket.getsockname()
    server.setup_environ()
    server.set_app(app)
    server.serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
