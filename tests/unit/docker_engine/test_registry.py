# SPDX-License-Identifier: Apache-2.0
"""What is asked of a registry, who is told the password, what is believed.

With a mock of HTTP; tests/functional has a real registry.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import ssl
import tarfile
from concurrent import futures
from urllib import parse

import pytest
import requests
import requests_mock

from docker_engine import registry as registries
from docker_engine.archive import ImageArchive
from docker_engine.registry import BadImage
from docker_engine.registry import Descriptor
from docker_engine.registry import Image
from docker_engine.registry import Registry
from docker_engine.registry import RegistryArchive
from tests import archives

HOST = "registry.example.org"
URL = f"https://{HOST}/v2/team/app"
AUTH = ("nova", "pä:ss")
BASIC = "Basic " + base64.b64encode("nova:pä:ss".encode()).decode()
REALM = "https://auth.example.org/token"
BEARER = f'Bearer realm="{REALM}",service="reg",scope="repository:team/app:pull"'

SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
TAR = "application/vnd.docker.image.rootfs.diff.tar"


@pytest.fixture
def http():
    # Not the plugin's fixture: under eventlet it is imported too early.
    with requests_mock.Mocker() as mocker:
        yield mocker


@pytest.fixture
def registry():
    return Registry(HOST, auth=AUTH)


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def part(content, kind, **more):
    return {
        "mediaType": kind,
        "digest": digest_of(content),
        "size": len(content),
        **more,
    }


def manifest(kind=SCHEMA2, **changes):
    return {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": part(b"{}", CONFIG),
        "layers": [part(b"one", GZIP), part(b"two", TAR)],
        **changes,
    }


def serve(http, content, kind=SCHEMA2, reference="1.0", **answer):
    """Have a manifest at the registry; return its digest."""
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    http.get(
        f"{URL}/manifests/{reference}",
        content=content,
        headers={"Content-Type": kind},
        **answer,
    )
    return digest_of(content)


def asked(http):
    """Each request's host and path, and its Authorization."""
    return [
        (
            parse.urlsplit(request.url).netloc + parse.urlsplit(request.url).path,
            request.headers.get("Authorization"),
        )
        for request in http.request_history
    ]


# Manifests


@pytest.mark.parametrize("kind", [SCHEMA2, OCI])
def test_an_image_is_what_its_manifest_says(http, registry, kind):
    digest = serve(http, manifest(kind), kind)
    assert registry.resolve("team/app", "1.0") == Image(
        repository="team/app",
        digest=digest,
        config=Descriptor(digest_of(b"{}"), 2, CONFIG),
        layers=(
            Descriptor(digest_of(b"one"), 3, GZIP),
            Descriptor(digest_of(b"two"), 3, TAR),
        ),
    )
    accepted = http.last_request.headers["Accept"]
    assert all(kind in accepted for kind in (SCHEMA2, OCI, LIST, OCI_INDEX))


def test_a_media_type_may_be_in_the_header_alone(http, registry):
    content = manifest(OCI)
    del content["mediaType"]
    serve(http, content, f"{OCI}; charset=utf-8")
    assert registry.resolve("team/app", "1.0")


def test_a_digest_must_be_that_of_the_manifest(http, registry):
    digest = digest_of(json.dumps(manifest()).encode())
    serve(http, manifest(), reference=digest)
    assert registry.resolve("team/app", digest).digest == digest
    serve(http, manifest(schemaVersion=3), reference=digest)
    with pytest.raises(BadImage, match="digest"):
        registry.resolve("team/app", digest)


