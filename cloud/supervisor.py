# SPDX-License-Identifier: Apache-2.0
"""supervisord, which runs the cloud's services: calls of its XML-RPC API."""

from __future__ import annotations

import http.client
import pathlib
import xmlrpc.client
from typing import Any

from cloud import cgroup
from cloud import settings
from cloud.errors import QuickstartError
from cloud.probes import port_accepts
from cloud.probes import wait_until
from cloud.service import Service
from cloud.unix_http import UnixHTTPConnection

SOCKET = settings.RUN / "supervisor.sock"
CONFIG = settings.ETC / "supervisord.conf"
PIDFILE = settings.RUN / "supervisord.pid"

_ALREADY_STARTED, _NOT_RUNNING = 60, 70
UP = ("RUNNING", "STARTING")
_ENDED = ("STOPPED", "EXITED", "FATAL")


class _Transport(xmlrpc.client.Transport):
    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # supervisord may be slow to answer while it stops services.
        return UnixHTTPConnection(SOCKET, timeout=180)


def _rpc() -> Any:
    # One proxy per call, because steps run in threads.
    return xmlrpc.client.ServerProxy("http://localhost", _Transport()).supervisor


def running() -> bool:
    try:
        _rpc().getState()
    except OSError:
        return False
    return True


def configure(services: list[Service]) -> None:
    """Write supervisord's configuration, and start it or make it read that.

    Services whose configuration has changed are stopped, and so are those that are
    not in the list.
    """
    text = _CONFIG.format(
        run=settings.RUN, log=settings.LOG, socket=SOCKET, pidfile=PIDFILE
    ) + "".join(map(_program, services))
    CONFIG.touch(mode=0o600)
    CONFIG.write_text(text)
    if not running():
        # -P: import the package supervisor, not this module beside the program.
        program = settings.SOURCE / "cloud/patched_supervisord.py"
        cgroup.run_inside(
            settings.BIN / "python", "-P", program, "--configuration", CONFIG
        )
        wait_until(running, f"supervisord does not answer; see {settings.LOG}")
        return
    rpc = _rpc()
    ((added, changed, removed),) = rpc.reloadConfig()
    stop(*changed, *removed)
    for name in changed + removed:
        rpc.removeProcessGroup(name)
    for name in added + changed:
        rpc.addProcessGroup(name)


def start(service: Service) -> None:
    """Start a service unless it is running, and wait until it is ready.

    :raises QuickstartError: when it does not become ready, with the path of its log
    """
    if state(service.name)["statename"] not in UP:
        check_port(service)
        if service.prepare:
            service.prepare()
        try:
            _rpc().startProcess(service.name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _ALREADY_STARTED:
                raise

    def ready() -> bool:
        if service.ready():
            return True
        if state(service.name)["statename"] == "FATAL":
            raise QuickstartError(f"{service.name} keeps exiting")
        return False

    try:
        wait_until(ready, f"{service.name} is not ready")
    except QuickstartError as error:
        raise QuickstartError(f"{error}; see {log(service)}") from None


def check_port(service: Service) -> None:
    """Check that the port of a service that is not running is free.

    :raises QuickstartError: when a process listens on it
    """
    if service.port and port_accepts(service.port):
        raise QuickstartError(
            f"{service.name} needs port {service.port} of 127.0.0.1, which a process "
            "outside this cloud is using; find it with "
            f"ss -ltnp 'sport = :{service.port}', and stop it"
        )


def request_stop(*names: str) -> None:
    """Tell services to stop, and do not wait for them."""
    for name in names:
        try:
            _rpc().stopProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _NOT_RUNNING:
                raise


def stop(*names: str) -> None:
    """Stop services at the same time, and wait until they have ended."""
    request_stop(*names)
    wait_until(
        lambda: all(state(name)["statename"] in _ENDED for name in names),
        f"services do not stop: {', '.join(names)}",
    )


def state(name: str) -> dict[str, Any]:
    return _rpc().getProcessInfo(name)


def states() -> list[dict[str, Any]]:
    return _rpc().getAllProcessInfo()


def shutdown() -> None:
    """Stop all services and supervisord itself."""
    pid = int(PIDFILE.read_text())
    _rpc().shutdown()
    proc = pathlib.Path(f"/proc/{pid}")
    wait_until(
        lambda: not proc.exists() or "\nState:\tZ" in (proc / "status").read_text(),
        "supervisord does not end",
        timeout=180,
    )


def log(service: Service) -> pathlib.Path:
    return settings.LOG / f"{service.name}.log"


_CONFIG = """\
[supervisord]
directory = /
logfile = {log}/supervisord.log
pidfile = {pidfile}
childlogdir = {log}
minfds = 16384

[unix_http_server]
file = {socket}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{socket}
"""


def _program(service: Service) -> str:
    # supervisord restarts a program whose section has changed. The revision makes it
    # restart one whose configuration files have changed, too.
    environment = {
        "PATH": settings.PATH,
        "LANG": "C.UTF-8",
        **service.env,
        "QUICKSTART_REVISION": service.revision,
    }
    pairs = ",".join(f'{name}="{value}"' for name, value in environment.items())
    lines = {
        "command": service.command.replace("%", "%%"),
        "user": service.user,
        "umask": service.umask,
        "environment": pairs.replace("%", "%%"),
        "autostart": "false",
        "autorestart": "true",
        "startsecs": "10",
        "startretries": "3",
        "priority": str(service.priority),
        "stopsignal": service.stop_signal,
        "stopwaitsecs": "30",
        "stopasgroup": str(service.stop_group).lower(),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": str(log(service)),
        "stdout_logfile_maxbytes": "20MB",
        "stdout_logfile_backups": "1",
    }
    body = "".join(f"{name} = {value}\n" for name, value in lines.items())
    return f"\n[program:{service.name}]\n{body}"
