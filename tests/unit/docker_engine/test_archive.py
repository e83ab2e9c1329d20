# SPDX-License-Identifier: Apache-2.0
"""What a docker-save archive becomes on its way to the engine, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import random
import tarfile
import tracemalloc
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import pytest

from docker_engine.archive import ArchiveError
from docker_engine.archive import ImageArchive
from docker_engine.archive import image as archive

TAG = "nova-glance/8f6d1c9e-3d3c-4f0c-9d11-54be4f0bd9dd:latest"
FOREIGN = "library/debian:latest"

Members = dict[str, bytes | tarfile.TarInfo]


def tar(members: Members, format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of files (bytes) and of whatever a TarInfo says."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as file:
        for name, member in members.items():
            if isinstance(member, tarfile.TarInfo):
                member.name = name
                file.addfile(member)
            else:
                header = tarfile.TarInfo(name)
                header.size = len(member)
                file.addfile(header, io.BytesIO(member))
    return out.getvalue()


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type = kind
    info.linkname = target
    return info


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


LAYERS = [tar({"bin/sh": b"#!"}), tar({"etc/motd": b"hello\n" * 1000})]


def config(layers: Iterable[bytes] = LAYERS, **values: Any) -> bytes:
    return json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": {"Cmd": ["sh"], "Labels": {"a": "1", "A": "2"}},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{sha256(layer)}" for layer in layers],
            },
        }
        | values
    ).encode()


def classic(layers: list[bytes] = LAYERS, image: bytes | None = None) -> Members:
    """The members of what Docker before 25 saves."""
    image = config(layers) if image is None else image
    members: Members = {}
    names = []
    for number, layer in enumerate(layers):
        place = sha256(b"%d" % number)
        names.append(f"{place}/layer.tar")
        members |= {
            place: link("", tarfile.DIRTYPE),
            f"{place}/VERSION": b"1.0",
            f"{place}/json": json.dumps({"id": place}).encode(),
            f"{place}/layer.tar": layer,
        }
    name = f"{sha256(image)}.json"
    manifest = [{"Config": name, "RepoTags": [FOREIGN], "Layers": names}]
    repositories = {"library/debian": {"latest": sha256(b"0")}}
    return members | {
        name: image,
        "manifest.json": json.dumps(manifest).encode(),
        "repositories": json.dumps(repositories).encode(),
    }


def oci(
    layers: list[bytes] = LAYERS,
    image: bytes | None = None,
    blobs: list[bytes] | None = None,
) -> Members:
    """The members of what Docker from 25 on saves; blobs: layers as stored."""
    image = config(layers) if image is None else image
    blobs = layers if blobs is None else blobs
    names = [f"blobs/sha256/{sha256(blob)}" for blob in blobs]
    name = f"blobs/sha256/{sha256(image)}"
    members: Members = {name: image, **dict(zip(names, blobs, strict=True))}
    oci_manifest = json.dumps({"config": {"digest": f"sha256:{sha256(image)}"}})
    index = {
        "manifests": [
            {
                "digest": f"sha256:{sha256(oci_manifest.encode())}",
                "annotations": {
                    "io.containerd.image.name": f"docker.io/{FOREIGN}",
                    "org.opencontainers.image.ref.name": "latest",
                },
            }
        ]
    }
    manifest = [{"Config": name, "RepoTags": [FOREIGN], "Layers": names}]
    return members | {
        f"blobs/sha256/{sha256(oci_manifest.encode())}": oci_manifest.encode(),
        "index.json": json.dumps(index).encode(),
        "manifest.json": json.dumps(manifest).encode(),
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
    }


def endless(data: bytes) -> bytes:
    """The same without its end mark."""
    data = data.rstrip(b"\0")
    return data + bytes(-len(data) % 512)


def manifest(members: Members, **values: Any) -> Members:
    """The same with other values in its manifest."""
    content = members["manifest.json"]
    assert isinstance(content, bytes)
    entry = json.loads(content)[0] | values
    return members | {"manifest.json": json.dumps([entry]).encode()}


def chunks(data: bytes, size: int = 4096) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def rewrite(data: bytes, size: int = 4096) -> bytes:
    return b"".join(ImageArchive(chunks(data, size), TAG, "amd64"))


def read(data: bytes) -> dict[str, bytes]:
    """The members of an archive, all of which must be plain files of root's."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as file:
        for info in file:
            assert info.isreg() and info.uid == info.gid == 0 and info.mode == 0o644
            content = file.extractfile(info)
            assert content is not None and info.name not in found
            found[info.name] = content.read()
    return found


