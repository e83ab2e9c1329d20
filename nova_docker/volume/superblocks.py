# SPDX-License-Identifier: Apache-2.0
"""What the first bytes of a volume say about its file system: pure decisions.

A tenant may have written every byte. The kernel checks what it mounts, and its code has
bugs all the same; here, only what is no bug and must not be is refused: a file system
can name other devices, options of its mount, and how long the mount shall wait.
"""

from __future__ import annotations

import struct

#: Bytes that the functions need
SIZE = 4096

EXT4, XFS = "ext4", "xfs"
#: The file systems that are mounted: by what blkid calls them, the kernel's driver.
#: They cannot consist of several devices, and the kernel can shift their ids.
DRIVERS = {"ext2": EXT4, "ext3": EXT4, "ext4": EXT4, "xfs": XFS}

# Whatever the file system itself says. In the server, it is the same.
_ALWAYS = ("nosuid", "nodev")
_OPTIONS = {
    # It could ask for a panic of the kernel.
    EXT4: ("errors=remount-ro",),
    # A copy of a volume, from a snapshot, has the same UUID.
    XFS: ("nouuid",),
}
# A journal is not replayed, since nothing is written.
_READ_ONLY = {EXT4: ("ro", "noload"), XFS: ("ro", "norecovery")}

_EXT_START = 1024
_EXT_COMPAT, _EXT_INCOMPAT = 0x5C, 0x60
_EXT_JOURNAL_DEVICE, _EXT_MOUNT_OPTIONS = 0xE4, 0x200
_EXT_HAS_JOURNAL, _EXT_IS_JOURNAL, _EXT_MMP, _EXT_64BIT = 0x4, 0x8, 0x100, 0x80
_EXT_UUID = slice(0x68, 0x78)


class Unmountable(Exception):
    """The file system is not mounted; the message gives the reason."""


def driver_of(kind: str | None) -> str:
    """Return the kernel's driver of a file system.

    :param kind: what blkid has found, None if it is nothing of which it is certain
    :raises Unmountable: if it is none that is mounted
    """
    if kind not in DRIVERS:
        raise Unmountable(
            f"it contains {kind or 'data, but no file system'}, and not one of "
            f"{', '.join(DRIVERS)}. It is neither mounted nor formatted; use it from a "
            "server with docker:volume_mode=device"
        )
    return DRIVERS[kind]


def options(driver: str, *, read_only: bool) -> str:
    """Return the options with which a file system is mounted, comma-separated.

    :param driver: as :func:`driver_of` returns it
    """
    own = _READ_ONLY[driver] if read_only else ("rw",)
    return ",".join([*_ALWAYS, *own, *_OPTIONS[driver]])


def refuse(driver: str, first: bytes) -> None:
    """Refuse a file system that is more than one device, or sets up its own mount.

    :param driver: as :func:`driver_of` returns it
    :param first: the first :data:`SIZE` bytes of the volume
    :raises Unmountable: if so
    """
    if driver != EXT4:
        return
    block = first[_EXT_START:]
    compat, incompat = (_u32(block, at) for at in (_EXT_COMPAT, _EXT_INCOMPAT))
    if incompat & _EXT_IS_JOURNAL or (
        compat & _EXT_HAS_JOURNAL and _u32(block, _EXT_JOURNAL_DEVICE)
    ):
        raise Unmountable("its journal is on another device")
    if incompat & _EXT_MMP:
        raise Unmountable(
            "it has the feature mmp, which makes a mount wait; clear it with tune2fs, "
            "from a server with docker:volume_mode=device"
        )
    if block[_EXT_MOUNT_OPTIONS]:
        raise Unmountable(
            "it contains mount options of its own; clear them with tune2fs -E "
            "mount_opts=, from a server with docker:volume_mode=device"
        )


def size(driver: str, first: bytes) -> int:
    """Return the size of a file system in bytes.

    :param driver: as :func:`driver_of` returns it
    :param first: the first :data:`SIZE` bytes of the volume
    """
    if driver == XFS:
        block_size, blocks = struct.unpack_from(">IQ", first, 4)
        return int(block_size * blocks)
    block = first[_EXT_START:]
    high = _u32(block, 0x150) if _u32(block, _EXT_INCOMPAT) & _EXT_64BIT else 0
    # More than 64 KiB is no block size.
    return (_u32(block, 4) | high << 32) << 10 + min(_u32(block, 0x18), 6)


def ext_uuid(first: bytes) -> bytes:
    """Return the UUID of a file system of ext4.

    :param first: the first :data:`SIZE` bytes of the volume
    """
    return first[_EXT_START:][_EXT_UUID]


def _u32(block: bytes, at: int) -> int:
    (value,) = struct.unpack_from("<I", block, at)
    return int(value)
