# SPDX-License-Identifier: Apache-2.0
"""Pull images from a registry over HTTPS.

Implements the read-only part of the OCI distribution specification, formerly Docker's
registry API v2. Responses are not trusted: manifests and blobs must have the digest
and the size by which they are referenced.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import ssl
import threading
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from urllib import parse

import requests
import urllib3

from docker_engine.reference import DIGEST
from docker_engine.reference import HOST
from docker_engine.reference import REPOSITORY
from docker_engine.reference import TAG
from docker_engine.registry.errors import BadImage
from docker_engine.registry.errors import NotFound
from docker_engine.registry.errors import Refused
from docker_engine.registry.errors import RegistryError
from docker_engine.registry.errors import Unreachable
from docker_engine.registry.errors import about
from docker_engine.registry.manifest import INDEXES
from docker_engine.registry.manifest import MANIFESTS
from docker_engine.registry.manifest import MAX_MANIFEST
from docker_engine.registry.manifest import Descriptor
from docker_engine.registry.manifest import Image
from docker_engine.registry.manifest import config_and_layers
from docker_engine.registry.manifest import parse_object
from docker_engine.registry.manifest import select
from docker_engine.strict_json import short
from docker_engine.transport.root_cause import causes
from docker_engine.transport.root_cause import root_cause

# Bytes.
MAX_TOKEN = 1024 * 1024
_STEP = 256 * 1024

_MAX_REDIRECTS = 5

# A WWW-Authenticate header may have several challenges, separated by commas.
_BEARER = re.compile(r"(?:^|,)\s*bearer\s+(.*)", re.IGNORECASE)
_BASIC = re.compile(r"(?:^|,)\s*basic\b", re.IGNORECASE)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Registry:
    """One registry, over TLS. May be used from several threads.

    Every method, and iterating over its result, raises :class:`RegistryError` or one
    of its subclasses.
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
        :param auth: user name and password; None for anonymous access
        :param ca_file: PEM; authority that signed the certificates of the registry and
            of the servers it refers to for tokens and blobs; None for the authorities
            that requests trusts
        :param verify: whether to verify certificates
        :param connect_timeout: seconds
        :param read_timeout: seconds of silence
        :raises ValueError: if ``host`` is malformed
        """
        if not HOST.fullmatch(host):
            raise ValueError(f"not a registry: {host!r}; use host or host:port")
        # As requests normalizes the URLs of responses.
        self.host = host.lower()
        self._auth = auth
        self._verify: bool | str = verify and (ca_file or True)
        self._timeout = (connect_timeout, read_timeout)
        # A requests session is not safe to share between threads.
        self._local = threading.local()
        # By scope. Threads that request the same scope at the same time all get a valid
        # one; the last is kept.
        self._authorizations: dict[str, str] = {}

    def resolve(
        self, repository: str, reference: str, architecture: str = "amd64"
    ) -> Image:
        """Look up an image (GET /v2/{repository}/manifests/{reference}).

        :param reference: a tag or a digest, ``sha256:…``
        :param architecture: GOARCH name of the image to select from an index
        :raises NotFound: also if the repository or reference is malformed
        :raises BadImage: also if an index has no Linux image for the architecture
        """
        if not REPOSITORY.fullmatch(repository):
            raise NotFound(f"{repository!r} is not a valid repository name")
        what = f"{self.host}/{repository}"
        if DIGEST.fullmatch(reference):
            what += f"@{reference}"
        elif TAG.fullmatch(reference):
            what += f":{reference}"
        else:
            raise NotFound(f"{reference!r} is neither a tag nor a sha256 digest")
        with about(what):
            digest, kind, content = self._manifest(repository, reference)
            if kind in INDEXES:
                selected = select(content, architecture)
                _, kind, content = self._manifest(
                    repository, selected.digest, selected.size
                )
            if kind not in MANIFESTS:
                raise BadImage(f"not an image: media type {short(kind)}")
            config, layers = config_and_layers(content)
        return Image(repository, digest, config, layers)

    def blob(self, repository: str, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob (GET /v2/{repository}/blobs/{digest}).

        The content is only verified once the iteration has ended: its digest is not
        known earlier.

        :raises BadImage: if its size or digest differs from the descriptor's
        """
        what = f"{self.host}/{repository}: blob {descriptor.digest}"
        path = f"/v2/{repository}/blobs/{descriptor.digest}"
        with about(what), contextlib.closing(self._get(repository, path)) as answer:
            length = answer.headers.get("Content-Length")
            if length not in (None, str(descriptor.size)):
                raise BadImage(
                    f"size mismatch: {short(length)} bytes instead of {descriptor.size}"
                )
            digest = hashlib.sha256()
            left = descriptor.size
            for chunk in _chunks(answer):
                left -= len(chunk)
                if left < 0:
                    raise BadImage(f"size mismatch: more than {descriptor.size} bytes")
                digest.update(chunk)
                yield chunk
            if left:
                raise BadImage(f"truncated: {left} bytes missing")
            if f"sha256:{digest.hexdigest()}" != descriptor.digest:
                raise BadImage("digest mismatch")

    def _manifest(
        self, repository: str, reference: str, size: int | None = None
    ) -> tuple[str, str, dict[str, Any]]:
        """Fetch a manifest or an index.

        :param size: in bytes, if known
        :returns: its digest, its media type, and its content
        """
        path = f"/v2/{repository}/manifests/{reference}"
        accept = ", ".join(MANIFESTS + INDEXES)
        answer = self._get(repository, path, {"Accept": accept})
        with contextlib.closing(answer):
            body = _body(answer, MAX_MANIFEST)
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if DIGEST.fullmatch(reference) and digest != reference:
            raise BadImage("digest mismatch in a manifest")
        if size not in (None, len(body)):
            raise BadImage("size mismatch in a manifest")
        content = parse_object(body)
        header = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        kind = content.get("mediaType", header)
        # The digest does not cover the header: an ambiguous document could be one image
        # here and another one to an engine.
        if kind != header or ("manifests" in content and "layers" in content):
            raise BadImage("ambiguous manifest")
        return digest, kind, content

    # HTTP

    def _get(
        self, repository: str, path: str, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send a request, and log in if the registry asks for it.

        :returns: a response with status 200, whose body has not been read
        """
        scope = f"repository:{repository}:pull"
        for last in (False, True):
            authorization = self._authorizations.get(scope)
            answer = self._follow(f"https://{self.host}{path}", headers, authorization)
            # A cached token may have expired.
            if answer.status_code != 401 or last or not self._is_own(answer.url):
                break
            answer.close()
            challenge = answer.headers.get("WWW-Authenticate", "")
            self._authorizations[scope] = self._login(challenge, scope)
        return _checked(answer)

    def _follow(
        self, url: str, headers: Mapping[str, str] | None, authorization: str | None
    ) -> requests.Response:
        """Follow redirects, for example to an object store.

        Only the registry itself gets the credentials.
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
                raise Refused("redirects to a non-HTTPS URL")
        raise Unreachable("too many redirects")

    def _is_own(self, url: str) -> bool:
        return url.startswith(f"https://{self.host}/")

    def _login(self, challenge: str, scope: str) -> str:
        """Return the ``Authorization`` header for a challenge."""
        if bearer := _BEARER.search(challenge):
            # If a parameter occurs twice, the first belongs to the Bearer challenge.
            parameters = dict(reversed(_PARAMETER.findall(bearer[1])))
            return f"Bearer {self._token(parameters, scope)}"
        if not _BASIC.search(challenge):
            raise Refused("requires authentication that is neither Basic nor Bearer")
        if not self._auth:
            raise Refused("requires a user name and password; none are configured")
        return _basic(self._auth)

    def _token(self, parameters: Mapping[str, str], scope: str) -> str:
        realm = parameters.get("realm", "")
        if not realm.startswith("https://"):
            raise Refused("token service has a non-HTTPS URL")
        query = {"scope": scope}
        if "service" in parameters:
            query["service"] = parameters["service"]
        headers = {"Authorization": _basic(self._auth)} if self._auth else {}
        answer = self._send(realm, headers, query)
        with contextlib.closing(answer):
            if answer.status_code != 200 and answer.status_code < 500:
                raise Refused(f"token service answered {answer.status_code}")
            try:
                content = parse_object(_body(_checked(answer), MAX_TOKEN))
            except BadImage as error:
                raise Refused(f"token service: {error}") from None
        token = content.get("token") or content.get("access_token")
        # Anything else would not fit into one header.
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise Refused("token service returned no valid token")
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
                # Digests refer to stored bytes, so the server must not encode them.
                headers={"Accept-Encoding": "identity", **headers},
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            )
        # A missing ca_file raises OSError, a malformed URL ValueError.
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            raise _translated(error) from error

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            session = requests.Session()
            # Ignore proxies and, above all, .netrc.
            session.trust_env = False
            session.verify = self._verify
            self._local.session = session
        return self._local.session