def test_no_more_than_four_mebibytes_of_a_manifest_are_read(http, registry):
    class Endless(io.RawIOBase):
        given = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            self.given += len(buffer)
            buffer[:] = b" " * len(buffer)
            return len(buffer)

    endless = Endless()
    http.get(f"{URL}/manifests/1.0", body=endless)
    with pytest.raises(BadImage, match="larger"):
        registry.resolve("team/app", "1.0")
    assert endless.given < 5 * 1024 * 1024


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"layers": [], "layers": []}',
        b'{"layers": [], "Layers": []}',
        manifest(OCI),
        manifest(mediaType=["a"]),
        manifest(manifests=[]),
        manifest(config=None),
        manifest(config=part(b"{}", "application/vnd.cncf.helm.config.v1+json")),
        manifest(config=part(b"{}", CONFIG, size=1024 * 1024 + 1)),
        manifest(layers=None),
        manifest(layers=[]),
        manifest(layers=[part(b"one", TAR)] * 128),
        manifest(layers=["one"]),
        manifest(layers=[part(b"one", TAR, size=-1)]),
        manifest(layers=[part(b"one", TAR, size=True)]),
        manifest(layers=[part(b"one", TAR, size=3.0)]),
        manifest(layers=[part(b"one", TAR, size="3")]),
        manifest(layers=[part(b"one", TAR, size=2**63)]),
        manifest(layers=[part(b"one", TAR, digest="sha256:" + "A" * 64)]),
        manifest(layers=[part(b"one", TAR, digest="sha512:" + "a" * 128)]),
        manifest(layers=[part(b"one", TAR, digest="sha256:../../x")]),
        manifest(layers=[part(b"one", TAR, digest=None)]),
        manifest(layers=[part(b"one", None)]),
        manifest(layers=[part(b"one", "application/octet-stream")]),
        manifest(layers=[part(b"one", TAR), part(b"one", TAR, size=4)]),
    ],
)
def test_a_malformed_manifest_is_no_image(http, registry, content):
    serve(http, content)
    with pytest.raises(BadImage):
        registry.resolve("team/app", "1.0")


def test_a_manifest_of_the_first_schema_is_no_image(http, registry):
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    serve(http, {"schemaVersion": 1}, kind)
    with pytest.raises(BadImage, match="v1"):
        registry.resolve("team/app", "1.0")


def test_layers_compressed_with_zstd_are_no_good(http, registry):
    layer = part(b"one", "application/vnd.oci.image.layer.v1.tar+zstd")
    serve(http, manifest(layers=[layer]))
    with pytest.raises(BadImage, match="zstd"):
        registry.resolve("team/app", "1.0")


