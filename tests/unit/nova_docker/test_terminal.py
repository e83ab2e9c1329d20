# SPDX-License-Identifier: Apache-2.0
"""The choice of a server's terminal, and the life of a shell."""

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
def test_shells_and_logins_are_interactive(words, interactive):
    found = {"Path": words[0], "Args": words[1:], "Config": {"Labels": {}}}
    assert terminal.has_interactive_process(found) == interactive
    for choice in ("attach", "shell"):
        found["Config"]["Labels"] = {terminal.CONSOLE_LABEL: choice}
        assert terminal.has_interactive_process(found) == (choice == "attach")
