# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct

import pytest

from nova_docker.volume import superblocks

JOURNAL = 0x4


def ext4(**fields):
    """Return the first bytes of a file system, with some fields of its superblock."""
    places = {
        "blocks": 0x4,
        "block_size": 0x18,
        "compat": 0x5C,
        "incompat": 0x60,
        "journal_device": 0xE4,
        "blocks_high": 0x150,
        "mount_options": 0x200,
    }
    first = bytearray(superblocks.SIZE)
    for name, value in fields.items():
        struct.pack_into("<I", first, 1024 + places[name], value)
    return bytes(first)


@pytest.mark.parametrize(
    ("kind", "driver"),
    [("ext2", "ext4"), ("ext3", "ext4"), ("ext4", "ext4"), ("xfs", "xfs")],
)
def test_file_systems_of_one_device_are_mounted(kind, driver):
    assert superblocks.driver_of(kind) == driver


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (None, "data, but no file system"),
        ("btrfs", "btrfs"),
        ("vfat", "vfat"),
        ("crypto_LUKS", "crypto_LUKS"),
        ("a partition table (gpt)", "gpt"),
        ("several signatures", "several signatures"),
    ],
)
def test_nothing_else_is_mounted(kind, named):
    with pytest.raises(superblocks.Unmountable, match="docker:volume_mode=device") as e:
        superblocks.driver_of(kind)
    assert named in str(e.value)


@pytest.mark.parametrize("driver", ["ext4", "xfs"])
@pytest.mark.parametrize("read_only", [True, False])
def test_options_protect_host_and_server(driver, read_only):
    found = superblocks.options(driver, read_only=read_only).split(",")
    assert {"nosuid", "nodev"} <= set(found)
    assert ("ro" in found) == read_only
    assert ("rw" in found) != read_only
    assert ("errors=remount-ro" in found) == (driver == "ext4")
    assert read_only == bool({"noload", "norecovery"} & set(found))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"compat": JOURNAL, "journal_device": 0x0700}, "journal is on another"),
        ({"incompat": 0x8}, "journal is on another"),
        ({"incompat": 0x100}, "mmp"),
        ({"mount_options": 0x6F727265}, "mount options of its own"),
    ],
)
def test_what_a_file_system_must_not_say(fields, reason):
    with pytest.raises(superblocks.Unmountable, match=reason):
        superblocks.refuse("ext4", ext4(**fields))


def test_what_a_file_system_may_say():
    superblocks.refuse("ext4", ext4(compat=JOURNAL, incompat=0x2C2))
    superblocks.refuse("xfs", b"\xff" * superblocks.SIZE)


def test_sizes():
    assert superblocks.size("ext4", ext4(blocks=16, block_size=2)) == 16 * 4096
    high = ext4(blocks=16, block_size=2, blocks_high=1)
    assert superblocks.size("ext4", high) == 16 * 4096
    high = ext4(blocks=16, block_size=2, blocks_high=1, incompat=0x80)
    assert superblocks.size("ext4", high) == (16 + (1 << 32)) * 4096
    # Nonsense is a number, too.
    superblocks.size("ext4", b"\xff" * superblocks.SIZE)
    xfs = b"XFSB" + struct.pack(">IQ", 4096, 80)
    assert superblocks.size("xfs", xfs) == 80 * 4096
