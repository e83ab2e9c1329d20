# SPDX-License-Identifier: Apache-2.0
"""Tar headers that Go might read differently are rejected."""

from __future__ import annotations

import tarfile

from tests.unit.docker_engine.archive.samples import LAYERS
from tests.unit.docker_engine.archive.samples import layer_refusal
from tests.unit.docker_engine.archive.samples import loaded
from tests.unit.docker_engine.archive.samples import oci
from tests.unit.docker_engine.archive.samples import refusal
from tests.unit.docker_engine.archive.samples import rewrite
from tests.unit.docker_engine.archive.samples import tar


def test_sparse_files_are_rejected():
    info = tarfile.TarInfo("sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    assert "contains a sparse file" in layer_refusal(info.tobuf() + bytes(1024))
    for key in ("GNU.sparse.map", "GNU.sparse.major"):
        info = tarfile.TarInfo("sparse")
        info.pax_headers = {key: "1"}
        data = info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
        assert "contains a sparse file" in layer_refusal(data)


def test_ambiguous_numbers_are_rejected():
    """Go skips leading zero bytes of a number; others stop there."""
    info = tarfile.TarInfo("sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(tarfile.TarInfo("cover").tobuf())
    for size in (b"\0" + b"00000002000", b"-0000000001\0", b"0x0000000400", b"1_0"):
        header[124:136] = size.ljust(12, b"\0")
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        layer = tar({"first": b""})[:512] + header + info.tobuf() + bytes(1024)
        assert "not a tar archive, or a corrupt one" in layer_refusal(layer)


def test_content_of_directories_links_and_devices_is_rejected():
    for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE):
        info = tarfile.TarInfo("first")
        info.type = kind
        info.size = 512
        assert "with content" in layer_refusal(info.tobuf() + bytes(1536))
    info = tarfile.TarInfo("directory/")
    info.size = 512
    assert "with content" in layer_refusal(info.tobuf() + bytes(1536))


def test_sizes_may_exceed_what_an_octal_field_can_hold():
    info = tarfile.TarInfo("pax")
    info.pax_headers = {"size": "700"}
    layer = info.tobuf(tarfile.PAX_FORMAT) + b"x" * 700 + bytes(324 + 1024)
    assert loaded(rewrite(tar(oci([layer]))))[1] == [layer]
    for value in ("-1", "7_0", " 7", "9" * 19):
        info.pax_headers = {"size": value}
        assert "malformed" in layer_refusal(
            info.tobuf(tarfile.PAX_FORMAT) + bytes(2048)
        )
    info = tarfile.TarInfo("gnu")
    info.size = 2**40
    layer = info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
    assert "truncated in the middle of a member" in layer_refusal(layer)
    for size in (-1, 2**63):
        info.size = size
        layer = LAYERS[0][:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
        assert "not a tar archive, or a corrupt one" in layer_refusal(layer)


def test_sizes_in_extended_headers_are_read_as_go_reads_them():
    """By its own header, each of these layers has one file of one block."""

    def extended(*records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
        body = b"".join(records)
        return block("x", kind, len(body)) + body.ljust(512, b"\0")

    def block(name: str, kind: bytes, size: int) -> bytes:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.size = size
        return info.tobuf(tarfile.GNU_FORMAT)

    two, empty = b"13 size=1000\n", b"8 size=\n"
    file = block("file", tarfile.REGTYPE, 5) + b"x" * 5 + bytes(507)
    end = bytes(1024)
    for start in (
        b"",
        extended(empty),
        extended(two, empty),
        extended(two) + extended(b"6 a=b\n"),
        extended(two) + extended(b"6 a=b\n", kind=b"g"),
        extended(two, kind=b"g"),
    ):
        layer = start + file + end
        assert loaded(rewrite(tar(oci([layer]))))[1] == [layer]
        layer = start + file[:512] + b"x" * 512 + block("y", b"S", 0) + end
        assert "contains a sparse file" in layer_refusal(layer)
    for name in ("", "a/", "a"):
        # A member without a name is a directory; an empty long name does not change it.
        layer = block("L", b"L", 0) + block(name, b"\0", 5) + bytes(512) + end
        if name == "a":
            assert loaded(rewrite(tar(oci([layer]))))[1] == [layer]
        else:
            assert "with content" in layer_refusal(layer)


def test_malformed_extended_headers_are_rejected():
    for body in (b"x", b"8 path=a\n", b"5 =a\n", b"99 path=a\n", b"0 path=a\n"):
        info = tarfile.TarInfo("x")
        info.type = tarfile.XHDTYPE
        info.size = len(body)
        layer = info.tobuf() + body.ljust(512, b"\0") + LAYERS[0]
        assert "malformed extended header" in layer_refusal(layer)


def test_oversized_extended_headers_are_rejected():
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        info = tarfile.TarInfo("x")
        info.type = kind
        info.size = 2**33
        head = info.tobuf(tarfile.GNU_FORMAT)
        assert "oversized extended header" in layer_refusal(head + bytes(1024))
        assert refusal(head + bytes(1024)) == "oversized extended header"