@pytest.mark.parametrize(
    "layer",
    [
        part(b"one", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        part(b"one", "application/vnd.oci.image.layer.nondistributable.v1.tar"),
        part(b"one", TAR, urls=["https://example.com/one"]),
    ],
)
def test_layers_that_lie_elsewhere_are_no_good(http, registry, layer):
    serve(http, manifest(layers=[layer]))
    with pytest.raises(BadImage, match="elsewhere"):
        registry.resolve("team/app", "1.0")


@pytest.mark.parametrize("name", ["", "App", "../x", "a//../b", "a?b", "a b", "a/"])
def test_what_is_no_name_is_not_asked_for(http, registry, name):
    with pytest.raises(registries.NotFound):
        registry.resolve(name, "1.0")
    assert not http.called


@pytest.mark.parametrize("reference", ["", "a/b", "../x", "sha256:12", ".1", "a" * 129])
def test_what_is_no_reference_is_not_asked_for(http, registry, reference):
    with pytest.raises(registries.NotFound):
        registry.resolve("team/app", reference)
    assert not http.called


@pytest.mark.parametrize("host", ["", "a/b", "user@host", "https://a", "a:b", "a?b"])
def test_what_is_no_host_is_a_value_error(host):
    with pytest.raises(ValueError, match="not a registry"):
        Registry(host)


# Indexes


def entry(content, architecture="amd64", os="linux", kind=SCHEMA2, **more):
    platform = {"os": os, "architecture": architecture}
    return part(content, kind, platform=platform, **more)


@pytest.mark.parametrize("kind", [LIST, OCI_INDEX])
def test_the_image_of_the_architecture_is_chosen(http, registry, kind):
    amd64 = json.dumps(manifest()).encode()
    arm64 = json.dumps(manifest(layers=[part(b"arm", TAR)])).encode()
    entries = [
        entry(b"", "unknown", "unknown"),
        entry(b"", "amd64", "windows"),
        entry(amd64),
        entry(arm64, "arm64"),
    ]
    index = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
    digest = serve(http, index, kind)
    for content in (amd64, arm64):
        serve(http, content, reference=digest_of(content))
    image = registry.resolve("team/app", "1.0")
    assert image.digest == digest
    assert len(image.layers) == 2
    image = registry.resolve("team/app", "1.0", "arm64")
    assert image.digest == digest
    assert [layer.digest for layer in image.layers] == [digest_of(b"arm")]
    with pytest.raises(BadImage, match="linux/s390x"):
        registry.resolve("team/app", "1.0", "s390x")


@pytest.mark.parametrize("size", [1, 5 * 1024 * 1024])
def test_the_chosen_manifest_must_have_its_size(http, registry, size):
    content = json.dumps(manifest()).encode()
    index = {"mediaType": LIST, "manifests": [entry(content, size=size)]}
    serve(http, index, LIST)
    serve(http, content, reference=digest_of(content))
    with pytest.raises(BadImage):
        registry.resolve("team/app", "1.0")


def test_the_chosen_manifest_must_have_its_digest(http, registry):
    content = json.dumps(manifest()).encode()
    serve(http, {"mediaType": LIST, "manifests": [entry(content)]}, LIST)
    other = content.replace(b"2", b"3", 1)
    serve(http, other, reference=digest_of(content))
    with pytest.raises(BadImage, match="digest"):
        registry.resolve("team/app", "1.0")


def test_an_index_in_an_index_is_no_image(http, registry):
    inner = json.dumps({"mediaType": LIST, "manifests": []}).encode()
    serve(http, {"mediaType": LIST, "manifests": [entry(inner)]}, LIST)
    serve(http, inner, LIST, reference=digest_of(inner))
    with pytest.raises(BadImage, match="no image"):
        registry.resolve("team/app", "1.0")


@pytest.mark.parametrize("entries", [None, {}, [1], [{"platform": 1}], []])
def test_a_malformed_index_is_no_image(http, registry, entries):
    serve(http, {"mediaType": LIST, "manifests": entries}, LIST)
    with pytest.raises(BadImage):
        registry.resolve("team/app", "1.0")


# Logging in


def challenge(http, header, right, path="/manifests/1.0", content=None):
    """Have a path at the registry that wants an Authorization."""
    body = json.dumps(manifest()).encode() if content is None else content

    def answer(request, context):
        if request.headers.get("Authorization") not in right:
            context.status_code = 401
            context.headers["WWW-Authenticate"] = header
            return b""
        context.headers["Content-Type"] = SCHEMA2
        return body

    http.get(URL + path, content=answer)


def test_the_password_is_sent_when_it_is_asked_for(http, registry):
    challenge(http, 'Basic realm="test"', [BASIC])
    registry.resolve("team/app", "1.0")
    registry.resolve("team/app", "1.0")
    assert [authorization for _, authorization in asked(http)] == [None, BASIC, BASIC]


def test_an_open_registry_is_not_sent_the_password(http, registry):
    serve(http, manifest())
    registry.resolve("team/app", "1.0")
    assert [authorization for _, authorization in asked(http)] == [None]


def test_a_wrong_password_is_refused(http, registry):
    challenge(http, 'Basic realm="test"', [])
    with pytest.raises(registries.Refused) as caught:
        registry.resolve("team/app", "1.0")
    assert "pä:ss" not in str(caught.value)
    assert len(asked(http)) == 2


def test_without_a_password_none_is_sent(http):
    challenge(http, 'Basic realm="test"', [BASIC])
    with pytest.raises(registries.Refused, match="password"):
        Registry(HOST).resolve("team/app", "1.0")


@pytest.mark.parametrize("header", ["", "Negotiate", 'Digest realm="basic"'])
def test_another_log_in_is_refused(http, registry, header):
    challenge(http, header, [BASIC])
    with pytest.raises(registries.Refused, match="neither"):
        registry.resolve("team/app", "1.0")


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_a_token_is_fetched_once_for_a_repository(http, registry, key):
    challenge(http, BEARER, ["Bearer t0k3n"])
    challenge(http, BEARER, ["Bearer t0k3n"], "/blobs/" + digest_of(b"one"), b"one")
    http.get(REALM, json={key: "t0k3n"})
    image = registry.resolve("team/app", "1.0")
    assert b"".join(registry.blob("team/app", image.layers[0])) == b"one"
    assert asked(http) == [
        (f"{HOST}/v2/team/app/manifests/1.0", None),
        ("auth.example.org/token", BASIC),
        (f"{HOST}/v2/team/app/manifests/1.0", "Bearer t0k3n"),
        (f"{HOST}/v2/team/app/blobs/{digest_of(b'one')}", "Bearer t0k3n"),
    ]
    query = parse.parse_qs(parse.urlsplit(http.request_history[1].url).query)
    assert query == {"service": ["reg"], "scope": ["repository:team/app:pull"]}


def test_a_token_that_has_expired_is_fetched_again(http, registry):
    right = ["Bearer one"]
    challenge(http, BEARER, right)
    http.get(REALM, [{"json": {"token": "one"}}, {"json": {"token": "two"}}])
    registry.resolve("team/app", "1.0")
    right[:] = ["Bearer two"]
    assert registry.resolve("team/app", "1.0")


def test_a_token_is_for_anyone_who_has_no_password(http):
    challenge(http, BEARER, ["Bearer t0k3n"])
    http.get(REALM, json={"token": "t0k3n"})
    Registry(HOST).resolve("team/app", "1.0")
    assert ("auth.example.org/token", None) in asked(http)


def test_of_two_ways_to_log_in_the_token_is_taken(http, registry):
    challenge(http, f'Basic realm="http://x", {BEARER}, Basic realm="y"', ["Bearer t"])
    http.get(REALM, json={"token": "t"})
    assert registry.resolve("team/app", "1.0")


@pytest.mark.parametrize("realm", ["http://auth.example.org/token", "", "file:///etc"])
def test_no_token_is_fetched_without_tls(http, registry, realm):
    challenge(http, f'Bearer realm="{realm}"', ["Bearer t0k3n"])
    http.get("http://auth.example.org/token", json={"token": "t0k3n"})
    with pytest.raises(registries.Refused, match="TLS"):
        registry.resolve("team/app", "1.0")
    assert len(asked(http)) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status_code": 401}, registries.Refused),
        ({"status_code": 404}, registries.Refused),
        (
            {"status_code": 302, "headers": {"Location": "http://x/"}},
            registries.Refused,
        ),
        ({"status_code": 503}, registries.Unreachable),
        ({"text": "hello"}, registries.Refused),
        ({"json": {}}, registries.Refused),
        ({"json": {"token": "a\r\nb: c"}}, registries.Refused),
        ({"json": {"token": 7}}, registries.Refused),
        ({"exc": requests.ConnectTimeout}, registries.Unreachable),
    ],
)
def test_without_a_token_there_is_no_image(http, registry, answer, error):
    challenge(http, BEARER, [])
    http.get(REALM, **answer)
    with pytest.raises(error):
        registry.resolve("team/app", "1.0")


