# SPDX-License-Identifier: Apache-2.0
"""The unprivileged user that runs OpenStack's services, and its sudo rules."""

from __future__ import annotations

import grp
import pwd

from cloud import commands
from cloud import settings
from cloud.state import state


def make_user() -> None:
    """Create the user, add it to the engine's group, and write its sudo rules."""
    try:
        pwd.getpwnam(settings.USER)
    except KeyError:
        state.set("made_user", True)
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
        state.set("made_group_member", True)
        commands.run("usermod", "--append", "--groups=docker", settings.USER)
    privsep = f"{settings.BIN}/privsep-helper"
    nova_conf = settings.ETC / "nova/nova.conf"
    cinder_conf = settings.ETC / "cinder/cinder.conf"
    rootwraps = [
        f"{settings.BIN}/{name}-rootwrap {settings.ETC}/{name}/rootwrap.conf *"
        for name in ("cinder", "neutron")
    ]
    settings.SUDOERS.touch(mode=0o440)
    settings.SUDOERS.write_text(
        "# Written by nova-docker's quickstart: the only commands that nova-compute,\n"
        "# Neutron's agent and cinder-volume may run as root.\n"
        # Cinder calls its rootwrap without a directory.
        f'Defaults:{settings.USER} secure_path="{settings.PATH}"\n'
        f"{settings.USER} ALL=(root) NOPASSWD: "
        f"{privsep} --config-file {nova_conf} *, "
        f"{privsep} --config-file {cinder_conf} *, {', '.join(rootwraps)}\n"
    )


def remove_user() -> None:
    """Undo :func:`make_user`; a user that existed before stays."""
    settings.SUDOERS.unlink(missing_ok=True)
    if state.get("made_user"):
        commands.run("userdel", settings.USER, check=False)
    elif state.get("made_group_member"):
        commands.run("gpasswd", "--delete", settings.USER, "docker", check=False)
