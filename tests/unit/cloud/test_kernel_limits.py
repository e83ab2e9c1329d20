# SPDX-License-Identifier: Apache-2.0
"""Raising the kernel's limits, and restoring them."""

from __future__ import annotations

import pytest

from cloud import kernel_limits
from cloud.state import State
from nova_docker.host import kernel


@pytest.fixture
def sysctl(tmp_path, monkeypatch):
    """The values of two sysctls, by name; the kernel has no others."""
    monkeypatch.setattr(kernel_limits, "SYSCTLS", tmp_path)
    monkeypatch.setattr(kernel_limits, "state", State(tmp_path / "memory.json"))
    (tmp_path / "kernel/pty").mkdir(parents=True)
    (tmp_path / "fs").mkdir()

    def path(name):
        return tmp_path / name.replace(".", "/")

    def values(**new):
        for name, value in new.items():
            path(name.replace("__", ".")).write_text(f"{value}\n")
        names = ("kernel.pty.max", "fs.pipe-user-pages-soft")
        return [int(path(name).read_text()) for name in names]

    path("fs.pipe-user-pages-soft").write_text("16384\n")
    values(kernel__pty__max=4096)
    return values


def test_they_are_those_of_which_nova_compute_warns():
    assert kernel_limits.wanted() == kernel.WANTED


def test_what_is_too_low_is_raised_and_restored(sysctl):
    for _ in range(2):
        kernel_limits.raise_limits()
        assert sysctl() == [kernel.WANTED["kernel.pty.max"], 0]
    kernel_limits.restore()
    assert sysctl() == [4096, 16384]
    sysctl(kernel__pty__max=5000)
    kernel_limits.restore()
    assert sysctl() == [5000, 16384]


def test_nothing_is_lowered(sysctl):
    high = kernel.WANTED["kernel.pty.max"] + 1
    sysctl(kernel__pty__max=high)
    kernel_limits.raise_limits()
    assert sysctl() == [high, 0]
    kernel_limits.restore()
    assert sysctl() == [high, 16384]


def test_what_somebody_else_has_changed_stays(sysctl):
    kernel_limits.raise_limits()
    sysctl(kernel__pty__max=5000)
    kernel_limits.restore()
    assert sysctl() == [5000, 16384]
