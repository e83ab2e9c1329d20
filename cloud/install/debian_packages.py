# SPDX-License-Identifier: Apache-2.0
"""Debian packages, installed without starting their daemons.

``bindep.txt`` lists them, under profiles such as ``quickstart`` and ``gvisor``.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import subprocess
from collections.abc import Iterator
from collections.abc import Sequence

from cloud import commands
from cloud import settings
from cloud.errors import QuickstartError

BINDEP = settings.SOURCE / "bindep.txt"

# The daemons of these packages stay disabled in systemd, because the cloud runs its
# own instances.
UNITS = (
    "containerd",
    "docker",
    "epmd",
    "haproxy",
    "lxcfs",
    "mariadb",
    "openvswitch-switch",
    "ovn-central",
    "ovn-host",
    "rabbitmq-server",
    "ssh",
)

POLICY = pathlib.Path("/usr/sbin/policy-rc.d")
POLICY_ASIDE = pathlib.Path("/usr/sbin/policy-rc.d.before-nova-docker-quickstart")
POLICY_TEXT = "#!/bin/sh\n# nova-docker quickstart: start no daemon.\nexit 101\n"


def install_missing(profile: str) -> None:
    """Install what ``bindep.txt`` lists under a profile."""
    missing = _missing(profile)
    # Debian's engine conflicts with others, such as docker-ce.
    if shutil.which("dockerd", path=settings.PATH):
        missing = [name for name in missing if name != "docker.io"]
    _apt_install(missing)


def install(names: Sequence[str]) -> None:
    """Install these packages, unless they are installed."""
    _apt_install([name for name in names if not _installed(name)])


def _missing(profile: str) -> list[str]:
    """Return the names of the packages that bindep finds missing.

    bindep exits with 1 when packages are missing, and also when it fails.
    """
    done = subprocess.run(
        [settings.BIN / "bindep", "--brief", "--file", BINDEP, profile],
        env=commands.clean_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    missing = done.stdout.split()
    if done.returncode and not missing:
        raise QuickstartError(f"bindep cannot check {BINDEP}: {done.stderr.strip()}")
    return missing


def _apt_install(names: Sequence[str]) -> None:
    if not names:
        return
    env = commands.installer_env()
    apt = ("apt-get", "-y", "-o", "DPkg::Lock::Timeout=300")
    commands.run(*apt, "update", env=env)
    before = _installed_units()
    with _no_daemon_starts():
        commands.run(
            *apt,
            "install",
            "--no-install-recommends",
            # Fail rather than replace the operator's packages (docker-ce, MySQL).
            "--no-remove",
            *names,
            env=env,
        )
    new = sorted(_installed_units() - before)
    if new and shutil.which("systemctl", path=settings.PATH):
        commands.run("systemctl", "disable", *new, check=False)


def _installed(name: str) -> bool:
    status = subprocess.run(
        ["dpkg-query", "-W", "-f=${db:Status-Status}", name],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return status == "installed"


def _installed_units() -> set[str]:
    return {
        unit
        for unit in UNITS
        if pathlib.Path(f"/lib/systemd/system/{unit}.service").exists()
    }


@contextlib.contextmanager
def _no_daemon_starts() -> Iterator[None]:
    """Prevent packages from starting their daemons when they are installed."""
    restore_policy()
    if POLICY.exists():
        answer = subprocess.run([POLICY, "mariadb", "start"], check=False).returncode
        if answer == 101:
            yield
            return
        POLICY.rename(POLICY_ASIDE)
    try:
        POLICY.write_text(POLICY_TEXT)
        POLICY.chmod(0o755)
        yield
    finally:
        restore_policy()


def restore_policy() -> None:
    """Restore the policy-rc.d that a killed quickstart may have replaced."""
    if POLICY.exists() and POLICY.read_text() == POLICY_TEXT:
        POLICY.unlink()
    if POLICY_ASIDE.exists():
        POLICY_ASIDE.rename(POLICY)