# Redirects

STORE = "https://store.example.com/bucket/one?signature=s3cr3t"
ONE = Descriptor(digest_of(b"one"), 3, TAR)


def redirect(http, location, status=307):
    challenge(http, 'Basic realm="test"', [BASIC])
    registry = Registry(HOST, auth=AUTH)
    registry.resolve("team/app", "1.0")
    http.get(
        f"{URL}/blobs/{ONE.digest}",
        status_code=status,
        headers={"Location": location},
    )
    http.reset_mock()
    return registry


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_an_object_store_is_not_told_who_we_are(http, status):
    registry = redirect(http, STORE, status)
    http.get(STORE, content=b"one")
    assert b"".join(registry.blob("team/app", ONE)) == b"one"
    assert asked(http) == [
        (f"{HOST}/v2/team/app/blobs/{ONE.digest}", BASIC),
        ("store.example.com/bucket/one", None),
    ]


def test_another_port_of_the_registrys_host_is_another(http):
    registry = redirect(http, f"https://{HOST}:8443/one")
    http.get(f"https://{HOST}:8443/one", content=b"one")
    assert b"".join(registry.blob("team/app", ONE)) == b"one"
    assert asked(http)[-1] == (f"{HOST}:8443/one", None)


def test_a_redirect_inside_the_registry_is_followed_as_us(http):
    registry = redirect(http, "/elsewhere")
    http.get(f"https://{HOST}/elsewhere", content=b"one")
    assert b"".join(registry.blob("team/app", ONE)) == b"one"
    assert asked(http)[-1] == (f"{HOST}/elsewhere", BASIC)


