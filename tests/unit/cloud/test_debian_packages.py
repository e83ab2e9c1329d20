# SPDX-License-Identifier: Apache-2.0
"""Which Debian packages the quickstart installs; bindep is replaced by a script."""

from __future__ import annotations

import pytest

from cloud import settings
from cloud.errors import QuickstartError
from cloud.install import debian_packages


@pytest.fixture
def bindep(tmp_path, monkeypatch):
    """Replaces bindep by a script, and apt by a list of what it would install."""
    monkeypatch.setattr(settings, "BIN", tmp_path)
    monkeypatch.setattr(settings, "PATH", str(tmp_path))
    installed = []
    monkeypatch.setattr(debian_packages, "_apt_install", installed.extend)

    def replace(script):
        program = tmp_path / "bindep"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return installed

    return replace


def test_bindep_is_asked_for_the_packages_of_the_quickstart(bindep):
    installed = bindep('[ "$1 $2 $4" = "--brief --file quickstart" ] && echo "$3"')
    debian_packages.install_missing("quickstart")
    assert installed == [str(debian_packages.BINDEP)]


def test_what_bindep_finds_missing_is_installed(bindep):
    installed = bindep("echo haproxy; echo docker.io; exit 1")
    debian_packages.install_missing("quickstart")
    assert installed == ["haproxy", "docker.io"]


def test_another_engine_is_not_replaced_by_debians(bindep, tmp_path):
    (tmp_path / "dockerd").write_text("")
    (tmp_path / "dockerd").chmod(0o755)
    installed = bindep("echo haproxy; echo docker.io; exit 1")
    debian_packages.install_missing("quickstart")
    assert installed == ["haproxy"]


def test_nothing_is_installed_when_nothing_is_missing(bindep):
    installed = bindep("exit 0")
    debian_packages.install_missing("quickstart")
    assert installed == []


def test_a_failure_of_bindep_is_an_error(bindep):
    bindep("echo 'no such file' >&2; exit 1")
    with pytest.raises(QuickstartError, match=r"cannot check .*bindep.txt: no such"):
        debian_packages.install_missing("quickstart")
