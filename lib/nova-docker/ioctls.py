# SPDX-License-Identifier: Apache-2.0
"""Keep a server from changing what the loop devices are that it has as volumes.

Whoever has such a device open can detach it from its file, and the host would use it
for another server's file next: the kernel asks for no capability, and the device cgroup
cannot tell system calls apart.
"""

import os

ALLOW, REFUSE = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
# What a process may do by default under a profile that lists what it may not
LENIENT = (ALLOW, "SCMP_ACT_LOG")
ENOTTY = 25
# The requests of linux/loop.h are 0x4C00 and its successors. The kernel ignores the
# upper half of the argument, so rules must not look at it.
LOOP, MASK = 0x4C00, 0xFF00
REQUEST = 1  # index of the argument of ioctl
# Only if the kernel has filters
SUPPORTED = "/proc/sys/kernel/seccomp"
# A filter ends processes of architectures that it does not name.
ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}


def forbid_loops(spec):
    """Refuse the requests to loop devices in an OCI spec, whatever its profile is.

    Rules of an operator's profile that look at arguments of ioctl stay as they are.
    """
    linux = spec["linux"]
    if not linux.get("seccomp"):
        if not os.path.isdir(SUPPORTED):
            return
        linux["seccomp"] = {
            "defaultAction": ALLOW,
            "architectures": ARCHITECTURES.get(os.uname().machine, []),
        }
    profile = linux["seccomp"]
    rules = [r for rule in profile.get("syscalls") or () for r in without_loops(rule)]
    if profile["defaultAction"] in LENIENT:
        rules.append(
            {
                "names": ["ioctl"],
                "action": REFUSE,
                "errnoRet": ENOTTY,
                "args": [equal(MASK, LOOP)],
            }
        )
    profile["syscalls"] = rules


def without_loops(rule):
    """Return what a rule becomes: it allows the same, but for these requests."""
    if (
        rule["action"] not in LENIENT
        or rule.get("args")
        or "ioctl" not in rule["names"]
    ):
        return [rule]
    others = {**rule, "names": [name for name in rule["names"] if name != "ioctl"]}
    # There is no "unequal" of some bits: any of them may differ.
    bits = [1 << place for place in range(16) if MASK & 1 << place]
    allowed = [
        {**rule, "names": ["ioctl"], "args": [equal(bit, ~LOOP & bit)]} for bit in bits
    ]
    return [others, *allowed] if others["names"] else allowed


def equal(mask, value):
    """Return a condition: some bits of the request have a value."""
    return {
        "index": REQUEST,
        "value": mask,
        "valueTwo": value,
        "op": "SCMP_CMP_MASKED_EQ",
    }
