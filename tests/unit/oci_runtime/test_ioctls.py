# SPDX-License-Identifier: Apache-2.0
"""The filter that keeps servers from controlling loop devices."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest

PATH = pathlib.Path(__file__).parents[3] / "lib/nova-docker/ioctls.py"

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"

# Of a terminal, a network interface and a block device
HARMLESS = (0x5401, 0x5413, 0x8927, 0x1260, 0x80081272, 0x40049409)
# LOOP_SET_FD, LOOP_CLR_FD, LOOP_SET_STATUS64, LOOP_CHANGE_FD and LOOP_CONFIGURE
LOOPS = (0x4C00, 0x4C01, 0x4C04, 0x4C06, 0x4C0A)


@pytest.fixture
def ioctls():
    spec = importlib.util.spec_from_file_location("ioctls", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def action(seccomp, command, name="ioctl"):
    """Return what a filter does with a call, as the kernel does."""
    for rule in seccomp["syscalls"]:
        if name in rule["names"] and all(
            # The kernel's registers have 64 bits; its ioctl looks at 32.
            command & arg["value"] == arg["valueTwo"]
            for arg in rule.get("args") or ()
            if (arg["index"], arg["op"]) == (1, "SCMP_CMP_MASKED_EQ")
        ):
            return rule["action"]
    return seccomp["defaultAction"]


def engines():
    """Return a filter as engines have it."""
    return {
        "defaultAction": ERRNO,
        "syscalls": [
            {"names": ["read", "ioctl", "write"], "action": ALLOW},
            {"names": ["personality"], "action": ALLOW, "args": [{"index": 0}]},
        ],
    }


@pytest.mark.parametrize("upper", [0, 1 << 32, 0xFFFFFFFF << 32])
@pytest.mark.parametrize(
    "seccomp", [engines(), {"defaultAction": ALLOW}, None], ids=["usual", "lax", "none"]
)
def test_only_the_ioctls_of_loop_devices_are_refused(ioctls, seccomp, upper):
    linux = {"seccomp": seccomp} if seccomp else {}
    ioctls.forbid({"linux": linux})
    found = linux["seccomp"]
    assert {action(found, upper | command) for command in LOOPS} == {ERRNO}
    assert {action(found, upper | command) for command in HARMLESS} == {ALLOW}


def test_all_other_calls_stay_as_they_are(ioctls):
    spec = {"linux": {"seccomp": engines()}}
    ioctls.forbid(spec)
    found = spec["linux"]["seccomp"]
    assert action(found, 0, "read") == ALLOW
    assert action(found, 0, "mount") == ERRNO
    assert found["syscalls"][1] == engines()["syscalls"][1]


def test_a_rule_for_ioctl_alone_is_replaced(ioctls):
    """runc rejects a rule without names."""
    seccomp = engines() | {"syscalls": [{"names": ["ioctl"], "action": ALLOW}]}
    ioctls.forbid({"linux": {"seccomp": seccomp}})
    assert all(rule["names"] for rule in seccomp["syscalls"])
    assert action(seccomp, LOOPS[0]) == ERRNO


def test_a_kernel_without_filters_gets_none(ioctls, monkeypatch, tmp_path):
    monkeypatch.setattr(ioctls, "SUPPORTED", str(tmp_path / "missing"))
    spec = {"linux": {}}
    ioctls.forbid(spec)
    assert spec == {"linux": {}}
