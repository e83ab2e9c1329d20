# SPDX-License-Identifier: Apache-2.0
"""Mount files of the host with other owners.

The kernel can shift the ids of a mount (mount_setattr(2), MOUNT_ATTR_IDMAP), but not
those of an overlay; since Linux 5.19, it can shift those of the layers below. So an
overlay is mounted a second time, on the same upper directory and on shifted layers.

All this happens in a mount namespace of runc's own. It ends with the container: nothing
needs to be removed from the host.
"""

import contextlib
import ctypes
import errno
import os
import re
import stat

# On the host, both are empty. `runc exec` wants the path of the root to exist there.
STAGE, ROOT = "/run/nova-docker/stage", "/run/nova-docker/root"
STAGE_SIZE = "1m"

SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_IDMAP = 0x100000
CLONE_NEWNS = 0x20000
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 0x20, 0x1000
MS_REC, MS_SLAVE = 0x4000, 1 << 19
MS_FLAGS = {"nosuid": 2, "nodev": 4, "noexec": 8}
PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP = 28, 4

libc = ctypes.CDLL(None, use_errno=True)


class MountAttr(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")
    ]


class Stage:
    """Shifts mounts, which this process and its children see, and nobody else.

    Without a user namespace, the owners stay.
    """

    def __init__(self, userns, base):
        """
        :param userns: descriptor of a user namespace, or None
        :param base: the host's id of its root
        """
        self.userns, self.base, self.count = userns, base, 0
        for directory in STAGE, ROOT:
            os.makedirs(directory, exist_ok=True)
        check(libc.unshare(CLONE_NEWNS), "unshare")
        mount(None, "/", None, MS_REC | MS_SLAVE)
        mount("nova-docker", STAGE, "tmpfs", 0, f"mode=711,size={STAGE_SIZE}")

    def shift(self, source):
        """Return the path of a file or directory whose owners are shifted.

        No device node on it can be opened.
        """
        return self._shift(source, self._place(source))

    def shift_mount(self, mount):
        """Shift the source of a bind mount of an OCI spec."""
        place = self.shift(mount["source"])
        mount["source"] = place
        # runc changes the flags of a read-only mount to those in the spec. In a user
        # namespace the kernel refuses that if one of these is missing; elsewhere the
        # mount would lose it.
        flags = mount_at(place)[0].split(",")
        kept = [flag for flag in ("ro", *MS_FLAGS) if flag in flags]
        mount["options"] = [*mount.get("options", ()), *kept]

    def shift_root(self, source):
        """Shift the root file system, as :meth:`shift` does."""
        return self._shift(source, source if self.userns is None else ROOT)

    def copy(self, source):
        """Return the path of a copy in memory, which belongs to the server's root.

        All copies together can grow to :data:`STAGE_SIZE`.
        """
        place = self._place(source)
        with open(source, "rb") as original, open(place, "wb") as copy:
            copy.write(original.read())
        os.chmod(place, 0o644)
        os.chown(place, self.base, self.base)
        return place

    def node(self, number, mode):
        """Return the path of a new node of a block device, for root of the server.

        :param number: of the device
        :param mode: permissions
        """
        self.count += 1
        place = f"{STAGE}/{self.count}"
        os.mknod(place, mode | stat.S_IFBLK, number)
        os.chown(place, self.base, self.base)
        return place

    def _shift(self, source, place):
        found = mount_at(source)
        if self.userns is None:
            mount(source, place, None, MS_BIND | MS_REC)
        elif found and found[1] == "overlay":
            self._shift_overlay(source, *found, place)
        else:
            self._clone(source, place)
        forbid_devices(place)
        return place

    def _place(self, source):
        self.count += 1
        place = f"{STAGE}/{self.count}"
        if os.path.isdir(source):
            os.mkdir(place)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        return place

    def _clone(self, source, place):
        """Mount a copy of a mount with shifted ids."""
        tree = check(
            libc.syscall(
                *(SYS_OPEN_TREE, AT_FDCWD, os.fsencode(source)),
                OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC,
            ),
            f"open_tree {source}",
        )
        try:
            self._shift_ids(tree, source)
            check(
                libc.syscall(
                    *(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(place)),
                    MOVE_MOUNT_F_EMPTY_PATH,
                ),
                f"move_mount {place}",
            )
        finally:
            os.close(tree)

    def _shift_ids(self, tree, source):
        attr = MountAttr(set=MOUNT_ATTR_IDMAP, userns=self.userns)
        try:
            check(
                libc.syscall(
                    *(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH),
                    *(ctypes.byref(attr), ctypes.sizeof(attr)),
                ),
                f"shift the ids of {source}",
            )
        except OSError as error:
            if error.errno == errno.EINVAL:
                # The kernel's own message would not help.
                raise OSError(
                    errno.EINVAL,
                    f"the file system of {source} cannot shift the ids of files, which "
                    "a server with docker:isolation=user needs; use a server with "
                    "another isolation for it",
                ) from None
            raise

    def _shift_overlay(self, point, flags, _, options, place):
        """Mount an overlay once more, of shifted layers and on the same upper one."""
        options = dict(o.partition("=")[::2] for o in options.split(","))
        upper = options["upperdir"]
        # With many layers, the engine gives the kernel paths relative to its directory.
        base = os.path.dirname(os.path.dirname(upper if upper[0] == "/" else point))
        layers = self._place("/")
        self._clone(base, layers)

        def relative(path):
            path = os.path.relpath(path, base) if path[0] == "/" else path
            if path.startswith(".."):
                raise OSError(f"layer {path} is not below {base}")
            return path

        # The kernel clears a work directory at each mount.
        work = relative(options["workdir"]) + "-nova"
        os.makedirs(os.path.join(base, work), mode=0o700, exist_ok=True)
        data = [
            "lowerdir=" + ":".join(map(relative, options["lowerdir"].split(":"))),
            "upperdir=" + relative(upper),
            "workdir=" + work,
        ]
        if os.path.exists("/sys/module/overlay/parameters/index"):
            # As the engine does: else the kernel refuses an upper layer in use.
            data.append("index=off")
        before = os.open(".", os.O_RDONLY)
        os.chdir(layers)
        try:
            with owning_as(self.base):
                bits = sum(MS_FLAGS.get(flag, 0) for flag in flags.split(","))
                mount("overlay", place, "overlay", bits, ",".join(data))
        finally:
            os.fchdir(before)
            os.close(before)


