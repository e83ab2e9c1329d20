# SPDX-License-Identifier: Apache-2.0
"""A registry's images over HTTP, as far as they are read: the OCI distribution
specification, which was Docker's registry API v2.

What a registry answers is not trusted: a manifest and a blob must have the
digest they are asked by, and the size they are said to have.
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
from docker_engine.registry import manifest
from docker_engine.registry.errors import BadImage
from docker_engine.registry.errors import NotFound
from docker_engine.registry.errors import Refused
from docker_engine.registry.errors import RegistryError
from docker_engine.registry.errors import Unreachable
from docker_engine.registry.errors import about
from docker_engine.registry.manifest import Descriptor
from docker_engine.registry.manifest import Image
from docker_engine.strict_json import short
from docker_engine.transport.causes import causes
from docker_engine.transport.causes import root_cause

MAX_TOKEN = 1024 * 1024

_MAX_REDIRECTS = 5

_STEP = 256 * 1024

# One that follows another, in the same header, begins after a comma.
_BEARER = re.compile(r"(?:^|,)\s*bearer\s+(.*)", re.IGNORECASE)

_BASIC = re.compile(r"(?:^|,)\s*basic\b", re.IGNORECASE)

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


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
        if not HOST.fullmatch(host):
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
        if not REPOSITORY.fullmatch(repository):
            raise NotFound(f"{repository!r} is no name of a repository")
        what = f"{self.host}/{repository}"
        if DIGEST.fullmatch(reference):
            what += f"@{reference}"
        elif TAG.fullmatch(reference):
            what += f":{reference}"
        else:
            raise NotFound(f"{reference!r} is neither a tag nor a sha256 digest")
        with about(what):
            digest, kind, content = self._manifest(repository, reference)
            if kind in manifest.INDEXES:
                chosen = manifest.chosen(content, architecture)
                _, kind, content = self._manifest(
                    repository, chosen.digest, chosen.size
                )
            if kind not in manifest.MANIFESTS:
                raise BadImage(f"it is no image: its media type is {short(kind)}")
            config, layers = manifest.parts(content)
        return Image(repository, digest, config, layers)

    def blob(self, repository: str, descriptor: Descriptor) -> Iterator[bytes]:
        """Read a blob as it comes.

        What was given is right only when the iteration has ended: not before
        then is the digest known.

        :raises BadImage: when its size or its digest is not the descriptor's
        """
        what = f"{self.host}/{repository}: blob {descriptor.digest}"
        path = f"/v2/{repository}/blobs/{descriptor.digest}"
        with about(what), contextlib.closing(self._get(repository, path)) as answer:
            length = answer.headers.get("Content-Length")
            if length not in (None, str(descriptor.size)):
                raise BadImage(
                    f"it has {short(length)} bytes, and should have {descriptor.size}"
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
        accept = ", ".join(manifest.MANIFESTS + manifest.INDEXES)
        answer = self._get(repository, path, {"Accept": accept})
        with contextlib.closing(answer):
            body = _body(answer, manifest.MAX_MANIFEST)
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if DIGEST.fullmatch(reference) and digest != reference:
            raise BadImage("its manifest's digest is another")
        if size not in (None, len(body)):
            raise BadImage("its manifest's size is another")
        content = manifest.parse(body)
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
                content = manifest.parse(_body(_checked(answer), MAX_TOKEN))
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
    for cause in causes(error):
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
    root = root_cause(error)
    why = getattr(root, "verify_message", None) or getattr(root, "strerror", None)
    return why or short(root)
