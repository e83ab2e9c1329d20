# SPDX-License-Identifier: Apache-2.0
"""The keys by which servers move between the hosts, and the daemons that take them."""

from __future__ import annotations

import os
import pathlib
import pwd

from cloud import commands
from cloud import probes
from cloud import settings
from cloud.hosts import host as hosts
from cloud.hosts.host import Host
from cloud.service import Service
from cloud.settings import BIN
from cloud.state import state

# sshd changes its root directory to it.
_EMPTY = pathlib.Path("/run/sshd")


def write() -> None:
    """Give each host keys, and let the others in, if there are others."""
    everyone = hosts.everyone() if hosts.others() else []
    for host in everyone:
        _make_key(host.etc / "key", settings.USER)
        _make_key(host.etc / "host_key", "root")
    for host in everyone:
        lines = [_entry(host, other) for other in everyone if other != host]
        (host.etc / "authorized_keys").write_text("".join(lines))
    if everyone:
        (everyone[0].etc.parent / "known_hosts").write_text(
            "".join(map(_known, everyone))
        )
        _let_in()


def daemon(host: Host) -> Service:
    """Return the service that takes the other hosts' connections."""
    return Service(
        host.service("sshd"),
        " ".join([*host.inside, f"/usr/sbin/sshd -D -e -f {host.etc}/sshd.conf"]),
        lambda: probes.accepts(host.control, settings.SSH_PORT),
        prepare=lambda: _EMPTY.mkdir(mode=0o755, exist_ok=True),
        config=(f"hosts/{host.number}/sshd.conf",),
        priority=50,
    )


def _make_key(path: pathlib.Path, user: str) -> None:
    if not path.exists():
        commands.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
    os.chown(path, pwd.getpwnam(user).pw_uid, 0)


def _entry(host: Host, other: Host) -> str:
    """Return the line that lets another host move servers to a host."""
    receive = f"{BIN}/nova-docker-receive {host.data}/nova/docker-receive.sock"
    key = (other.etc / "key.pub").read_text().strip()
    return f'restrict,command="{receive} {other.name}" {key}\n'


def _known(host: Host) -> str:
    kind, key = (host.etc / "host_key.pub").read_text().split()[:2]
    return f"[{host.control}]:{settings.SSH_PORT} {kind} {key}\n"


def _let_in() -> None:
    """Let keys, and no password, log in as the user nova, if the quickstart made it."""
    if state.get("made_user") and pwd.getpwnam(settings.USER).pw_shell != "/bin/sh":
        # No password matches "*". sshd refuses users with "!", which useradd sets.
        commands.run("usermod", "--shell=/bin/sh", "--password=*", settings.USER)
