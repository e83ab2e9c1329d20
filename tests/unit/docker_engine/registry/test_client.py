# SPDX-License-Identifier: Apache-2.0
"""Names, authentication, redirects, blobs and errors of a registry.

With mocked HTTP; tests/functional has a real registry.
"""

from __future__ import annotations

import gzip
import io
import ssl
from concurrent import futures
from urllib import parse

import pytest
import requests

from docker_engine import registry as registries
from docker_engine.registry import BadImage
from docker_engine.registry import Descriptor
from docker_engine.registry import Registry
from tests.unit.docker_engine.registry.samples import AUTH
from tests.unit.docker_engine.registry.samples import BASIC
from tests.unit.docker_engine.registry.samples import BEARER
from tests.unit.docker_engine.registry.samples import GZIP
from tests.unit.docker_engine.registry.samples import HOST
from tests.unit.docker_engine.registry.samples import ONE
from tests.unit.docker_engine.registry.samples import REALM
from tests.unit.docker_engine.registry.samples import TAR
from tests.unit.docker_engine.registry.samples import URL
from tests.unit.docker_engine.registry.samples import asked
from tests.unit.docker_engine.registry.samples import challenge
from tests.unit.docker_engine.registry.samples import digest_of
from tests.unit.docker_engine.registry.samples import manifest
from tests.unit.docker_engine.registry.samples import serve


@pytest.mark.parametrize("name", ["", "App", "../x", "a//../b", "a?b", "a b", "a/"])
def test_an_invalid_repository_is_not_requested(http, registry, name):
    with pytest.raises(registries.NotFound):
        registry.resolve(name, "1.0")
    assert not http.called


@pytest.mark.parametrize("reference", ["", "a/b", "../x", "sha256:12", ".1", "a" * 129])
def test_an_invalid_reference_is_not_requested(http, registry, reference):
    with pytest.raises(registries.NotFound):
        registry.resolve("team/app", reference)
    assert not http.called


@pytest.mark.parametrize("host", ["", "a/b", "user@host", "https://a", "a:b", "a?b"])
def test_an_invalid_host_is_a_value_error(host):
    with pytest.raises(ValueError, match="not a registry"):
        Registry(host)


def test_the_password_is_sent_on_request(http, registry):
    challenge(http, 'Basic realm="test"', [BASIC])
    registry.resolve("team/app", "1.0")
    registry.resolve("team/app", "1.0")
    assert [authorization for _, authorization in asked(http)] == [None, BASIC, BASIC]


def test_the_password_is_not_sent_to_an_open_registry(http, registry):
    serve(http, manifest())
    registry.resolve("team/app", "1.0")
    assert [authorization for _, authorization in asked(http)] == [None]


def test_a_wrong_password_is_refused(http, registry):
    challenge(http, 'Basic realm="test"', [])
    with pytest.raises(registries.Refused) as caught:
        registry.resolve("team/app", "1.0")
    assert "pä:ss" not in str(caught.value)
    assert len(asked(http)) == 2


def test_a_registry_that_requires_a_password_refuses_anonymous_access(http):
    challenge(http, 'Basic realm="test"', [BASIC])
    with pytest.raises(registries.Refused, match="password"):
        Registry(HOST).resolve("team/app", "1.0")


@pytest.mark.parametrize("header", ["", "Negotiate", 'Digest realm="basic"'])
def test_other_authentication_schemes_are_refused(http, registry, header):
    challenge(http, header, [BASIC])
    with pytest.raises(registries.Refused, match="neither"):
        registry.resolve("team/app", "1.0")


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_a_token_is_fetched_once_per_repository(http, registry, key):
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


def test_an_expired_token_is_replaced(http, registry):
    right = ["Bearer one"]
    challenge(http, BEARER, right)
    http.get(REALM, [{"json": {"token": "one"}}, {"json": {"token": "two"}}])
    registry.resolve("team/app", "1.0")
    right[:] = ["Bearer two"]
    assert registry.resolve("team/app", "1.0")


def test_an_anonymous_token_is_fetched_without_a_password(http):
    challenge(http, BEARER, ["Bearer t0k3n"])
    http.get(REALM, json={"token": "t0k3n"})
    Registry(HOST).resolve("team/app", "1.0")
    assert ("auth.example.org/token", None) in asked(http)


def test_bearer_authentication_is_preferred(http, registry):
    challenge(http, f'Basic realm="http://x", {BEARER}, Basic realm="y"', ["Bearer t"])
    http.get(REALM, json={"token": "t"})
    assert registry.resolve("team/app", "1.0")


@pytest.mark.parametrize("realm", ["http://auth.example.org/token", "", "file:///etc"])
def test_no_token_is_fetched_without_tls(http, registry, realm):
    challenge(http, f'Bearer realm="{realm}"', ["Bearer t0k3n"])
    http.get("http://auth.example.org/token", json={"token": "t0k3n"})
    with pytest.raises(registries.Refused, match="non-HTTPS"):
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
def test_a_token_that_cannot_be_fetched_is_an_error(http, registry, answer, error):
    challenge(http, BEARER, [])
    http.get(REALM, **answer)
    with pytest.raises(error):
        registry.resolve("team/app", "1.0")


