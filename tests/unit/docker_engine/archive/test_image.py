# SPDX-License-Identifier: Apache-2.0
"""Image archives are rewritten on their way to the engine, or rejected."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import random
import tarfile
import tracemalloc

import pytest

from docker_engine.archive import ArchiveError
from docker_engine.archive import ImageArchive
from docker_engine.archive import image as archive
from tests.unit.docker_engine.archive.samples import LAYERS
from tests.unit.docker_engine.archive.samples import TAG
from tests.unit.docker_engine.archive.samples import chunks
from tests.unit.docker_engine.archive.samples import classic
from tests.unit.docker_engine.archive.samples import config
from tests.unit.docker_engine.archive.samples import endless
from tests.unit.docker_engine.archive.samples import link
from tests.unit.docker_engine.archive.samples import loaded
from tests.unit.docker_engine.archive.samples import manifest
from tests.unit.docker_engine.archive.samples import oci
from tests.unit.docker_engine.archive.samples import read
from tests.unit.docker_engine.archive.samples import refusal
from tests.unit.docker_engine.archive.samples import rewrite
from tests.unit.docker_engine.archive.samples import sha256
from tests.unit.docker_engine.archive.samples import tar


@pytest.mark.parametrize("layout", [classic, oci])
@pytest.mark.parametrize("size", [1, 511, 512, 513, 4096, 10**6])
def test_the_image_is_kept_and_names_in_the_archive_are_dropped(layout, size):
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
def test_nothing_is_loadable_before_everything_was_read(layout):
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


def test_the_manifest_may_come_first():
    members = classic()
    first = {"manifest.json": members.pop("manifest.json")}
    assert loaded(rewrite(tar(first | members))) == (config(), LAYERS)


def test_member_names_are_normalized():
    members = {f"./{name}": member for name, member in classic().items()}
    assert loaded(rewrite(tar(members))) == (config(), LAYERS)


def test_a_repeated_layer_may_be_a_link_in_the_classic_layout():
    layers = [LAYERS[0], LAYERS[1], LAYERS[1]]
    for first, other in [(1, 2), (2, 1)]:
        members = classic(layers)
        kept, linked = (f"{sha256(b'%d' % n)}/layer.tar" for n in (first, other))
        members[linked] = link(f"../{kept}")
        assert loaded(rewrite(tar(members))) == (config(layers), layers)


def test_a_repeated_layer_may_be_named_twice_in_the_oci_layout():
    layers = [LAYERS[0], LAYERS[1], LAYERS[1]]
    assert loaded(rewrite(tar(oci(layers)))) == (config(layers), layers)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_member_names_are_read(format):
    members = classic()
    long = "x" * 120
    layers = []
    for number in range(2):
        old = f"{sha256(b'%d' % number)}/layer.tar"
        layers.append(f"{long}{number}/layer.tar")
        members[layers[-1]] = members.pop(old)
    data = tar(manifest(members, Layers=layers), format)
    assert loaded(rewrite(data)) == (config(), LAYERS)


def test_a_layer_may_be_empty():
    for empty in (bytes(1024), tar({})):
        layers = [empty, LAYERS[0]]
        assert loaded(rewrite(tar(classic(layers)))) == (config(layers), layers)


def test_a_layer_may_look_like_json():
    layers = [tar({'{"rootfs"': b"x"})]
    assert loaded(rewrite(tar(oci(layers)))) == (config(layers), layers)


def test_gzip_layers_stay_compressed_and_match_by_their_expanded_digest():
    blobs = [gzip.compress(layer) for layer in LAYERS]
    blobs[1] = gzip.compress(LAYERS[1][:700]) + gzip.compress(LAYERS[1][700:])
    for size in (1, 4096):
        out = rewrite(tar(oci(LAYERS, blobs=blobs)), size)
        assert loaded(out) == (config(), blobs)


def test_any_architecture_is_accepted_if_none_is_required():
    members = classic(image=config(architecture="riscv64"))
    out = b"".join(ImageArchive(chunks(tar(members)), TAG))
    assert json.loads(loaded(out)[0])["architecture"] == "riscv64"


def test_other_members_are_left_out():
    members = classic() | {"README": b"x" * 5000, "attestation": b'{"a": 1}'}
    assert loaded(rewrite(tar(members))) == (config(), LAYERS)
    assert b"README" not in rewrite(tar(members))


def test_memory_does_not_grow_with_the_archive():
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


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty archive; upload"),
        (b"hello", "not a tar archive; upload the output of docker save"),
        (b"hello" * 1000, "not a tar archive; upload the output of docker save"),
        (b"QFI\xfb" + bytes(2000), "qcow2 disk"),
        (gzip.compress(tar(classic())), "compressed with gzip; upload"),
        (bz2.compress(tar(classic())), "compressed with bzip2; upload"),
        (lzma.compress(tar(classic())), "compressed with xz; upload"),
        (b"\x28\xb5\x2f\xfd" + bytes(2000), "compressed with zstd; upload"),
        (bytes(10240), "no manifest.json"),
        (tar({}), "no manifest.json"),
    ],
)
def test_files_of_other_formats_are_named(data, why):
    assert why in refusal(data)


def test_output_of_docker_export_is_rejected():
    assert "no manifest.json" in refusal({"bin/sh": b"", "etc/x": link("/bin")})
    device = refusal({"dev/null": link("", tarfile.CHRTYPE)})
    assert "'dev/null'" in device and "docker export" in device


def test_an_oci_layout_without_a_docker_manifest_is_rejected():
    members = oci()
    del members["manifest.json"]
    assert "OCI layout without manifest.json; convert it" in refusal(members)


@pytest.mark.parametrize("layout", [classic, oci])
def test_truncated_archives_are_rejected(layout):
    data = tar(layout())
    for length in range(1, len(data) - 10240, 97):
        assert refusal(data[:length])
    assert refusal(endless(data)) == "truncated: no end-of-archive marker"


def test_data_after_the_end_is_rejected():
    for more in (tar(oci()), b"x"):
        why = refusal(tar(classic()) + more)
        assert "data after the end-of-archive marker" in why
    assert rewrite(tar(classic()) + bytes(700)) == rewrite(tar(classic()))


@pytest.mark.parametrize(
    "kind",
    [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"7"],
)
def test_special_members_are_rejected(kind):
    why = refusal(classic() | {"extra": link("manifest.json", kind)})
    assert "'extra' is neither a file nor a directory" in why


def test_an_archive_of_two_images_is_rejected():
    content = classic()["manifest.json"]
    assert isinstance(content, bytes)
    entries = json.loads(content)
    two = classic() | {"manifest.json": json.dumps(entries * 2).encode()}
    assert refusal(two) == "the archive contains 2 images; run docker save with one"


@pytest.mark.parametrize("content", [b"[]", b"{}", b"null", b"[1]", b'["a"]'])
def test_a_manifest_without_an_image_is_rejected(content):
    assert "describes no image" in refusal(classic() | {"manifest.json": content})


@pytest.mark.parametrize(
    "content", [b"", b"[", b"\xff", b"[" * 500_000, b'[{"a":' * 100_000]
)
def test_a_manifest_that_is_not_json_is_rejected(content):
    why = refusal(classic() | {"manifest.json": content})
    assert why == "manifest.json is not valid JSON"


def test_two_manifests_are_rejected():
    twice = endless(tar(classic())) + tar({"./manifest.json": b"[]"})
    assert refusal(twice) == "duplicate member 'manifest.json'"


def test_a_missing_configuration_is_rejected():
    for name in ("absent", "../x", "/etc/passwd", 1, None, ["a"], "manifest.json"):
        assert refusal(manifest(classic(), Config=name))


def test_missing_layers_are_rejected():
    names = ["absent", "../x", "/etc/passwd", "repositories", 1, None]
    for name in names:
        why = refusal(manifest(classic(), Layers=[name, name]))
        assert "is missing or not a tar archive" in why
    assert "has no valid list of layers" in refusal(manifest(classic(), Layers="a"))


def test_another_number_of_layers_is_rejected():
    name = f"{sha256(b'0')}/layer.tar"
    for names in ([], [name], [name] * 3):
        why = refusal(manifest(classic(), Layers=names))
        assert "layer digests do not match" in why


def test_links_may_only_point_to_layers():
    name = f"{sha256(b'1')}/layer.tar"
    for target in ("/etc/shadow", "../../etc", "../repositories", "layer.tar"):
        why = refusal(classic() | {name: link(target)})
        assert "is missing or not a tar archive" in why
    chained = {"a": link(name), "b": link("a")}
    why = refusal(manifest(classic() | chained, Layers=["b", "b"]))
    assert "is missing or not a tar archive" in why


def test_oversized_json_is_rejected():
    large = b" " * (archive.MAX_JSON + 1)
    assert "larger than" in refusal(classic() | {"manifest.json": large})
    large = config() + large
    assert "is missing" in refusal(classic(image=large))
    near = config() + b" " * (archive.MAX_JSON - 1000)
    many = {f"{n}.json": near for n in range(5)}
    assert "too many image configurations" in refusal(classic() | many)


def test_too_many_members_are_rejected():
    many = {str(n): b"" for n in range(archive.MAX_MEMBERS)}
    assert "more than 4096 members" in refusal(many | classic())


def test_too_many_layers_are_rejected():
    layers = [LAYERS[0]] * archive.MAX_LAYERS
    assert loaded(rewrite(tar(oci(layers))))[1] == layers
    assert "more than 125 layers" in refusal(oci([*layers, LAYERS[0]]))


def test_overlong_and_undecodable_names_are_rejected():
    assert "longer than 255 characters" in refusal({"x" * 256: b""})
    assert "longer than 255 characters" in refusal({"./" * 5000 + "x": b""})
    assert "not UTF-8" in refusal(tar({"\udcff": b""}, tarfile.GNU_FORMAT))


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b'{"rootfs"', "image configuration is not valid JSON"),
        (b'["rootfs"]', "malformed image configuration"),
        (config(rootfs=None), "malformed image configuration"),
        (config(rootfs=[]), "malformed image configuration"),
        (config(rootfs={}), "has no valid list of layers"),
        (config(rootfs={"type": "layers", "diff_ids": [1]}), "no valid list"),
        (config(rootfs={"type": "layers", "diff_ids": ["sha256:A"]}), "no valid list"),
        (config(rootfs={"type": "other", "diff_ids": []}), "no valid list"),
        (config([]), "image has no layers"),
        (config(os="windows"), "image is for 'windows', not linux"),
        (config(architecture="arm64"), "for 'arm64' machines, but this host is"),
        (config(architecture=None), "for None machines"),
        (config([LAYERS[0], LAYERS[0]]), "layer digests do not match"),
        (config(LAYERS[::-1]), "layer digests do not match"),
    ],
)
def test_the_error_describes_the_fault_in_the_configuration(image, why):
    assert why in refusal(classic(image=image))


@pytest.mark.parametrize("key", ["rootfs", "RootFS", "ROOTFS", "rootf\u017f"])
def test_a_second_rootfs_is_rejected(key):
    """Go uses the last one, whose layers are not in the archive."""
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}
    image = config()[:-1] + b"," + json.dumps({key: rootfs})[1:].encode()
    assert "malformed image configuration" in refusal(classic(image=image))


@pytest.mark.parametrize("key", ["diff_ids", "Diff_IDs"])
def test_a_second_list_of_layers_is_rejected(key):
    rootfs = json.dumps(json.loads(config())["rootfs"])[:-1]
    rootfs += f', "{key}": ["sha256:{"0" * 64}"]}}'
    image = config(rootfs="@").replace(b'"@"', rootfs.encode())
    assert "malformed image configuration" in refusal(classic(image=image))


def test_layers_must_be_in_the_archive():
    """An engine that has layers with these digests would use its own."""
    victim = [tar({"secret": b"of another tenant"}), LAYERS[1]]
    members = classic(LAYERS, image=config(victim))
    assert "layer digests do not match the image configuration" in refusal(members)


def test_the_error_names_the_layer():
    layer = LAYERS[0][:1024] + b"x" * 512
    name = f"blobs/sha256/{sha256(layer)}"
    assert refusal(oci([layer])).startswith(f"layer {name!r}: not a tar")


def check(out: bytes) -> None:
    image, layers = loaded(out)
    assert b"debian" not in out
    diff_ids = json.loads(image)["rootfs"]["diff_ids"]
    plain = [gzip.decompress(x) if x[:2] == b"\x1f\x8b" else x for x in layers]
    assert diff_ids == [f"sha256:{sha256(layer)}" for layer in plain]


def mutate(chance: random.Random, whole: bytes) -> bytes:
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
                # A changed header with a valid checksum.
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


@pytest.mark.parametrize("layout", [classic, oci])
@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_archive_is_loaded_as_checked_or_rejected(layout, seed):
    chance = random.Random(f"{layout.__name__} {seed}")
    blobs = {"blobs": [gzip.compress(x) for x in LAYERS]} if seed % 2 else {}
    whole = tar(layout(**blobs) if layout is oci else layout())
    whole = endless(whole) + bytes(1024)
    outcomes = {True: 0, False: 0}
    for _ in range(400):
        data = mutate(chance, whole)
        try:
            out = rewrite(data, chance.choice([512, 1000, 65536]))
        except ArchiveError:
            outcomes[False] += 1
        else:
            check(out)
            outcomes[True] += 1
    assert outcomes[False] > 50 and outcomes[True] > 5
