# SPDX-License-Identifier: Apache-2.0
"""Bind the files of lxcfs over those files of /proc that show the whole host.

lxcfs is a daemon of the host. Its files have, for whoever reads them, the CPUs, memory
and uptime of the reader's container. It may have ended, or hang: that must not keep a
container from starting, which then has the kernel's own files.
"""

import contextlib
import os
import select
import signal

KIND = "fuse.lxcfs"
# runc allows mounts on these files of /proc.
FILES = (
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/sys/devices/system/cpu/online",
)
OPTIONS = ("bind", "rprivate", "ro", "nosuid", "nodev", "noexec")
SECONDS_TO_ANSWER = 1


def add(spec, point, *, restores=False):
    """Add the files of lxcfs to an OCI spec, if it answers.

    Their ids are not shifted, which FUSE can do only if its daemon asks for it: as the
    kernel's files, they belong to root of the host, and everyone may read them.

    :param point: where lxcfs is mounted; anything else that is there is left alone
    :param restores: whether the container is restored, for which it must have all
        mounts that it has had: without lxcfs, those of the kernel's own files
    """
    found = readable(point) if is_mounted(point) else ()
    for file in FILES if restores else found:
        spec.setdefault("mounts", []).append(
            {
                "type": "bind",
                "destination": file,
                "source": point + file if file in found else file,
                "options": list(OPTIONS),
            }
        )


def is_mounted(point):
    """Tell whether lxcfs is mounted at a path, and ask it nothing."""
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            if left.split(" ")[4] == point and right.split(" ")[0] == KIND:
                return True
    return False


def readable(point):
    """Return which files lxcfs has, none if it does not answer in time.

    Nothing but its end interrupts a process that waits for lxcfs: a child asks.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            # The engine waits until nobody has runc's output open any more.
            nothing = os.open("/dev/null", os.O_RDWR)
            for descriptor in range(3):
                os.dup2(nothing, descriptor)
            os.write(theirs, " ".join(filter(opener(point), FILES)).encode())
        os._exit(0)
    os.close(theirs)
    try:
        answered = select.select([ours], [], [], SECONDS_TO_ANSWER)[0]
        return os.read(ours, 4096).decode().split() if answered else []
    finally:
        os.close(ours)
        # It is not waited for, which might be for ever. The engine reaps it.
        os.kill(child, signal.SIGKILL)


def opener(point):
    """Return a function that tells whether a file of lxcfs can be opened."""

    def opens(file):
        # The kernel answers other questions from its cache, after lxcfs has ended too.
        with contextlib.suppress(OSError):
            os.close(os.open(point + file, os.O_RDONLY))
            return True
        return False

    return opens
