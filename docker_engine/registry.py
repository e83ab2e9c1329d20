# SPDX-License-Identifier: Apache-2.0
"""A registry's images over HTTP, as far as they are read: the OCI distribution
specification, which was Docker's registry API v2.

What a registry answers is not trusted: a manifest and a blob must have the
digest they are asked by, and the size they are said to have.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import re
import ssl
import tarfile
import threading
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from urllib import parse

import requests
import urllib3

# Bytes. The first is what registries themselves take; images have some thousand.
MAX_MANIFEST = 4 * 1024 * 1024
MAX_CONFIG = 1024 * 1024
MAX_TOKEN = 1024 * 1024
# Docker's own limit.
MAX_LAYERS = 127

_MAX_SIZE = 2**63 - 1
_MAX_REDIRECTS = 5
_STEP = 256 * 1024

_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_REPOSITORY = re.compile(r"(?=.{1,255}\Z)[a-z0-9]+((\.|_|__|-+|/)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_INDEXES = (
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
_CONFIGS = (
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
)
_LAYERS = (
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)

# One that follows another, in the same header, begins after a comma.
_BEARER = re.compile(r"(?:^|,)\s*bearer\s+(.*)", re.IGNORECASE)
_BASIC = re.compile(r"(?:^|,)\s*basic\b", re.IGNORECASE)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class RegistryError(Exception):
    """A registry does not do what it is asked; the message is a sentence on why."""


class NotFound(RegistryError):
    """The registry has no such image, or no such part of it."""


class Refused(RegistryError):
    """The registry does not let us in, or is not the one it should be."""


class Unreachable(RegistryError):
    """No connection, one that was lost, silence, or a server's error."""


class BadImage(RegistryError):
    """What the registry answers is no image that can be taken."""


@dataclasses.dataclass(frozen=True)
class Descriptor:
    """What names a blob.

    :ivar digest: ``sha256:`` and 64 hexadecimal digits
    :ivar size: bytes
    """

    digest: str
    size: int
    media_type: str