@contextlib.contextmanager
def owning_as(uid):
    """Create files as a server's root, with the capabilities of the host's.

    The kernel creates files of an overlay (whiteouts, its work directory) as the user
    who mounts it. The host's root is nobody on the shifted layers, so that its overlay
    would be read-only.
    """
    check(libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "prctl")
    libc.setfsgid(uid)
    libc.setfsuid(uid)
    try:
        yield
    finally:
        libc.setfsuid(0)
        libc.setfsgid(0)
        check(libc.prctl(PR_SET_SECUREBITS, 0, 0, 0, 0), "prctl")


def mount_at(path):
    """Return what is mounted at a path itself, or None.

    :returns: (flags, type, options of the file system), in the form of proc(5)
    """
    path, found = os.path.realpath(path), None
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            left, _, right = line.rstrip("\n").partition(" - ")
            point, flags = left.split(" ")[4:6]
            if unescape(point) == path:
                kind, _, options = right.split(" ", 2)
                found = flags, kind, unescape(options)  # the last one is on top
    return found


def forbid_devices(point):
    """Let no device node on a mount be opened."""
    flags = mount_at(point)[0].split(",")
    bits = sum({**MS_FLAGS, "ro": MS_RDONLY}.get(flag, 0) for flag in flags)
    bits |= MS_FLAGS["nodev"]
    mount(None, point, None, MS_REMOUNT | MS_BIND | bits)


def unescape(text):
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def mount(source, target, kind, flags, data=None):
    words = (word and os.fsencode(word) for word in (source, target, kind, data))
    source, target, kind, data = words
    check(libc.mount(source, target, kind, flags, data), f"mount on {target}")


def check(result, what):
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result
