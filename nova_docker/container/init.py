# SPDX-License-Identifier: Apache-2.0
"""The first process of a server: a program of its image, or an init.

A program that is no init need not reap the processes that others leave to it. The
engine can run an init of its own before it, which does. systemd is an init that runs
a whole system, and needs more: a control group that it may divide, and directories in
memory. The OCI runtime prepares them, in lib/nova-docker/systemd.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from nova import exception

from nova_docker.container import isolation
from nova_docker.container.naming import LABEL_PREFIX

#: The first process is systemd.
SYSTEMD = "systemd"
#: It is the engine's init, which runs the image's command.
DOCKER_INIT = "docker-init"
#: It is the image's command, whatever that is.
NONE = "none"
INITS = (SYSTEMD, DOCKER_INIT, NONE)

LABEL = LABEL_PREFIX + "init"

# Paths of systemd in images. The last ones may be of another init, which does no harm.
_PROGRAMS = {
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/bin/systemd",
    "/usr/bin/systemd",
    "/sbin/init",
    "/usr/sbin/init",
}
# systemd powers off.
_STOP_SIGNAL = "SIGRTMIN+3"

# The kernel ends the first process of a PID namespace with SIGHUP to reboot it, and
# with SIGINT to power it off.
_REBOOT = 128 + 1


def of_image(
    config: Mapping[str, Any],
    command: Sequence[str] | None,
    requested: str | None,
    *,
    recognise: bool = True,
) -> str:
    """Return which init a server has.

    :param config: ``Config`` of GET /images/{name}/json
    :param command: that replaces the image's, as :func:`properties.command` returns it
    :param requested: as :func:`properties.init` returns it
    :param recognise: whether the command may show that the init is systemd
    :returns: one of :data:`INITS`
    """
    if requested:
        return requested
    words = [*(config.get("Entrypoint") or ()), *(command or config.get("Cmd") or ())]
    return SYSTEMD if recognise and words and words[0] in _PROGRAMS else NONE


def refuse(init: str, level: str, missing: Mapping[str, str]) -> None:
    """Refuse an init that a server could not run.

    :param level: of :mod:`nova_docker.container.isolation`
    :param missing: why the host does not have an init, by init
    :raises InvalidInput: with what to change
    """
    if init == SYSTEMD and level != isolation.USER:
        raise exception.InvalidInput(
            reason="systemd as the first process needs a user namespace, but the "
            f"server's isolation is {level}; use a flavor with docker:isolation=user, "
            f"or, if the image's init is not systemd, its property os_init={NONE}"
        )
    if init in missing:
        raise exception.InvalidInput(
            reason=f"this host cannot run {init} as the first process of a server: "
            f"{missing[init]}"
        )


def container(init: str) -> dict[str, Any]:
    """Return the part of the body of POST /containers/create for an init."""
    return {"StopSignal": _STOP_SIGNAL} if init == SYSTEMD else {}


def host_config(init: str) -> dict[str, bool]:
    """Return the part of HostConfig for an init."""
    # Without it, the engine's own default applies.
    return {} if init == NONE else {"Init": init == DOCKER_INIT}


def may_reboot(labels: Mapping[str, str]) -> bool:
    """Return whether a server may end to reboot: only systemd does."""
    return labels.get(LABEL) == SYSTEMD


def has_rebooted(labels: Mapping[str, str], exit_code: object) -> bool:
    """Return whether a server has ended because systemd has rebooted it.

    Other programs may exit with the same code, so only that of systemd counts.

    :param exit_code: of the first process, or its digits
    """
    return may_reboot(labels) and str(exit_code) == str(_REBOOT)


def is_listed_as_rebooted(item: Mapping[str, Any]) -> bool:
    """Return whether a server has, according to an item of GET /containers/json."""
    code = re.match(r"Exited \((\d+)\)", item["Status"])
    return code is not None and has_rebooted(item["Labels"], code[1])