def loaded(data: bytes) -> tuple[bytes, list[bytes]]:
    """What an engine loads from a new archive: configuration, layers."""
    members = read(data)
    [entry] = json.loads(members["manifest.json"])
    assert entry["RepoTags"] == [TAG]
    assert set(members) >= {"manifest.json", "config.json", *entry["Layers"]}
    assert entry["Config"] == "config.json"
    return members["config.json"], [members[name] for name in entry["Layers"]]


def refusal(members: Members | bytes, **options: Any) -> str:
    data = members if isinstance(members, bytes) else tar(members)
    with pytest.raises(ArchiveError) as caught:
        rewrite(data, **options)
    return str(caught.value)


class TestWhatIsLoaded:
    @pytest.mark.parametrize("layout", [classic, oci])
    @pytest.mark.parametrize("size", [1, 511, 512, 513, 4096, 10**6])
    def test_the_image_whole_and_no_name_of_the_archive(self, layout, size):
        data = tar(layout())
        image = ImageArchive(chunks(data, size), TAG, "amd64")
        out = b"".join(image)
        assert loaded(out) == (config(), LAYERS)
        assert image.image_id == f"sha256:{sha256(config())}"
        assert image.diff_ids == [f"sha256:{sha256(layer)}" for layer in LAYERS]
        assert set(read(out)) <= {
            "manifest.json",
            "config.json",
            *(f"{n}.tar" for n in range(20)),
        }
        assert b"debian" not in out

    @pytest.mark.parametrize("layout", [classic, oci])
    def test_nothing_is_loadable_before_all_has_been_read(self, layout):
        data = tar(layout())
        sent = []

        def source():
            yield from chunks(data, 512)
            raise OSError("the hash is wrong")

        with pytest.raises(OSError, match="the hash is wrong"):
            sent.extend(ImageArchive(source(), TAG))
        assert LAYERS[1] in b"".join(sent)
        assert b"manifest.json" not in b"".join(sent)
        assert b"rootfs" not in b"".join(sent)

    def test_the_manifest_may_come_first(self):
        members = classic()
        first = {"manifest.json": members.pop("manifest.json")}
        assert loaded(rewrite(tar(first | members))) == (config(), LAYERS)

    def test_names_that_are_not_normal(self):
        members = {f"./{name}": member for name, member in classic().items()}
        assert loaded(rewrite(tar(members))) == (config(), LAYERS)

    def test_a_layer_twice_as_the_older_layout_links_it(self):
        layers = [LAYERS[0], LAYERS[1], LAYERS[1]]
        for first, other in [(1, 2), (2, 1)]:
            members = classic(layers)
            kept, linked = (f"{sha256(b'%d' % n)}/layer.tar" for n in (first, other))
            members[linked] = link(f"../{kept}")
            assert loaded(rewrite(tar(members))) == (config(layers), layers)

    def test_a_layer_twice_as_the_newer_layout_names_it(self):
        layers = [LAYERS[0], LAYERS[1], LAYERS[1]]
        assert loaded(rewrite(tar(oci(layers)))) == (config(layers), layers)

    @pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    def test_long_names(self, format):
        members = classic()
        long = "x" * 120
        layers = []
        for number in range(2):
            old = f"{sha256(b'%d' % number)}/layer.tar"
            layers.append(f"{long}{number}/layer.tar")
            members[layers[-1]] = members.pop(old)
        data = tar(manifest(members, Layers=layers), format)
        assert loaded(rewrite(data)) == (config(), LAYERS)

    def test_a_layer_that_has_no_file(self):
        for empty in (bytes(1024), tar({})):
            layers = [empty, LAYERS[0]]
            assert loaded(rewrite(tar(classic(layers)))) == (config(layers), layers)

    def test_a_layer_that_starts_as_json_does(self):
        layers = [tar({'{"rootfs"': b"x"})]
        assert loaded(rewrite(tar(oci(layers)))) == (config(layers), layers)

    def test_gzip_layers_stay_so_and_are_known_by_what_they_expand_to(self):
        blobs = [gzip.compress(layer) for layer in LAYERS]
        blobs[1] = gzip.compress(LAYERS[1][:700]) + gzip.compress(LAYERS[1][700:])
        for size in (1, 4096):
            out = rewrite(tar(oci(LAYERS, blobs=blobs)), size)
            assert loaded(out) == (config(), blobs)

    def test_any_architecture_when_the_engine_does_not_say(self):
        members = classic(image=config(architecture="riscv64"))
        out = b"".join(ImageArchive(chunks(tar(members)), TAG))
        assert json.loads(loaded(out)[0])["architecture"] == "riscv64"

    def test_members_of_no_use_are_left_out(self):
        members = classic() | {"README": b"x" * 5000, "attestation": b'{"a": 1}'}
        assert loaded(rewrite(tar(members))) == (config(), LAYERS)
        assert b"README" not in rewrite(tar(members))

    def test_memory_does_not_grow_with_the_archive(self):
        size = 64 * 1024 * 1024
        info = tarfile.TarInfo("file")
        info.size = size
        head, tail = info.tobuf(), bytes(1024)
        piece = random.Random(1).randbytes(65536)
        pieces = size // len(piece)
        digest = hashlib.sha256(head)
        for _ in range(pieces):
            digest.update(piece)
        digest.update(tail)
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]}
        image = config(rootfs=rootfs)
        entry = {"Config": "c.json", "Layers": ["layer.tar"]}
        rest = tar({"c.json": image, "manifest.json": json.dumps([entry]).encode()})
        info = tarfile.TarInfo("layer.tar")
        info.size = len(head) + size + len(tail)

        def source():
            yield info.tobuf() + head
            for _ in range(pieces):
                yield piece
            yield tail + bytes(-info.size % 512) + rest

        tracemalloc.start()
        try:
            length = sum(map(len, ImageArchive(source(), TAG)))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert length > size
        assert peak < 2 * 1024 * 1024


