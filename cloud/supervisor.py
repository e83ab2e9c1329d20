# SPDX-License-Identifier: Apache-2.0
"""supervisord, which keeps the cloud's processes running."""

from __future__ import annotations

import http.client
import pathlib
import xmlrpc.client
from typing import Any

from cloud import cgroup
from cloud import commands
from cloud import settings
from cloud.services import Service

SOCKET = settings.RUN / "supervisor.sock"
CONFIG = settings.ETC / "supervisord.conf"
PIDFILE = settings.RUN / "supervisord.pid"

_ALREADY_STARTED, _NOT_RUNNING = 60, 70
UP = ("RUNNING", "STARTING")
_ENDED = ("STOPPED", "EXITED", "FATAL")


class _Transport(xmlrpc.client.Transport):
    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # Stopping a service may take all of its stopwaitsecs.
        return commands.UnixConnection(SOCKET, timeout=180)


def _rpc() -> Any:
    # A new one for each call: steps run in threads.
    return xmlrpc.client.ServerProxy("http://localhost", _Transport()).supervisor


def running() -> bool:
    try:
        _rpc().getState()
    except OSError:
        return False
    return True


def configure(services: list[Service]) -> None:
    """Have supervisord know these services, stopping those that changed."""
    text = _CONFIG.format(
        run=settings.RUN, log=settings.LOG, socket=SOCKET, pidfile=PIDFILE
    ) + "".join(map(_program, services))
    CONFIG.touch(mode=0o600)
    CONFIG.write_text(text)
    if not running():
        # -P: not what is beside it, this module, for the package of that name.
        program = (
            settings.BIN / "python",
            "-P",
            settings.SOURCE / "cloud/patched_supervisord.py",
        )
        cgroup.enclose(*program, "--configuration", CONFIG)
        commands.wait_until(running, "supervisord")
        return
    rpc = _rpc()
    ((added, changed, removed),) = rpc.reloadConfig()
    stop(*changed, *removed)
    for name in changed + removed:
        rpc.removeProcessGroup(name)
    for name in added + changed:
        rpc.addProcessGroup(name)


def start(service: Service) -> None:
    """Start a service that is not running, and wait until it is ready.

    :raises commands.Failed: when it is not, with the place of its log
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
            raise commands.Failed(f"{service.name} does not stay up")
        return False

    try:
        commands.wait_until(ready, f"{service.name} is not ready")
    except commands.Failed as error:
        raise commands.Failed(f"{error}; its log is {log(service)}") from None


def check_port(service: Service) -> None:
    """Refuse when something else has the port of a service that does not run.

    :raises commands.Failed: with how to find out who has it
    """
    if service.port and commands.listens(service.port):
        raise commands.Failed(
            f"port {service.port} of 127.0.0.1, which {service.name} needs, "
            "is in use by a process that is not this cloud's "
            f"(ss -ltnp 'sport = :{service.port}')"
        )


def stop(*names: str) -> None:
    """Stop services all at once, and wait until they have ended."""
    for name in names:
        try:
            _rpc().stopProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _NOT_RUNNING:
                raise
    commands.wait_until(
        lambda: all(state(name)["statename"] in _ENDED for name in names),
        f"{', '.join(names)}: still there",
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
    commands.wait_until(
        lambda: not proc.exists() or "\nState:\tZ" in (proc / "status").read_text(),
        "supervisord is still there",
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
    # The revision is there to be seen: a program whose section has changed is
    # restarted, and so one is whose configuration files did.
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
        "umask": "022",
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
