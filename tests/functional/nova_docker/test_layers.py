# SPDX-License-Identifier: Apache-2.0
"""Layers that move between hosts: all of a server's files, and nothing outside them."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pathlib
import shutil
import socket
import stat
import struct
import subprocess
import tarfile
import tempfile
from concurrent import futures

import pytest

from nova_docker.migration import transport
from nova_docker.privsep import layers
from nova_docker.privsep import layers_admin

SERVER = "nova-1"
# Permitted CAP_NET_BIND_SERVICE, effective, version 2
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


@pytest.fixture(scope="module", autouse=True)
def as_root():
    layers_admin.set_client_mode(False)


@pytest.fixture
def place(tmp_path):
    """A directory on a disk whose file system has all kinds of attributes."""
    # pytest's own is below directories that only root can enter; that does not matter.
    return tmp_path


@pytest.fixture
def root(place):
    """The engine's directory on the other host."""
    found = place / "engine"
    found.mkdir()
    return found


@pytest.fixture
def layer(place):
    """The layer of a server that leaves."""
    found = place / "layer"
    found.mkdir()
    return found


@pytest.fixture
def canary(place):
    """A directory outside, with a file."""
    found = place / "canary"
    found.mkdir()
    (found / "file").write_text("as it was")

    def untouched():
        assert [path.name for path in found.iterdir()] == ["file"]
        assert (found / "file").read_text() == "as it was"
        assert (found / "file").stat().st_nlink == 1

    found_path = found
    yield found_path
    untouched()


def packed(layer):
    """Return what leaves of a layer."""
    data = io.BytesIO()

    def pack(address):
        layers.pack(str(layer), address)

    with transport.meeting(pack) as (stream, finish):
        while piece := stream.recv(1 << 20):
            data.write(piece)
        finish()
    return data.getvalue()


def unpack(root, data):
    """Let data arrive; return the directory in which it is."""

    def work(address):
        layers.unpack(str(root), SERVER, address)

    with transport.meeting(work) as (stream, finish):
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        finish()
    return root / layers.STAGE / SERVER


def moved(layer, root):
    return unpack(root, packed(layer))