class TestWhatIsNoArchive:
    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "it is empty"),
            (b"hello", "not a tar archive"),
            (b"hello" * 1000, "not a tar archive"),
            (b"QFI\xfb" + bytes(2000), "qcow2 disk"),
            (gzip.compress(tar(classic())), "compressed with gzip: upload"),
            (bz2.compress(tar(classic())), "compressed with bzip2: upload"),
            (lzma.compress(tar(classic())), "compressed with xz: upload"),
            (b"\x28\xb5\x2f\xfd" + bytes(2000), "compressed with zstd: upload"),
            (bytes(10240), "no manifest.json"),
            (tar({}), "no manifest.json"),
        ],
    )
    def test_says_what_it_is(self, data, why):
        assert why in refusal(data)

    def test_a_file_system_from_docker_export(self):
        assert "no manifest.json" in refusal({"bin/sh": b"", "etc/x": link("/bin")})
        device = refusal({"dev/null": link("", tarfile.CHRTYPE)})
        assert "'dev/null'" in device and "docker export" in device

    def test_an_oci_layout_alone(self):
        members = oci()
        del members["manifest.json"]
        assert "OCI layout without manifest.json: convert it" in refusal(members)

    @pytest.mark.parametrize("layout", [classic, oci])
    def test_cut_short_anywhere(self, layout):
        data = tar(layout())
        for length in range(1, len(data) - 10240, 97):
            assert refusal(data[:length])
        assert refusal(endless(data)) == "it is cut short: it has no end mark"

    def test_more_after_its_end(self):
        assert "data after its end" in refusal(tar(classic()) + tar(oci()))
        assert "data after its end" in refusal(tar(classic()) + b"x")
        assert rewrite(tar(classic()) + bytes(700)) == rewrite(tar(classic()))

    @pytest.mark.parametrize(
        "kind",
        [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"7"],
    )
    def test_members_that_docker_save_never_writes(self, kind):
        why = refusal(classic() | {"extra": link("manifest.json", kind)})
        assert "'extra' is neither a file nor a directory" in why


