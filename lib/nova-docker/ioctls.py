# SPDX-License-Identifier: Apache-2.0
"""Keep a server from controlling its loop devices.

The kernel lets whoever can open a loop device detach it from its file, and give it
another one. The device would then be free for the next server, while this one can still
open it. A server gets devices while it runs as well, so all servers are kept from it.
"""

import os

# Of the kernel's linux/loop.h: the second byte of each of its ioctls
LOOP = 0x4C
SECOND_BYTE = range(8, 16)
COMMAND = 1  # the second argument of ioctl(2)
ALLOW, REFUSE = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
# Filters that let every call pass which no rule names
PASSING = (ALLOW, "SCMP_ACT_LOG", "SCMP_ACT_TRACE")

SUPPORTED = "/proc/sys/kernel/seccomp"
# Without them, a filter would refuse programs for these.
ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}


def forbid(spec):
    """Refuse the ioctls of loop devices in an OCI spec, whatever filter it has."""
    linux = spec["linux"]
    if not linux.get("seccomp"):
        if not os.path.isdir(SUPPORTED):
            return
        linux["seccomp"] = {
            "defaultAction": ALLOW,
            "architectures": ARCHITECTURES.get(os.uname().machine, []),
        }
    seccomp = linux["seccomp"]
    if seccomp["defaultAction"] in PASSING:
        rules = [rule(REFUSE, [masked(0xFF00, LOOP << 8)])]
    else:
        rules = narrowed(seccomp)
    seccomp["syscalls"] = [*(seccomp.get("syscalls") or ()), *rules]


def narrowed(seccomp):
    """Take ioctl out of the rules of a filter; return rules that replace it.

    The kernel ignores the upper half of the command, so it must not be compared. A mask
    compares for equality only: a byte is another one if one of its bits differs.
    """
    rules = []
    for found in seccomp.get("syscalls") or ():
        if "ioctl" in found["names"] and not found.get("args"):
            found["names"] = [name for name in found["names"] if name != "ioctl"]
            rules += [
                rule(found["action"], [masked(1 << bit, ~(LOOP << 8) & (1 << bit))])
                for bit in SECOND_BYTE
            ]
    seccomp["syscalls"] = [r for r in seccomp.get("syscalls") or () if r["names"]]
    return rules


def rule(action, args):
    """Return a rule for ioctl(2)."""
    return {"names": ["ioctl"], "action": action, "args": args}


def masked(mask, value):
    """Return the condition that some bits of the command have a value."""
    return {
        "index": COMMAND,
        "value": mask,
        "valueTwo": value,
        "op": "SCMP_CMP_MASKED_EQ",
    }
