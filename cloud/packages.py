# SPDX-License-Identifier: Apache-2.0
"""What is installed: Debian packages, OpenStack from PyPI, this project."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Sequence

from cloud import commands
from cloud import settings
from cloud.settings import memory

# Enough for the virtual environment, to be filled while apt does the rest.
FOR_VENV = ("ca-certificates", "python3-venv")

DEBIAN = (
    "adduser",
    "busybox-static",
    "ethtool",
    "haproxy",
    "iproute2",
    "iptables",
    "kmod",
    "mariadb-server",
    "mmdebstrap",
    "netbase",
    "openssh-client",
    "openvswitch-switch",
    "ovn-central",
    "ovn-host",
    "rabbitmq-server",
    "sudo",
)

# Debian's daemons of these packages stay off: the cloud starts its own.
UNITS = (
    "containerd",
    "docker",
    "epmd",
    "haproxy",
    "mariadb",
    "openvswitch-switch",
    "ovn-central",
    "ovn-host",
    "rabbitmq-server",
)

POLICY = pathlib.Path("/usr/sbin/policy-rc.d")
POLICY_ASIDE = pathlib.Path("/usr/sbin/policy-rc.d.before-nova-docker-quickstart")
POLICY_TEXT = "#!/bin/sh\n# nova-docker quickstart: start no daemon.\nexit 101\n"

PROJECT_FILES = (
    "LICENSE",
    "bin",
    "docker_engine",
    "glance_docker",
    "nova_docker",
    "nova_docker.pth",
    "pyproject.toml",
    "requirements.txt",
    "setup.py",
)


# What runs the services, needed before OpenStack is there. Debian 12's goes on
# polling a file that a child of a service has closed, with a processor of its
# own. It still asks for setuptools' pkg_resources; the driver's wheel is built
# with the same setuptools.
SUPERVISOR = ("supervisor==4.3.0", "setuptools>=77.0.3,<81")

REQUIREMENTS = (
    settings.SOURCE / "cloud/requirements.txt",
    settings.SOURCE / "requirements.txt",
)
CONSTRAINTS = settings.SOURCE / "constraints.txt"
TEMPEST = settings.SOURCE / "cloud/tempest/requirements.txt"


def make_venv() -> None:
    """Make the virtual environment, with supervisord alone."""
    _apt_install(FOR_VENV)
    if memory.get("supervisor") != SUPERVISOR[0]:
        commands.run("/usr/bin/python3", "-m", "venv", settings.VENV)
        _pip_install(*SUPERVISOR)
        memory.set("supervisor", SUPERVISOR[0])


def install_debian() -> None:
    wanted = list(DEBIAN)
    # An engine that is not Debian's (docker-ce) would have to go for Debian's.
    if not shutil.which("dockerd", path=settings.PATH):
        wanted.append("docker.io")
    _apt_install(wanted)


def _apt_install(names: Sequence[str]) -> None:
    missing = [name for name in names if not _installed(name)]
    if not missing:
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
            # Rather fail than replace what the operator has (docker-ce, MySQL).
            "--no-remove",
            *missing,
            env=env,
        )
    fresh = sorted(_installed_units() - before)
    if fresh and shutil.which("systemctl", path=settings.PATH):
        commands.run("systemctl", "disable", *fresh, check=False)


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
    """Keep packages from starting their daemons while they are installed."""
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
    """Undo what a quickstart that was killed in the middle may have left."""
    if POLICY.exists() and POLICY.read_text() == POLICY_TEXT:
        POLICY.unlink()
    if POLICY_ASIDE.exists():
        POLICY_ASIDE.rename(POLICY)


def make_user() -> None:
    """Make the unprivileged user that OpenStack's services run as."""
    try:
        pwd.getpwnam(settings.USER)
    except KeyError:
        memory.set("made_user", True)
        commands.run(
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            f"--home-dir={settings.DATA / 'nova'}",
            "--shell=/usr/sbin/nologin",
            settings.USER,
        )
    if settings.USER not in grp.getgrnam("docker").gr_mem:
        memory.set("made_group_member", True)
        commands.run("usermod", "--append", "--groups=docker", settings.USER)
    privsep = f"{settings.BIN}/privsep-helper"
    config = settings.ETC / "nova/nova.conf"
    rootwrap = f"{settings.BIN}/neutron-rootwrap {settings.ETC}/neutron/rootwrap.conf"
    settings.SUDOERS.touch(mode=0o440)
    settings.SUDOERS.write_text(
        "# Made by nova-docker's quickstart: all that nova-compute, and Neutron's\n"
        "# agent, may do as root.\n"
        f"{settings.USER} ALL=(root) NOPASSWD: "
        f"{privsep} --config-file {config} *, {rootwrap} *\n"
    )


def openstack_revision() -> str:
    return digest([*REQUIREMENTS, CONSTRAINTS], *SUPERVISOR, sys.version)


def install_openstack() -> None:
    revision = openstack_revision()
    if memory.get("openstack_revision") == revision:
        return
    _pip_install(
        "--no-compile",
        f"--constraint={CONSTRAINTS}",
        *(f"--requirement={path}" for path in REQUIREMENTS),
        *SUPERVISOR,
    )
    # On all processors, and without the tests, half of what OpenStack ships.
    compileall = ("-m", "compileall", "-q", "-j", "0", "-x", "/tests/")
    commands.run(
        settings.BIN / "python", *compileall, settings.VENV / "lib", check=False
    )
    memory.set("openstack_revision", revision)


def install_tempest() -> None:
    """Install OpenStack's own tests, which nothing else needs."""
    _apt_install(("iputils-ping",))
    revision = digest([TEMPEST, CONSTRAINTS])
    if memory.get("tempest_revision") != revision:
        _pip_install(f"--constraint={CONSTRAINTS}", f"--requirement={TEMPEST}")
        memory.set("tempest_revision", revision)


def _pip_install(*arguments: str) -> None:
    pip = (settings.BIN / "pip", "install", "--quiet")
    commands.run(*pip, *arguments, env=commands.installer_env())


def project_revision() -> str:
    return digest([settings.SOURCE / name for name in PROJECT_FILES])


def install_project() -> None:
    """Install this checkout, when it is not what is installed already."""
    revision = project_revision() + openstack_revision()
    if memory.get("project_revision") == revision:
        return
    # A build leaves files beside its source; this is not ours to litter.
    with tempfile.TemporaryDirectory(dir=settings.RUN) as copy:
        for name in PROJECT_FILES:
            source, target = settings.SOURCE / name, pathlib.Path(copy, name)
            if source.is_dir():
                shutil.copytree(
                    source, target, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(source, target)
        _pip_install(
            "--force-reinstall",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            copy,
        )
    memory.set("project_revision", revision)


def digest(paths: Sequence[pathlib.Path], *more: str) -> str:
    """Return a hash of these files, and of all files below these directories."""
    found = hashlib.sha256("\0".join(more).encode())
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                found.update(f"{file.relative_to(settings.SOURCE)}\0".encode())
                found.update(file.read_bytes())
    return found.hexdigest()