class TestWhatTheManifestMustSay:
    def test_one_image(self):
        content = classic()["manifest.json"]
        assert isinstance(content, bytes)
        entries = json.loads(content)
        two = classic() | {"manifest.json": json.dumps(entries * 2).encode()}
        assert refusal(two) == "it has 2 images: docker save one image alone"

    @pytest.mark.parametrize("content", [b"[]", b"{}", b"null", b"[1]", b'["a"]'])
    def test_an_image(self, content):
        assert "names no image" in refusal(classic() | {"manifest.json": content})

    @pytest.mark.parametrize(
        "content", [b"", b"[", b"\xff", b"[" * 500_000, b'[{"a":' * 100_000]
    )
    def test_json(self, content):
        why = refusal(classic() | {"manifest.json": content})
        assert why == "its manifest.json is not JSON"

    def test_itself_once(self):
        twice = endless(tar(classic())) + tar({"./manifest.json": b"[]"})
        assert refusal(twice) == "it has two members 'manifest.json'"

    def test_a_configuration_that_is_there(self):
        for name in ("absent", "../x", "/etc/passwd", 1, None, ["a"], "manifest.json"):
            assert refusal(manifest(classic(), Config=name))

    def test_layers_that_are_there(self):
        names = ["absent", "../x", "/etc/passwd", "repositories", 1, None]
        for name in names:
            why = refusal(manifest(classic(), Layers=[name, name]))
            assert "is missing, or is not a tar archive" in why
        assert "does not name its layers" in refusal(manifest(classic(), Layers="a"))

    def test_as_many_layers_as_the_configuration(self):
        name = f"{sha256(b'0')}/layer.tar"
        for names in ([], [name], [name] * 3):
            assert "digests differ" in refusal(manifest(classic(), Layers=names))

    def test_no_link_but_to_a_layer(self):
        name = f"{sha256(b'1')}/layer.tar"
        for target in ("/etc/shadow", "../../etc", "../repositories", "layer.tar"):
            why = refusal(classic() | {name: link(target)})
            assert "is missing, or is not a tar archive" in why
        chained = {"a": link(name), "b": link("a")}
        why = refusal(manifest(classic() | chained, Layers=["b", "b"]))
        assert "is missing, or is not a tar archive" in why

    def test_nothing_oversized(self):
        large = b" " * (archive.MAX_JSON + 1)
        assert "larger than" in refusal(classic() | {"manifest.json": large})
        large = config() + large
        assert "does not have" in refusal(classic(image=large))
        near = config() + b" " * (archive.MAX_JSON - 1000)
        many = {f"{n}.json": near for n in range(5)}
        assert "too many image configurations" in refusal(classic() | many)

    def test_not_too_many_members(self):
        many = {str(n): b"" for n in range(archive.MAX_MEMBERS)}
        assert "more than 4096 members" in refusal(many | classic())

    def test_no_monstrous_name(self):
        assert "too long a name" in refusal({"x" * 256: b""})
        assert "not UTF-8" in refusal(tar({"\udcff": b""}, tarfile.GNU_FORMAT))


class TestWhatTheConfigurationMustSay:
    @pytest.mark.parametrize(
        ("image", "why"),
        [
            (b'{"rootfs"', "its configuration is not JSON"),
            (b'["rootfs"]', "not an image's"),
            (config(rootfs=None), "not an image's"),
            (config(rootfs=[]), "not an image's"),
            (config(rootfs={}), "does not name its layers"),
            (config(rootfs={"type": "layers", "diff_ids": [1]}), "does not name"),
            (config(rootfs={"type": "layers", "diff_ids": ["sha256:A"]}), "does not"),
            (config(rootfs={"type": "other", "diff_ids": []}), "does not name"),
            (config([]), "has no layer"),
            (config(os="windows"), "it is for 'windows', not linux"),
            (config(architecture="arm64"), "for 'arm64' machines, and this host is"),
            (config(architecture=None), "for None machines"),
            (config([LAYERS[0], LAYERS[0]]), "digests differ"),
            (config(LAYERS[::-1]), "digests differ"),
        ],
    )
    def test_sentence(self, image, why):
        assert why in refusal(classic(image=image))

    @pytest.mark.parametrize("key", ["rootfs", "RootFS", "ROOTFS", "rootf\u017f"])
    def test_one_thing_only(self, key):
        """Go reads the last of these, whose layers are not in the archive."""
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}
        image = config()[:-1] + b"," + json.dumps({key: rootfs})[1:].encode()
        assert "not an image's" in refusal(classic(image=image))

    @pytest.mark.parametrize("key", ["diff_ids", "Diff_IDs"])
    def test_one_list_of_layers_only(self, key):
        rootfs = json.dumps(json.loads(config())["rootfs"])[:-1]
        rootfs += f', "{key}": ["sha256:{"0" * 64}"]}}'
        image = config(rootfs="@").replace(b'"@"', rootfs.encode())
        assert "not an image's" in refusal(classic(image=image))

    def test_layers_that_the_uploader_has(self):
        """An engine that has the layers named would not look at these."""
        victim = [tar({"secret": b"of another tenant"}), LAYERS[1]]
        members = classic(LAYERS, image=config(victim))
        assert "its layers are not those that its configuration names" in refusal(
            members
        )