def test_an_object_store_that_asks_is_not_told_either(http):
    registry = redirect(http, STORE)
    header = {"WWW-Authenticate": 'Basic realm="store"'}
    http.get(STORE, status_code=401, headers=header)
    with pytest.raises(registries.Refused) as caught:
        list(registry.blob("team/app", ONE))
    assert "s3cr3t" not in str(caught.value)
    assert [authorization for _, authorization in asked(http)] == [BASIC, None]


@pytest.mark.parametrize("location", ["http://store.example.com/one", "ftp://x/one"])
def test_a_redirect_to_where_there_is_no_tls_is_refused(http, location):
    registry = redirect(http, location)
    with pytest.raises(registries.Refused, match="TLS"):
        list(registry.blob("team/app", ONE))
    assert len(asked(http)) == 1


def test_redirects_end(http):
    registry = redirect(http, f"{URL}/blobs/{ONE.digest}")
    with pytest.raises(registries.Unreachable, match="without end"):
        list(registry.blob("team/app", ONE))
    assert len(asked(http)) < 10


# Blobs


@pytest.mark.parametrize(
    ("content", "headers", "message"),
    [
        (b"One", {}, "digest"),
        (b"on", {}, "1 bytes before"),
        (b"", {}, "3 bytes before"),
        (b"ones", {}, "more than 3"),
        (b"one", {"Content-Length": "4"}, "should have 3"),
    ],
)
def test_a_blob_must_be_what_its_descriptor_says(
    http, registry, content, headers, message
):
    http.get(f"{URL}/blobs/{ONE.digest}", content=content, headers=headers)
    with pytest.raises(BadImage, match=message):
        list(registry.blob("team/app", ONE))


def test_a_blob_flows_in_chunks(http, registry):
    content = bytes(1024 * 1024)
    http.get(f"{URL}/blobs/{digest_of(content)}", content=content)
    blob = Descriptor(digest_of(content), len(content), TAR)
    chunks = list(registry.blob("team/app", blob))
    assert b"".join(chunks) == content
    assert len(chunks) > 1


def test_a_compressed_blob_is_not_expanded_on_the_way(http, registry):
    content = gzip.compress(b"one")
    http.get(
        f"{URL}/blobs/{digest_of(content)}",
        content=content,
        headers={"Content-Encoding": "gzip"},
    )
    blob = Descriptor(digest_of(content), len(content), GZIP)
    assert b"".join(registry.blob("team/app", blob)) == content
    assert http.last_request.headers["Accept-Encoding"] == "identity"


def test_a_connection_that_is_lost_in_a_blob_is_no_fault_of_the_image(http, registry):
    class Lost(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise ConnectionResetError(104, "Connection reset by peer")

    http.get(f"{URL}/blobs/{ONE.digest}", body=Lost())
    with pytest.raises(registries.Unreachable, match="reset by peer"):
        list(registry.blob("team/app", ONE))


# Errors


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, registries.Refused),
        (404, registries.NotFound),
        (429, registries.Unreachable),
        (500, registries.Unreachable),
        (503, registries.Unreachable),
        (400, registries.RegistryError),
        (206, registries.RegistryError),
    ],
)
def test_a_status_is_an_error(http, registry, status, error):
    serve(http, manifest(), status_code=status)
    with pytest.raises(error, match=f"team/app:1.0: .* {status}") as caught:
        registry.resolve("team/app", "1.0")
    assert caught.type is error


@pytest.mark.parametrize(
    ("cause", "error"),
    [
        (requests.ConnectTimeout("no answer"), registries.Unreachable),
        (requests.ReadTimeout("no answer"), registries.Unreachable),
        (requests.ConnectionError("no route"), registries.Unreachable),
        (requests.exceptions.SSLError("wrong version number"), registries.Unreachable),
        (
            requests.exceptions.SSLError(ssl.SSLCertVerificationError(1, "unknown")),
            registries.Refused,
        ),
        (OSError("no such CA file"), registries.RegistryError),
    ],
)
def test_a_failed_call_is_an_error(http, registry, cause, error):
    http.get(f"{URL}/manifests/1.0", exc=cause)
    with pytest.raises(error) as caught:
        registry.resolve("team/app", "1.0")
    assert caught.type is error


