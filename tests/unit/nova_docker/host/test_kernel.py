# SPDX-License-Identifier: Apache-2.0
"""The kernel's limits that all servers of a host share."""

import pathlib

import pytest

from nova_docker.host import kernel

SYSCTL_FILE = pathlib.Path(__file__).parents[4] / "etc/sysctl.d/60-nova-docker.conf"


def test_the_sysctl_file_has_the_same_values():
    lines = SYSCTL_FILE.read_text().splitlines()
    settings = [line.split(" = ") for line in lines if line and line[0] != "#"]
    assert {name: int(value) for name, value in settings} == kernel.WANTED


def test_values_that_are_as_wanted_or_higher_are_not_reported():
    values = dict(kernel.WANTED) | {"kernel.pid_max": 2**23}
    assert kernel.too_low(values) == {}


def test_lower_values_are_reported():
    values = dict(kernel.WANTED) | {
        "kernel.pty.max": 4096,
        # 0 means no limit, so any other value is lower.
        "fs.pipe-user-pages-soft": 16384,
    }
    low = kernel.too_low(values)
    assert low == {"kernel.pty.max": 4096, "fs.pipe-user-pages-soft": 16384}
    assert kernel.describe(low) == (
        "kernel.pty.max = 4096 (should be 263168), "
        "fs.pipe-user-pages-soft = 16384 (should be 0)"
    )


@pytest.mark.parametrize(
    ("pid_max", "threads_max"), [("32768", "192730"), ("4194304", "32768")]
)
def test_the_servers_get_half_of_the_processes(tmp_path, pid_max, threads_max):
    directory = tmp_path / "kernel"
    directory.mkdir()
    (directory / "pid_max").write_text(f"{pid_max}\n")
    (directory / "threads-max").write_text(f"{threads_max}\n")
    assert kernel.processes_of_servers(tmp_path) == 16384


def test_sysctls_that_the_kernel_lacks_are_left_out(tmp_path):
    path = tmp_path / "net/ipv4/neigh/default/gc_thresh3"
    path.parent.mkdir(parents=True)
    path.write_text("1024\n")
    assert kernel.read(tmp_path) == {"net.ipv4.neigh.default.gc_thresh3": 1024}


def test_this_kernel_has_integers():
    assert "kernel.pid_max" in kernel.read()