@dataclasses.dataclass(frozen=True)
class Image:
    """An image for one architecture.

    :ivar digest: of what was asked for, the one to pull by: an index's, if the
        image was chosen from an index
    :ivar layers: lowest first, one at least
    """

    repository: str
    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Registry:
    """One registry, over TLS. May be used from several threads.

    Every method, and iterating what it returns, raises :class:`RegistryError`
    or one of its subclasses.
    """

    def __init__(
        self,
        host: str,
        *,
        auth: tuple[str, str] | None = None,
        ca_file: str | None = None,
        verify: bool = True,
        connect_timeout: float = 5,
        read_timeout: float = 60,
    ) -> None:
        """
        :param host: ``host`` or ``host:port``
        :param auth: user name and password; None for an open registry
        :param ca_file: PEM; who signed the certificates of the registry and of
            those it sends us to for tokens and blobs; None: whom requests trusts
        :param verify: whether certificates are checked at all
        :param connect_timeout: seconds
        :param read_timeout: seconds of silence
        :raises ValueError: for what is not a host
        """
        if not _HOST.fullmatch(host):
            raise ValueError(f"not a registry: {host!r}; host or host:port")
        # As it will be in the URL of an answer.
        self.host = host.lower()
        self._auth = auth
        self._verify: bool | str = verify and (ca_file or True)
        self._timeout = (connect_timeout, read_timeout)
        # A requests session is not safe to share between threads.
        self._local = threading.local()
        # By scope. Two threads that both ask for one get one that is right.
        self._authorizations: dict[str, str] = {}

    def resolve(
        self, repository: str, reference: str, architecture: str = "amd64"
    ) -> Image:
        """Find an image.

        :param reference: a tag or a digest, ``sha256:…``
        :param architecture: as Go names it; chooses from an index
        :raises BadImage: also when an index has none for Linux on it
        """
        if not _REPOSITORY.fullmatch(repository):
            raise NotFound(f"{repository!r} is no name of a repository")
        what = f"{self.host}/{repository}"
        if _DIGEST.fullmatch(reference):
            what += f"@{reference}"
        elif _TAG.fullmatch(reference):
            what += f":{reference}"
        else:
            raise NotFound(f"{reference!r} is neither a tag nor a sha256 digest")
        with _about(what):
            digest, kind, content = self._manifest(repository, reference)
            if kind in _INDEXES:
                chosen = _chosen(content, architecture)
                _, kind, content = self._manifest(
                    repository, chosen.digest, chosen.size
                )
            if kind not in _MANIFESTS:
                raise BadImage(f"it is no image: its media type is {_short(kind)}")
            config, layers = _parts(content)
        return Image(repository, digest, config, layers)

    def blob(self, repository: str, descriptor: Descriptor) -> Iterator[bytes]:
        """Read a blob as it comes.

        What was given is right only when the iteration has ended: not before
        then is the digest known.

        :raises BadImage: when its size or its digest is not the descriptor's
        """
        what = f"{self.host}/{repository}: blob {descriptor.digest}"
        path = f"/v2/{repository}/blobs/{descriptor.digest}"
        with _about(what), contextlib.closing(self._get(repository, path)) as answer:
            length = answer.headers.get("Content-Length")
            if length not in (None, str(descriptor.size)):
                raise BadImage(
                    f"it has {_short(length)} bytes, and should have {descriptor.size}"
                )
            digest = hashlib.sha256()
            left = descriptor.size
            for chunk in _chunks(answer):
                left -= len(chunk)
                if left < 0:
                    raise BadImage(f"it has more than {descriptor.size} bytes")
                digest.update(chunk)
                yield chunk
            if left:
                raise BadImage(f"it ends {left} bytes before its end")
            if f"sha256:{digest.hexdigest()}" != descriptor.digest:
                raise BadImage("its digest is another")

    def _manifest(
        self, repository: str, reference: str, size: int | None = None
    ) -> tuple[str, str, dict[str, Any]]:
        """Get a manifest or an index.

        :param size: in bytes, when it is known
        :returns: its digest, its media type and itself
        """
        path = f"/v2/{repository}/manifests/{reference}"
        accept = ", ".join(_MANIFESTS + _INDEXES)
        answer = self._get(repository, path, {"Accept": accept})
        with contextlib.closing(answer):
            body = _body(answer, MAX_MANIFEST)
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if _DIGEST.fullmatch(reference) and digest != reference:
            raise BadImage("its manifest's digest is another")
        if size not in (None, len(body)):
            raise BadImage("its manifest's size is another")
        content = _json(body)
        header = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        kind = content.get("mediaType", header)
        # The header is not part of what the digest is of: what may be read in two
        # ways would be one image here, and another in an engine.
        if kind != header or ("manifests" in content and "layers" in content):
            raise BadImage("its manifest is ambiguous")
        return digest, kind, content

    # HTTP

    def _get(
        self, repository: str, path: str, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Ask the registry; log in if it says so.

        :returns: an answer 200 whose body has not been read
        """
        scope = f"repository:{repository}:pull"
        for last in (False, True):
            authorization = self._authorizations.get(scope)
            answer = self._follow(f"https://{self.host}{path}", headers, authorization)
            # A token that was kept may have expired.
            if answer.status_code != 401 or last or not self._is_own(answer.url):
                break
            answer.close()
            challenge = answer.headers.get("WWW-Authenticate", "")
            self._authorizations[scope] = self._login(challenge, scope)
        return _checked(answer)

    def _follow(
        self, url: str, headers: Mapping[str, str] | None, authorization: str | None
    ) -> requests.Response:
        """Send a request on to wherever the registry says, such as an object store.

        Others than the registry itself do not see who we are.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            sent = dict(headers or {})
            if authorization and self._is_own(url):
                sent["Authorization"] = authorization
            answer = self._send(url, sent)
            if not answer.is_redirect:
                return answer
            answer.close()
            url = parse.urljoin(url, answer.headers["Location"])
            if not url.startswith("https://"):
                raise Refused("it redirects to where there is no TLS")
        raise Unreachable("it redirects without end")

    def _is_own(self, url: str) -> bool:
        return url.startswith(f"https://{self.host}/")

    def _login(self, challenge: str, scope: str) -> str:
        """Return the ``Authorization`` that a challenge asks for."""
        if bearer := _BEARER.search(challenge):
            # Of a parameter named twice, the first is the Bearer's.
            parameters = dict(reversed(_PARAMETER.findall(bearer[1])))
            return f"Bearer {self._token(parameters, scope)}"
        if not _BASIC.search(challenge):
            raise Refused("it wants a log-in that is neither Basic nor Bearer")
        if not self._auth:
            raise Refused("it wants a user name and a password")
        return _basic(self._auth)

    def _token(self, parameters: Mapping[str, str], scope: str) -> str:
        realm = parameters.get("realm", "")
        if not realm.startswith("https://"):
            raise Refused("it gives its tokens where there is no TLS")
        query = {"scope": scope}
        if "service" in parameters:
            query["service"] = parameters["service"]
        headers = {"Authorization": _basic(self._auth)} if self._auth else {}
        answer = self._send(realm, headers, query)
        with contextlib.closing(answer):
            if answer.status_code != 200 and answer.status_code < 500:
                raise Refused(f"it gives no token: {answer.status_code}")
            try:
                content = _json(_body(_checked(answer), MAX_TOKEN))
            except BadImage as error:
                raise Refused(f"it gives no token: {error}") from None
        token = content.get("token") or content.get("access_token")
        # Else it could not be, or would be more than, one header.
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise Refused("it gives no token")
        return token

    def _send(
        self,
        url: str,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
    ) -> requests.Response:
        try:
            return self._session().get(
                url,
                params=query,
                # Digests are of what is stored: no encoding on the way.
                headers={"Accept-Encoding": "identity", **headers},
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            )
        # A ca_file that is not there is an OSError, a URL that is none a ValueError.
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            raise _translated(error) from error

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            session = requests.Session()
            # No proxy and, above all, no .netrc of the environment.
            session.trust_env = False
            session.verify = self._verify
            self._local.session = session
        return self._local.session


class RegistryArchive:
    """What ``docker load`` takes, composed of a registry's blobs as they come.

    Layers are as the registry has them, compressed or not. The manifest, without
    which an engine loads nothing, is last. Each iteration reads the blobs anew.

    :param tag: what the image is called in the archive, ``name:tag``, or empty
    :raises RegistryError: while iterating
    """

    def __init__(self, registry: Registry, image: Image, tag: str) -> None:
        self._registry = registry
        self._image = image
        # An image may have the same layer twice, an archive need not.
        self._names: dict[str, str] = {}
        self._layers: list[Descriptor] = []
        for layer in image.layers:
            if layer.digest not in self._names:
                self._layers.append(layer)
                self._names[layer.digest] = f"{len(self._layers)}.tar"
        manifest = {
            "Config": "config.json",
            "RepoTags": [tag] if tag else None,
            "Layers": [self._names[layer.digest] for layer in image.layers],
        }
        self._manifest = json.dumps([manifest]).encode()

    @property
    def size(self) -> int:
        """Bytes of the archive, known from the image's manifest alone."""
        sizes = [self._image.config.size, *(layer.size for layer in self._layers)]
        sizes.append(len(self._manifest))
        block = tarfile.BLOCKSIZE
        return sum(block + size + -size % block for size in sizes) + 2 * block

    def __iter__(self) -> Iterator[bytes]:
        yield from self._blob("config.json", self._image.config)
        for layer in self._layers:
            yield from self._blob(self._names[layer.digest], layer)
        yield _header("manifest.json", len(self._manifest))
        yield self._manifest
        yield _padding(len(self._manifest)) + bytes(2 * tarfile.BLOCKSIZE)

    def _blob(self, name: str, descriptor: Descriptor) -> Iterator[bytes]:
        yield _header(name, descriptor.size)
        yield from self._registry.blob(self._image.repository, descriptor)
        if padding := _padding(descriptor.size):
            yield padding


# Manifests


def _chosen(index: Mapping[str, Any], architecture: str) -> Descriptor:
    """Return what an index has for Linux on an architecture."""
    entries = index.get("manifests")
    if not isinstance(entries, list):
        raise BadImage("its index names no images")
    for entry in entries:
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if (
            isinstance(platform, dict)
            and platform.get("os") == "linux"
            and platform.get("architecture") == architecture
        ):
            return _descriptor(entry, MAX_MANIFEST)
    raise BadImage(f"it is not for linux/{architecture}")


def _parts(manifest: Mapping[str, Any]) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Return a manifest's configuration and layers."""
    config = _descriptor(manifest.get("config"), MAX_CONFIG)
    if config.media_type not in _CONFIGS:
        raise BadImage(
            f"it is no container image: its configuration is "
            f"{_short(config.media_type)}"
        )
    entries = manifest.get("layers")
    if not isinstance(entries, list) or not entries:
        raise BadImage("it has no layer, so nothing to run")
    if len(entries) > MAX_LAYERS:
        raise BadImage(f"it has more than {MAX_LAYERS} layers")
    layers = tuple(_layer(entry) for entry in entries)
    if len({layer.digest for layer in layers}) < len(set(layers)):
        raise BadImage("it gives one layer two sizes or media types")
    return config, layers


def _layer(entry: Any) -> Descriptor:
    layer = _descriptor(entry, _MAX_SIZE)
    kind = layer.media_type
    if entry.get("urls") or "foreign" in kind or "nondistributable" in kind:
        raise BadImage("it has a layer that lies elsewhere than in the registry")
    if kind.endswith(("+zstd", ".zstd")):
        raise BadImage(
            "it has a layer that is compressed with zstd: push it with gzip, "
            "skopeo copy --dest-compress-format gzip OLD NEW"
        )
    if kind not in _LAYERS:
        raise BadImage(f"it has a layer that is {_short(kind)}")
    return layer


def _descriptor(entry: Any, max_size: int) -> Descriptor:
    if not isinstance(entry, dict):
        raise BadImage("its manifest is malformed")
    digest, size = entry.get("digest"), entry.get("size")
    kind = entry.get("mediaType")
    if not isinstance(kind, str):
        raise BadImage("its manifest is malformed: a part has no media type")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise BadImage(f"it has a part whose digest is {_short(digest)}")
    # True is an int too.
    if type(size) is not int or not 0 <= size <= max_size:
        raise BadImage(f"it has a part of {_short(size)} bytes")
    return Descriptor(digest, size, kind)


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body.decode(), object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise BadImage("its answer is not JSON") from None
    if not isinstance(content, dict):
        raise BadImage("its answer is not a JSON object")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Go, in which engines are written, takes "Layers" for "layers" and the last
    # of two: what has both would be one image here, and another there.
    if len({key.casefold() for key, _ in pairs}) < len(pairs):
        raise ValueError("keys that may be taken for one another")
    return dict(pairs)


def _short(value: Any) -> str:
    return repr(value)[:100]


# HTTP


def _basic(auth: tuple[str, str]) -> str:
    return f"Basic {base64.b64encode(':'.join(auth).encode()).decode()}"


def _checked(answer: requests.Response) -> requests.Response:
    status = answer.status_code
    if status == 200:
        return answer
    answer.close()
    # No more of the URL: that of an object store has a signature.
    message = f"{parse.urlsplit(answer.url).hostname} answers {status} {answer.reason}"
    if status in (401, 403):
        raise Refused(message)
    if status == 404:
        raise NotFound(message)
    if status == 429 or status >= 500:
        raise Unreachable(message)
    raise RegistryError(message)


def _body(answer: requests.Response, max_size: int) -> bytes:
    body = bytearray()
    for chunk in _chunks(answer):
        body += chunk
        if len(body) > max_size:
            raise BadImage(f"its answer is larger than {max_size} bytes")
    return bytes(body)


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    """The body as it comes.

    :raises Unreachable: when the connection ends before the body
    """
    while True:
        try:
            chunk = answer.raw.read(_STEP, decode_content=False)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise Unreachable(f"the connection was lost: {_words(error)}") from error
        if not chunk:
            return
        yield chunk


def _translated(error: BaseException) -> RegistryError:
    """Our error for one of the HTTP libraries, whose own words may have a URL."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Refused(f"its certificate is not trusted: {_words(cause)}")
    if isinstance(error, requests.exceptions.InvalidURL | ValueError):
        return RegistryError("its address, or that it sends us to, is no URL")
    if not isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError):
        # Of requests' own, before it connects: it has the path of ca_file.
        return RegistryError(str(error))
    return Unreachable(f"it cannot be reached: {_words(error)}")


def _words(error: BaseException) -> str:
    """What the innermost error says: those around it have the URL."""
    root = list(_causes(error))[-1]
    why = getattr(root, "verify_message", None) or getattr(root, "strerror", None)
    return why or _short(root)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what the libraries have wrapped in it, outermost first."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        inner = [getattr(found, "reason", None), *found.args]
        inner += [found.__cause__, found.__context__]
        found = next((e for e in inner if isinstance(e, BaseException)), None)


@contextlib.contextmanager
def _about(what: str) -> Iterator[None]:
    """Say in the message of an error what it is about."""
    try:
        yield
    except RegistryError as error:
        raise type(error)(f"{what}: {error}") from error


# Archives


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


__all__ = [
    "BadImage",
    "Descriptor",
    "Image",
    "NotFound",
    "Refused",
    "Registry",
    "RegistryArchive",
    "RegistryError",
    "Unreachable",
]
