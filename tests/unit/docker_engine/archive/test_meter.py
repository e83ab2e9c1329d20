# SPDX-License-Identifier: Apache-2.0
"""What an archive costs in processor time and in disk is bounded while it streams."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator

import pytest

from docker_engine.archive import ImageArchive
from docker_engine.archive import ImageTooLarge
from docker_engine.archive import meter
from tests.unit.docker_engine.archive.samples import TAG
from tests.unit.docker_engine.archive.samples import chunks
from tests.unit.docker_engine.archive.samples import classic
from tests.unit.docker_engine.archive.samples import layer_refusal
from tests.unit.docker_engine.archive.samples import link
from tests.unit.docker_engine.archive.samples import loaded
from tests.unit.docker_engine.archive.samples import oci
from tests.unit.docker_engine.archive.samples import refusal
from tests.unit.docker_engine.archive.samples import rewrite
from tests.unit.docker_engine.archive.samples import tar

MANY = 200_000
TOO_MANY = "too many tar headers or gzip members for the size of the archive"


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def extended(body: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return header("x", kind, len(body)) + body + bytes(-len(body) % 512)


def compressed(layer: bytes) -> dict[str, bytes | tarfile.TarInfo]:
    return oci([layer], blobs=[gzip.compress(layer)])


def unpacked(*layers: bytes) -> tuple[int, int]:
    """Return what an image takes: bytes of disk, inodes."""
    grown: list[tuple[int, int]] = []
    image = ImageArchive(
        chunks(tar(oci(list(layers)))), TAG, on_growth=lambda *by: grown.append(by)
    )
    assert loaded(b"".join(image))[1] == list(layers)
    sizes, entries = zip(*grown, strict=True)
    return sum(sizes), sum(entries)


class TestProcessorTime:
    @pytest.mark.parametrize(
        "layer",
        [
            header("a") * 50_000,
            header("a/", tarfile.DIRTYPE) * 50_000,
            header("a", b"g") * 50_000,
            header("a", b"x") * 50_000,
            header("a", b"L") * 50_000,
            (extended(b"6 a=b\n" * 170_000) + header("a")) * 4,
            extended(b"a/" * 500_000, b"L") * 4,
        ],
    )
    def test_headers_that_compress_well_are_bounded(self, layer):
        assert TOO_MANY in refusal(compressed(layer))

    def test_deep_names_are_bounded(self):
        """The engine creates every directory of a name."""
        names = (b"%d/" % n + b"d/" * 2000 for n in range(20))
        layer = b"".join(extended(name, b"L") + header("a") for name in names)
        assert TOO_MANY in refusal(compressed(layer))

    def test_gzip_members_are_bounded(self):
        layer = tar({"a": b""})
        blob = gzip.compress(layer) + gzip.compress(b"") * MANY
        assert TOO_MANY in refusal(oci([layer], blobs=[blob]))

    def test_a_gzip_member_for_each_file_is_accepted(self):
        """This is how estargz and pigz write layers."""
        entries = [header(f"f{n}") for n in range(3000)]
        layer = b"".join([*entries, bytes(1024)])
        blob = b"".join(gzip.compress(entry) for entry in [*entries, bytes(1024)])
        assert loaded(rewrite(tar(oci([layer], blobs=[blob]))))[1] == [blob]

    def test_time_stamps_and_attributes_of_each_file_are_accepted(self):
        def entries() -> Iterator[bytes]:
            for number in range(1500):
                info = tarfile.TarInfo(f"usr/share/{number}")
                info.pax_headers = {
                    **dict.fromkeys(("mtime", "atime", "ctime"), "1700000000.123456"),
                    "SCHILY.xattr.user.name": "value",
                }
                yield info.tobuf(tarfile.PAX_FORMAT)

        assert rewrite(tar(compressed(b"".join([*entries(), bytes(1024)]))))

    def test_what_is_received_may_cost_what_its_length_allows(self, monkeypatch):
        monkeypatch.setattr(meter, "STEP_ALLOWANCE", 10)
        layer = header("a") * 1000 + bytes(1024)
        assert loaded(rewrite(tar(oci([layer]))))[1] == [layer]
        assert TOO_MANY in refusal(compressed(layer))

    def test_expansion_is_bounded(self, monkeypatch):
        monkeypatch.setattr(meter, "EXPANSION_ALLOWANCE", 1024 * 1024)
        layer = tar({"zeros": bytes(8 * 1024 * 1024)})
        why = refusal(compressed(layer))
        assert "expand to more than 16 times the size of the archive" in why
        assert loaded(rewrite(tar(oci([layer]))))[1] == [layer]

    def test_a_layer_that_is_used_often_counts_as_expansion(self, monkeypatch):
        monkeypatch.setattr(meter, "EXPANSION_ALLOWANCE", 1024 * 1024)
        layer = tar({"file": b"x" * 1024 * 1024})
        assert rewrite(tar(oci([layer] * 10)))
        assert "expand to more than 16 times" in refusal(oci([layer] * 100))

    def test_an_index_with_a_million_images_is_rejected(self):
        content = b"[" + b"{}," * 300_000 + b"{}]"
        why = refusal(classic() | {"manifest.json": content})
        assert why == "manifest.json is not valid JSON"


class TestDisk:
    def test_files_take_whole_blocks_and_every_entry_an_inode(self):
        layer = tar(
            {
                "bin": link("", tarfile.DIRTYPE),
                "bin/a": b"x",
                "bin/b": b"x" * 4096,
                "bin/c": link("a"),
                "bin/d": link("bin/a", tarfile.LNKTYPE),
                "bin/.wh.e": b"",
            }
        )
        assert unpacked(layer) == (len(layer) + 4095 + 6 * 4096, 6)

    def test_a_layer_that_is_used_twice_counts_twice(self):
        layer = tar({"a": b"x" * 5000})
        once, entries = unpacked(layer)
        assert unpacked(layer, layer) == (2 * once, 2 * entries)

    def test_directories_that_a_name_implies_count(self):
        assert unpacked(tar({"a/b/c/d": b""}))[1] == 4
        assert unpacked(tar({"/a/b/": b"", "./a/b/c": b"", "a/b/d": b""}))[1] == 4
        # Going back up creates nothing.
        assert unpacked(tar({"a/b/c": b"", "a/d": b"", "e": b""}))[1] == 5
        assert unpacked(tar({"ab/c": b"", "a/c": b""}))[1] == 4

    def test_a_name_that_no_engine_could_create_is_rejected(self):
        for kind in (b"L", b"K"):
            layer = extended(b"a" * 4096, kind) + header("a") + bytes(1024)
            assert "longer than 4095 bytes" in layer_refusal(layer)

    def test_the_number_of_entries_is_bounded(self, monkeypatch):
        monkeypatch.setattr(meter, "MAX_ENTRIES", 1000)
        layer = header("a") * 500 + bytes(1024)
        assert unpacked(layer, layer)[1] == 1000
        assert "more than 1000 files" in refusal(oci([layer] * 3))

    @pytest.mark.parametrize(
        ("layers", "size"),
        [
            # By content, by entries, by what is repeated, and by a header's content.
            ([tar({"file": b"x" * 300_000})], 300_000),
            ([header("a") * 200 + bytes(1024)], 800_000),
            ([tar({"file": b"x" * 100_000})] * 3, 300_000),
            ([extended(b"200011 user=" + b"x" * 199_998 + b"\n")], 200_000),
        ],
    )
    def test_an_image_must_fit(self, layers, size):
        archive = tar(oci(layers))

        def load(max_unpacked: int) -> bytes:
            image = ImageArchive(chunks(archive), TAG, max_unpacked=max_unpacked)
            return b"".join(image)

        with pytest.raises(ImageTooLarge) as caught:
            load(size)
        assert size < caught.value.size < 2 * size
        if len(layers) == 1 and layers[0].endswith(bytes(1024)):
            assert load(2 * size)

    def test_a_bomb_is_not_read_to_its_end(self):
        """Not even the rest of the chunk is expanded."""
        layer = tar({"zeros": bytes(16 * 1024 * 1024)})
        image = ImageArchive(
            chunks(tar(compressed(layer)), 65536), TAG, max_unpacked=1024 * 1024
        )
        with pytest.raises(ImageTooLarge) as caught:
            list(image)
        assert caught.value.size < 2 * 1024 * 1024

    def test_growth_can_be_refused_before_the_archive_is_loadable(self):
        def refuse(size: int, entries: int) -> None:
            raise OSError("the disk is full")

        sent = []
        with pytest.raises(OSError, match="the disk is full"):
            sent.extend(ImageArchive(chunks(tar(oci())), TAG, on_growth=refuse))
        assert b"manifest.json" not in b"".join(sent)

    def test_growth_is_reported_while_the_archive_streams(self):
        grown: list[int] = []
        layer = tar({"file": b"x" * 10 * 1024 * 1024})
        image = ImageArchive(
            chunks(tar(oci([layer])), 65536),
            TAG,
            on_growth=lambda n, _: grown.append(n),
        )
        for _ in image:
            if grown:
                break
        assert len(grown) == 1 and grown[0] < 5 * 1024 * 1024