STORE = "https://store.example.com/bucket/one?signature=s3cr3t"


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
def test_credentials_are_not_sent_to_an_object_store(http, status):
    registry = redirect(http, STORE, status)
    http.get(STORE, content=b"one")
    assert b"".join(registry.blob("team/app", ONE)) == b"one"
    assert asked(http) == [
        (f"{HOST}/v2/team/app/blobs/{ONE.digest}", BASIC),
        ("store.example.com/bucket/one", None),
    ]


def test_credentials_are_not_sent_to_another_port(http):
    registry = redirect(http, f"https://{HOST}:8443/one")
    http.get(f"https://{HOST}:8443/one", content=b"one")
    assert b"".join(registry.blob("team/app", ONE)) == b"one"
    assert asked(http)[-1] == (f"{HOST}:8443/one", None)


def test_credentials_are_sent_with_redirects_within_the_registry(http):
    registry = redirect(http, "/elsewhere")
    http.get(f"https://{HOST}/elsewhere", content=b"one")
    assert b"".join(registry.blob("team/app", ONE)) == b"one"
    assert asked(http)[-1] == (f"{HOST}/elsewhere", BASIC)


def test_credentials_are_not_sent_to_an_object_store_that_asks(http):
    registry = redirect(http, STORE)
    header = {"WWW-Authenticate": 'Basic realm="store"'}
    http.get(STORE, status_code=401, headers=header)
    with pytest.raises(registries.Refused) as caught:
        list(registry.blob("team/app", ONE))
    assert "s3cr3t" not in str(caught.value)
    assert [authorization for _, authorization in asked(http)] == [BASIC, None]


@pytest.mark.parametrize("location", ["http://store.example.com/one", "ftp://x/one"])
def test_a_redirect_to_a_non_https_url_is_refused(http, location):
    registry = redirect(http, location)
    with pytest.raises(registries.Refused, match="non-HTTPS"):
        list(registry.blob("team/app", ONE))
    assert len(asked(http)) == 1


def test_a_redirect_loop_is_ended(http):
    registry = redirect(http, f"{URL}/blobs/{ONE.digest}")
    with pytest.raises(registries.Unreachable, match="too many redirects"):
        list(registry.blob("team/app", ONE))
    assert len(asked(http)) < 10


@pytest.mark.parametrize(
    ("content", "headers", "message"),
    [
        (b"One", {}, "digest"),
        (b"on", {}, "1 bytes missing"),
        (b"", {}, "3 bytes missing"),
        (b"ones", {}, "more than 3"),
        (b"one", {"Content-Length": "4"}, "instead of 3"),
    ],
)
def test_a_blob_must_match_its_descriptor(http, registry, content, headers, message):
    http.get(f"{URL}/blobs/{ONE.digest}", content=content, headers=headers)
    with pytest.raises(BadImage, match=message):
        list(registry.blob("team/app", ONE))


def test_a_blob_is_streamed_in_chunks(http, registry):
    content = bytes(1024 * 1024)
    http.get(f"{URL}/blobs/{digest_of(content)}", content=content)
    blob = Descriptor(digest_of(content), len(content), TAR)
    chunks = list(registry.blob("team/app", blob))
    assert b"".join(chunks) == content
    assert len(chunks) > 1


def test_a_compressed_blob_is_not_expanded(http, registry):
    content = gzip.compress(b"one")
    http.get(
        f"{URL}/blobs/{digest_of(content)}",
        content=content,
        headers={"Content-Encoding": "gzip"},
    )
    blob = Descriptor(digest_of(content), len(content), GZIP)
    assert b"".join(registry.blob("team/app", blob)) == content
    assert http.last_request.headers["Accept-Encoding"] == "identity"


def test_a_connection_lost_in_a_blob_is_unreachable(http, registry):
    class Lost(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise ConnectionResetError(104, "Connection reset by peer")

    http.get(f"{URL}/blobs/{ONE.digest}", body=Lost())
    with pytest.raises(registries.Unreachable, match="reset by peer"):
        list(registry.blob("team/app", ONE))


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
def test_the_status_determines_the_error(http, registry, status, error):
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
def test_the_cause_of_a_failed_request_determines_the_error(
    http, registry, cause, error
):
    http.get(f"{URL}/manifests/1.0", exc=cause)
    with pytest.raises(error) as caught:
        registry.resolve("team/app", "1.0")
    assert caught.type is error


def test_an_error_does_not_contain_a_signed_url(http):
    registry = redirect(http, "https://[store/one?signature=s3cr3t")
    with pytest.raises(registries.RegistryError) as caught:
        list(registry.blob("team/app", ONE))
    assert "s3cr3t" not in str(caught.value)


def test_proxies_and_netrc_of_the_environment_are_ignored(
    http, registry, monkeypatch, tmp_path
):
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