def test_an_error_does_not_tell_a_signed_url(http):
    registry = redirect(http, "https://[store/one?signature=s3cr3t")
    with pytest.raises(registries.RegistryError) as caught:
        list(registry.blob("team/app", ONE))
    assert "s3cr3t" not in str(caught.value)


def test_the_environment_has_no_say(http, registry, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text(f"machine {HOST} login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    serve(http, manifest())
    registry.resolve("team/app", "1.0")
    assert "Authorization" not in http.last_request.headers
    assert not http.last_request.proxies


def test_each_thread_has_its_own_session(registry):
    with futures.ThreadPoolExecutor(1) as pool:
        other = pool.submit(registry._session).result()
    assert other is not registry._session()
    assert registry._session() is registry._session()


# Archives


def image_of(http, *layers):
    """Have an image at the registry, its blobs too."""
    diff_ids = [
        digest_of(gzip.decompress(c) if c.startswith(b"\x1f\x8b") else c)
        for c in layers
    ]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    for blob in (config, *layers):
        http.get(f"{URL}/blobs/{digest_of(blob)}", content=blob)
    parts = [part(layer, TAR) for layer in layers]
    serve(http, manifest(config=part(config, CONFIG), layers=parts))
    return Registry(HOST).resolve("team/app", "1.0")


PLAIN = archives.tar({"etc/motd": b"Hello!\n"})
ZIPPED = gzip.compress(archives.tar({"etc/issue": b"Debian\n"}))


def test_the_archive_is_an_images(http, registry):
    image = image_of(http, PLAIN, ZIPPED)
    archive = RegistryArchive(registry, image, "app:1.0")
    checked = ImageArchive(archive, "app:1.0", "amd64")
    assert b"".join(checked)
    assert checked.image_id == image.config.digest


def test_the_manifest_is_last_in_the_archive(http, registry):
    image = image_of(http, PLAIN, ZIPPED)
    content = b"".join(RegistryArchive(registry, image, "app:1.0"))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = archive.getnames()
        last = archive.extractfile(names[-1])
        assert json.load(last) == [
            {
                "Config": "config.json",
                "RepoTags": ["app:1.0"],
                "Layers": ["1.tar", "2.tar"],
            }
        ]
    assert names == ["config.json", "1.tar", "2.tar", "manifest.json"]


def test_a_layer_that_occurs_twice_is_in_the_archive_once(http, registry):
    image = image_of(http, PLAIN, ZIPPED, PLAIN)
    archive = RegistryArchive(registry, image, "")
    content = b"".join(archive)
    assert len(content) == archive.size
    members = archives.members(content)
    assert list(members) == ["config.json", "1.tar", "2.tar", "manifest.json"]
    [told] = json.loads(members["manifest.json"])
    assert told["Layers"] == ["1.tar", "2.tar", "1.tar"]
    assert told["RepoTags"] is None


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 1024])
@pytest.mark.parametrize("tag", ["", "app:1.0", "a" * 500, "äpp:1"])
def test_the_size_is_that_of_the_archive(http, registry, length, tag):
    archive = RegistryArchive(registry, image_of(http, b"x" * length, PLAIN), tag)
    for _ in range(2):
        assert sum(map(len, archive)) == archive.size


def test_the_size_is_known_without_a_blob(http, registry):
    image = image_of(http, PLAIN)
    http.reset_mock()
    huge = Descriptor(ONE.digest, 2**40, TAR)
    image = Image(image.repository, image.digest, image.config, (huge,))
    assert RegistryArchive(registry, image, "").size > 2**40
    assert not http.called


def test_a_broken_blob_breaks_off_the_archive(http, registry):
    image = image_of(http, PLAIN, ZIPPED)
    http.get(f"{URL}/blobs/{digest_of(ZIPPED)}", content=bytes(len(ZIPPED)))
    content: list[bytes] = []
    with pytest.raises(BadImage):
        content.extend(RegistryArchive(registry, image, ""))
    assert content
    assert b"manifest.json" not in b"".join(content)