def _basic(auth: tuple[str, str]) -> str:
    return f"Basic {base64.b64encode(':'.join(auth).encode()).decode()}"


def _checked(answer: requests.Response) -> requests.Response:
    status = answer.status_code
    if status == 200:
        return answer
    answer.close()
    # Only the host of the URL: object stores have signatures in theirs.
    message = f"{parse.urlsplit(answer.url).hostname} answered {status} {answer.reason}"
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
            raise BadImage(f"response is larger than {max_size} bytes")
    return bytes(body)


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    """Stream the body of a response.

    :raises Unreachable: if the connection is lost
    """
    while True:
        try:
            chunk = answer.raw.read(_STEP, decode_content=False)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise Unreachable(f"connection lost: {_reason(error)}") from error
        if not chunk:
            return
        yield chunk


def _translated(error: BaseException) -> RegistryError:
    """Return our error for one of the HTTP libraries, without any URL in its text."""
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Refused(f"certificate verification failed: {_reason(cause)}")
    if isinstance(error, requests.exceptions.InvalidURL | ValueError):
        return RegistryError("invalid URL of the registry or in its response")
    if not isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError):
        # Raised by requests before it connects, with the path of ca_file.
        return RegistryError(str(error))
    return Unreachable(f"unreachable: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """Return the text of the innermost error: the outer ones contain the URL."""
    root = root_cause(error)
    text = getattr(root, "verify_message", None) or getattr(root, "strerror", None)
    return text or short(root)