class TestLayers:
    def bad(self, layer: bytes) -> str:
        return refusal(oci([layer]))

    def test_gzip_that_expands_without_bound(self, monkeypatch):
        monkeypatch.setattr(archive, "EXPANSION_ALLOWANCE", 1024 * 1024)
        layer = tar({"zeros": bytes(8 * 1024 * 1024)})
        why = refusal(oci([layer], blobs=[gzip.compress(layer)]))
        assert "expand to more than 16 times its size" in why
        assert loaded(rewrite(tar(oci([layer]))))[1] == [layer]

    def test_gzip_that_is_broken(self):
        blob = gzip.compress(LAYERS[1])
        assert "gzip data is cut short" in refusal(oci(LAYERS[1:], blobs=[blob[:-9]]))
        assert "gzip data is broken" in refusal(oci(LAYERS[1:], blobs=[blob + b"more"]))
        blob = blob[:30] + bytes(10) + blob[40:]
        assert "gzip data is broken" in refusal(oci(LAYERS[1:], blobs=[blob]))

    @pytest.mark.parametrize(
        ("start", "name"),
        [
            (b"BZh91AY&SY", "bzip2"),
            (b"\xfd7zXZ\0", "xz"),
            (b"\x28\xb5\x2f\xfd", "zstd"),
            (b"\x5a\x2a\x4d\x18", "zstd"),
        ],
    )
    def test_other_compressions(self, start, name):
        why = self.bad(start + LAYERS[0])
        assert f"it is compressed with {name}; save the image with layers" in why

    def test_a_tar_that_an_engine_would_take_for_compressed(self):
        assert "compressed with bzip2" in self.bad(tar({"BZh9": b""}))

    def test_sparse_files(self):
        info = tarfile.TarInfo("sparse")
        info.type = tarfile.GNUTYPE_SPARSE
        assert "has a sparse file" in self.bad(info.tobuf() + bytes(1024))
        for key in ("GNU.sparse.map", "GNU.sparse.major"):
            info = tarfile.TarInfo("sparse")
            info.pax_headers = {key: "1"}
            data = info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
            assert "has a sparse file" in self.bad(data)

    def test_sparse_files_under_a_size_that_may_be_read_in_two_ways(self):
        """Go skips leading zero bytes of a number, others end it there."""
        info = tarfile.TarInfo("sparse")
        info.type = tarfile.GNUTYPE_SPARSE
        header = bytearray(tarfile.TarInfo("cover").tobuf())
        for size in (b"\0" + b"00000002000", b"-0000000001\0", b"0x0000000400", b"1_0"):
            header[124:136] = size.ljust(12, b"\0")
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
            layer = tar({"first": b""})[:512] + header + info.tobuf() + bytes(1024)
            assert "not a tar archive, or a broken one" in self.bad(layer)

    def test_content_where_there_can_be_none(self):
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo("first")
            info.type = kind
            info.size = 512
            assert "with content" in self.bad(info.tobuf() + bytes(1536))
        info = tarfile.TarInfo("directory/")
        info.size = 512
        assert "with content" in self.bad(info.tobuf() + bytes(1536))

    def test_sizes_beyond_what_a_header_holds(self):
        info = tarfile.TarInfo("pax")
        info.pax_headers = {"size": "700"}
        layer = info.tobuf(tarfile.PAX_FORMAT) + b"x" * 700 + bytes(324 + 1024)
        assert loaded(rewrite(tar(oci([layer]))))[1] == [layer]
        for value in ("-1", "7_0", " 7", "9" * 19):
            info.pax_headers = {"size": value}
            assert "malformed" in self.bad(info.tobuf(tarfile.PAX_FORMAT) + bytes(2048))
        info = tarfile.TarInfo("gnu")
        info.size = 2**40
        layer = info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
        assert "it is cut short" in self.bad(layer)
        for size in (-1, 2**63):
            info.size = size
            layer = LAYERS[0][:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
            assert "not a tar archive, or a broken one" in self.bad(layer)

    def test_sizes_that_extended_headers_tell_as_go_reads_them(self):
        """Each of these layers has one file, of one block, by its own header."""

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
            assert "has a sparse file" in self.bad(layer)
        for name in ("", "a/", "a"):
            # What has no name is a directory, whatever an empty one is added.
            layer = block("L", b"L", 0) + block(name, b"\0", 5) + bytes(512) + end
            if name == "a":
                assert loaded(rewrite(tar(oci([layer]))))[1] == [layer]
            else:
                assert "with content" in self.bad(layer)

    def test_extended_headers_that_are_malformed(self):
        for body in (b"x", b"8 path=a\n", b"5 =a\n", b"99 path=a\n", b"0 path=a\n"):
            info = tarfile.TarInfo("x")
            info.type = tarfile.XHDTYPE
            info.size = len(body)
            layer = info.tobuf() + body.ljust(512, b"\0") + LAYERS[0]
            assert "malformed extended header" in self.bad(layer)

    def test_extended_headers_that_would_fill_memory(self):
        for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            info = tarfile.TarInfo("x")
            info.type = kind
            info.size = 2**33
            head = info.tobuf(tarfile.GNU_FORMAT)
            assert "oversized extended header" in self.bad(head + bytes(1024))
            assert refusal(head + bytes(1024)) == "it has an oversized extended header"

    def test_cut_short(self):
        assert "it is cut short" in self.bad(LAYERS[1][:2000])
        assert "it is cut short" in self.bad(LAYERS[1][:2048])

    def test_without_an_end_mark(self):
        layer = endless(LAYERS[0])
        assert loaded(rewrite(tar(oci([layer]))))[1] == [layer]

    def test_not_a_tar(self):
        assert "is not a tar archive" in self.bad(b"hello" * 1000)
        assert "is not a tar archive" in self.bad(b"")

    def test_its_name_is_in_the_sentence(self):
        layer = LAYERS[0][:1024] + b"x" * 512
        name = f"blobs/sha256/{sha256(layer)}"
        assert refusal(oci([layer])).startswith(f"its layer {name!r}: it is not a tar")


class TestMutations:
    """Whatever becomes of an archive, it is loaded as checked or refused."""

    @pytest.mark.parametrize("layout", [classic, oci])
    @pytest.mark.parametrize("seed", range(4))
    def test_accepted_or_refused(self, layout, seed):
        chance = random.Random(f"{layout.__name__} {seed}")
        blobs = {"blobs": [gzip.compress(x) for x in LAYERS]} if seed % 2 else {}
        whole = tar(layout(**blobs) if layout is oci else layout())
        whole = endless(whole) + bytes(1024)
        outcomes = {True: 0, False: 0}
        for _ in range(400):
            data = self.mutate(chance, whole)
            try:
                out = rewrite(data, chance.choice([512, 1000, 65536]))
            except ArchiveError:
                outcomes[False] += 1
            else:
                self.check(out)
                outcomes[True] += 1
        assert outcomes[False] > 50 and outcomes[True] > 5

    def check(self, out: bytes) -> None:
        image, layers = loaded(out)
        assert b"debian" not in out
        diff_ids = json.loads(image)["rootfs"]["diff_ids"]
        plain = [gzip.decompress(x) if x[:2] == b"\x1f\x8b" else x for x in layers]
        assert diff_ids == [f"sha256:{sha256(layer)}" for layer in plain]

    def mutate(self, chance: random.Random, whole: bytes) -> bytes:
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 8])):
            at = chance.randrange(len(data))
            block = at // 512 * 512
            match chance.randrange(7):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    data[at] = chance.choice(b'\0 059xLSgK/.{}[]"\xff')
                case 2:
                    del data[block : block + 512]
                case 3:
                    other = chance.randrange(len(data)) // 512 * 512
                    data[block:block] = data[other : other + 512]
                case 4:
                    del data[at : at + chance.randrange(1, 600)]
                case 5:
                    data[block : block + 512] = bytes(512)
                case 6:
                    # A header that says something else and has a checksum.
                    header = data[block : block + 512]
                    if len(header) == 512:
                        spot = chance.choice([0, 124, 130, 135, 156, 157, 345])
                        header[spot] = chance.choice(b"\0\x80 0517xLSg/")
                        header[148:156] = b" " * 8
                        header[148:156] = b"%06o\0 " % sum(header)
                        data[block : block + 512] = header
            if not data:
                data = bytearray(whole)
        return bytes(data)
