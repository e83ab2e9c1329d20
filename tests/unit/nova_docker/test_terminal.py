# SPDX-License-Identifier: Apache-2.0
"""Which terminal of a server its console shows."""

from __future__ import annotations

import pytest

from nova_docker import terminal


@pytest.mark.parametrize(
    ("words", "interactive"),
    [
        (["/bin/sh"], True),
        (["bash", "-l"], True),
        (["bash", "--norc"], True),
        (["/sbin/init"], True),
        (["/lib/systemd/systemd", "--system"], True),
        (["sh", "-c", "httpd"], False),
        (["bash", "-lc", "httpd"], False),
        (["sh", "/start"], False),
        (["/usr/sbin/sshd", "-D"], False),
    ],
)
def test_shells_and_logins_are_worked_at(words, interactive):
    found = {"Path": words[0], "Args": words[1:], "Config": {"Labels": {}}}
    assert terminal.has_interactive_process(found) == interactive
    for wish in ("attach", "shell"):
        found["Config"]["Labels"] = {terminal.CONSOLE_LABEL: wish}
        assert terminal.has_interactive_process(found) == (wish == "attach")