def archive(*members):
    """Return a tar archive of names, types and what else TarInfo has, and content."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, values, *content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            data = content[0] if content else b""
            info.size = len(data)
            for key, value in values.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def attempt(root, data):
    """Let an archive arrive that may be refused; return the error, if any."""
    try:
        unpack(root, data)
    except OSError as error:
        return str(error)
    return ""


def test_files_keep_their_owners_modes_and_times(layer, root):
    layer.chmod(0o751)
    os.chown(layer, 100_001, 100_002)
    path = layer / "program"
    path.write_bytes(b"#!")
    os.chown(path, 70_000, 4_000_000_000)
    path.chmod(0o6755)
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    os.symlink("/etc/passwd", layer / "link")
    os.lchown(layer / "link", 5, 6)
    (layer / "sticky").mkdir()
    (layer / "sticky").chmod(0o1777)
    found = moved(layer, root)
    top, program = found.stat(), (found / "program").stat()
    assert (top.st_uid, top.st_gid, stat.S_IMODE(top.st_mode)) == (
        100_001,
        100_002,
        0o751,
    )
    assert (program.st_uid, program.st_gid) == (70_000, 4_000_000_000)
    assert stat.S_IMODE(program.st_mode) == 0o6755
    assert program.st_mtime_ns == 1_234_567_890_123_456_789
    assert os.readlink(found / "link") == "/etc/passwd"
    assert (found / "link").lstat().st_uid == 5
    assert stat.S_IMODE((found / "sticky").stat().st_mode) == 0o1777


def test_overlayfs_still_knows_what_was_deleted(layer, root):
    os.mknod(layer / "deleted", stat.S_IFCHR | 0o000, os.makedev(0, 0))
    (layer / "replaced").mkdir()
    os.setxattr(layer / "replaced", "trusted.overlay.opaque", b"y")
    os.setxattr(layer / "replaced", "trusted.overlay.origin", b"\0handle")
    found = moved(layer, root)
    whiteout = (found / "deleted").lstat()
    assert stat.S_ISCHR(whiteout.st_mode)
    assert whiteout.st_rdev == 0
    assert os.listxattr(found / "replaced") == ["trusted.overlay.opaque"]
    assert os.getxattr(found / "replaced", "trusted.overlay.opaque") == b"y"


def test_attributes_and_capabilities_of_files_arrive(layer, root):
    path = layer / "program"
    path.write_bytes(b"")
    os.chown(path, 7, 7)
    os.setxattr(path, "user.note", b"\0binary\xff")
    os.setxattr(path, "security.capability", CAPABILITY)
    found = moved(layer, root) / "program"
    assert os.getxattr(found, "user.note") == b"\0binary\xff"
    assert os.getxattr(found, "security.capability") == CAPABILITY


def test_access_control_lists_arrive(layer, root):
    path = layer / "file"
    path.write_bytes(b"")
    entries = ((1, 6, -1), (2, 4, 1234), (4, 4, -1), (0x10, 4, -1), (0x20, 4, -1))
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHi", *entry) for entry in entries
    )
    os.setxattr(path, "system.posix_acl_access", acl)
    found = moved(layer, root) / "file"
    assert os.getxattr(found, "system.posix_acl_access") == acl


def test_links_fifos_and_odd_names_arrive(layer, root):
    (layer / "one").write_bytes(b"1")
    os.link(layer / "one", layer / "two")
    os.mkfifo(layer / "fifo")
    odd = os.fsdecode(b"a\nb\xff -\\x")
    (layer / odd).write_bytes(b"odd")
    with socket.socket(socket.AF_UNIX) as stream:
        os.chdir(layer)
        stream.bind("socket")
        os.chdir("/")
    found = moved(layer, root)
    assert (found / "one").stat().st_ino == (found / "two").stat().st_ino
    assert stat.S_ISFIFO((found / "fifo").stat().st_mode)
    assert (found / odd).read_bytes() == b"odd"


def test_holes_take_no_time_and_no_space(layer, root):
    with (layer / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(10 << 30)
        file.write(b"end")
    size, files = layers.size(str(layer))
    assert size < 1 << 20
    assert files == 2
    data = packed(layer)
    assert len(data) < 1 << 20
    found = unpack(root, data) / "sparse"
    assert found.stat().st_size == (10 << 30) + 3
    assert found.stat().st_blocks * 512 < 1 << 20


def test_data_arrives_as_it_was(layer, root):
    content = os.urandom(20 << 20)
    (layer / "data").write_bytes(content)
    found = moved(layer, root) / "data"
    assert hashlib.sha256(found.read_bytes()).digest() == (
        hashlib.sha256(content).digest()
    )


def test_the_next_attempt_replaces_the_last(layer, root):
    (layer / "old").write_bytes(b"")
    moved(layer, root)
    (layer / "old").rename(layer / "new")
    found = moved(layer, root)
    assert os.listdir(found) == ["new"]


# An attacker's archives


HOSTILE = {
    "parent": lambda canary: [(f"../../../{canary.name}/new", tarfile.REGTYPE, {})],
    "absolute": lambda canary: [(f"{canary}/new", tarfile.REGTYPE, {}, b"x")],
    "symlink and a file through it": lambda canary: [
        ("link", tarfile.SYMTYPE, {"linkname": str(canary)}),
        ("link/new", tarfile.REGTYPE, {}, b"x"),
    ],
    "relative symlink and a file through it": lambda canary: [
        ("link", tarfile.SYMTYPE, {"linkname": f"../../../{canary.name}"}),
        ("link/new", tarfile.REGTYPE, {}, b"x"),
    ],
    "chain of symlinks": lambda canary: [
        ("a", tarfile.DIRTYPE, {"mode": 0o755}),
        ("a/up", tarfile.SYMTYPE, {"linkname": ".."}),
        ("up", tarfile.SYMTYPE, {"linkname": "a/up/../.."}),
        (f"up/../{canary.name}/new", tarfile.REGTYPE, {}, b"x"),
        (f"up/{canary.name}/new", tarfile.REGTYPE, {}, b"x"),
    ],
    "a file over a symlink": lambda canary: [
        ("link", tarfile.SYMTYPE, {"linkname": f"{canary}/file"}),
        ("link", tarfile.REGTYPE, {}, b"changed"),
    ],
    "a hard link": lambda canary: [
        ("hard", tarfile.LNKTYPE, {"linkname": f"{canary}/file"}),
        ("hard", tarfile.REGTYPE, {}, b"changed"),
    ],
    "a hard link through a symlink": lambda canary: [
        ("link", tarfile.SYMTYPE, {"linkname": str(canary)}),
        ("hard", tarfile.LNKTYPE, {"linkname": "link/file"}),
    ],
    "the directory itself": lambda canary: [
        (".", tarfile.SYMTYPE, {"linkname": str(canary)}),
        ("./new", tarfile.REGTYPE, {}, b"x"),
    ],
    "a mode through a symlink": lambda canary: [
        ("link", tarfile.SYMTYPE, {"linkname": str(canary)}),
        ("link", tarfile.DIRTYPE, {"mode": 0o777}),
    ],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_archive_changes_nothing_outside(root, canary, name):
    before = canary.stat()
    attempt(root, archive(*HOSTILE[name](canary)))
    after = canary.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    layers.discard(str(root), SERVER)
    assert not os.listdir(root / layers.STAGE)


@pytest.mark.parametrize("kind", [tarfile.BLKTYPE, tarfile.CHRTYPE])
def test_an_archive_makes_no_devices(root, kind):
    device = ("device", kind, {"devmajor": 1, "devminor": 3, "mode": 0o666})
    assert "Operation not permitted" in attempt(root, archive(device))
    assert not (root / layers.STAGE / SERVER / "device").exists()


def test_an_archive_that_is_cut_off_is_an_error(layer, root):
    (layer / "data").write_bytes(os.urandom(1 << 20))
    data = packed(layer)
    assert "Unexpected EOF" in attempt(root, data[: len(data) // 2])


def confined(command, directory, **more):
    layers._run(["sh", "-c", command], directory=str(directory), confined=True, **more)


@pytest.mark.parametrize(
    "command",
    [
        "echo changed > {canary}/file",
        "echo x > {canary}/new",
        "ln -s {canary} link && echo changed > link/file",
        "ln {canary}/file hard",
        "mv {canary}/file .",
        "chmod 777 {canary}",
        "chown 7 {canary}/file",
        "echo x > ../new",
        "mknod device b 7 0",
        "mknod device c 1 3",
        "echo 1 > /proc/sys/vm/drop_caches",
        "mkdir /proc/self/cwd/../../new",
    ],
)
def test_whatever_unpacks_can_write_nowhere_else(root, canary, command):
    """The archives above never get so far as this, with the tar of today."""
    stage = root / "stage"
    stage.mkdir()
    with pytest.raises(OSError, match=r"Read-only|not permitted|cross-device"):
        confined(command.format(canary=canary), stage)
    confined("echo yes > inside && chown 7 inside && mknod whiteout c 0 0", stage)
    assert (stage / "inside").read_text() == "yes\n"
    assert not (root / "new").exists()


def test_the_server_gets_what_has_arrived(layer, root, place):
    layer.chmod(0o750)
    (layer / "file").write_text("moved")
    moved(layer, root)
    own = place / "own"
    own.mkdir()
    layers.adopt(str(root), SERVER, str(own))
    assert (own / "file").read_text() == "moved"
    assert stat.S_IMODE(own.stat().st_mode) == 0o750
    assert not os.listdir(root / layers.STAGE)


def test_a_server_that_has_files_keeps_them(layer, root, place):
    moved(layer, root)
    own = place / "own"
    own.mkdir()
    (own / "file").write_text("own")
    with pytest.raises(OSError, match="not empty"):
        layers.adopt(str(root), SERVER, str(own))
    assert (own / "file").read_text() == "own"


def test_a_server_of_which_nothing_has_arrived_keeps_its_directory(root, place):
    own = place / "own"
    own.mkdir()
    os.chown(own, 5, 6)
    with pytest.raises(FileNotFoundError):
        layers.adopt(str(root), SERVER, str(own))
    assert (own.stat().st_uid, own.stat().st_gid) == (5, 6)


def test_deep_directories_are_removed(root):
    stage = root / layers.STAGE / SERVER
    stage.mkdir(parents=True)
    subprocess.run(
        ["sh", "-c", "for i in $(seq 3000); do mkdir d && cd -P d; done"],
        cwd=stage,
        check=True,
    )
    layers.discard(str(root), SERVER)
    assert not stage.exists()


@pytest.fixture
def disk(request):
    """Mounts a new file system; takes its type, its size and its options."""
    with tempfile.TemporaryDirectory(prefix="nd-") as name:
        directory = pathlib.Path(name, "mounted")
        directory.mkdir()
        made = []

        def mount(kind, size_mb):
            image = pathlib.Path(name, "disk")
            with image.open("wb") as file:
                file.truncate(size_mb << 20)
            subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
            subprocess.run(["mount", "-o", "loop", image, directory], check=True)
            made.append(directory)
            return directory

        yield mount
        for path in made:
            subprocess.run(["umount", path], check=True)


def test_a_full_disk_is_the_reason(layer, disk):
    (layer / "data").write_bytes(os.urandom(40 << 20))
    full = disk("ext4", 16)
    data = packed(layer)
    with pytest.raises(OSError, match="No space left on device") as caught:
        unpack(full, data)
    assert caught.value.errno == errno.ENOSPC
    layers.discard(str(full), SERVER)
    assert not os.listdir(full / layers.STAGE)


@pytest.mark.skipif(not shutil.which("mkfs.xfs"), reason="xfsprogs is not installed")
def test_a_server_with_a_disk_quota_gets_its_files_in_the_quota(layer, disk):
    """xfs refuses to move files between projects, even if it enforces no quota."""
    (layer / "deep/er").mkdir(parents=True)
    (layer / "deep/er/data").write_bytes(os.urandom(3 << 20))
    os.mkfifo(layer / "deep/fifo")
    os.symlink("/etc/passwd", layer / "link")
    engine = disk("xfs", 400)
    own = engine / "container"
    own.mkdir()
    # As the engine does for a container, see its projectquota.go
    subprocess.run(["chattr", "-p", "7", "+P", own], check=True)
    (own / "diff").mkdir()
    moved(layer, engine)
    layers.adopt(str(engine), SERVER, str(own / "diff"))
    assert (own / "diff/deep/er/data").stat().st_size == 3 << 20
    for path in "diff", "diff/deep/er", "diff/deep/er/data":
        listed = subprocess.run(
            ["lsattr", "-d", "-p", own / path],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert listed.split()[0] == "7"


def test_the_work_of_several_servers_is_independent(layer, root):
    (layer / "file").write_text("x")
    data = packed(layer)

    def receive(server):
        def work(address):
            layers.unpack(str(root), server, address)

        with transport.meeting(work) as (stream, finish):
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            finish()

    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(receive, [f"nova-{n}" for n in range(4)]))
    assert len(os.listdir(root / layers.STAGE)) == 4
