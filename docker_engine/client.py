# SPDX-License-Identifier: Apache-2.0
"""The Docker Engine API over HTTP: one method for each endpoint used.

Thin on purpose: arguments and answers are the engine's own (see the Engine API
reference, v1.41 and later); only errors become exceptions of :mod:`errors`.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import socket
import threading
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from types import TracebackType
from typing import Any
from typing import Self
from urllib import parse

import requests
import requests_unixsocket
import urllib3
from requests import exceptions as http
from requests_unixsocket import adapters

from docker_engine import errors

# Docker 20.10 is the oldest engine, and 28 the newest, that this was run with.
MIN_API_VERSION = "1.41"
MAX_API_VERSION = "1.51"

# Of a call that may be repeated, on a connection that the engine has closed.
_TRIES = 3

# Seconds for which an engine may be silent while it unpacks an image, or writes
# the memory of a container.
_LONG_TIMEOUT = 1800


@dataclasses.dataclass(frozen=True)
class TLSConfig:
    """How to speak TLS to a ``tcp://`` engine; files are PEM.

    :ivar ca_file: who signed the engine's certificate; None: whom requests trusts
    :ivar cert_file: the driver's own certificate
    :ivar key_file: its key; None when ``cert_file`` has it
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


class DockerClient:
    """One engine. May be used from several threads.

    Every method raises :class:`errors.DockerError` or one of its subclasses.
    Calls that change nothing when repeated are repeated when the engine closes
    the connection on them; others are not.
    """

    def __init__(
        self,
        host: str = "unix:///var/run/docker.sock",
        *,
        tls: TLSConfig | None = None,
        connect_timeout: float = 5,
        read_timeout: float = 60,
    ) -> None:
        """
        :param host: ``unix:///path`` or ``tcp://address:port``
        :param tls: for ``tcp://``; None speaks plain HTTP
        :param connect_timeout: seconds
        :param read_timeout: seconds of silence
        :raises ValueError: for another kind of host
        """
        self.host = host
        self._base = _base_url(host, tls)
        self._tls = tls
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        # A requests session is not safe to share between threads.
        self._local = threading.local()
        self._version: str | None = None

    # The engine

    @property
    def api_version(self) -> str:
        """The version of the API that the calls use, agreed at the first one.

        :raises UnsupportedVersion: when there is none
        """
        # Two threads that both ask get the same answer.
        if self._version is None:
            self._version = _agree(self.version())
        return self._version

    def ping(self) -> None:
        """GET /_ping"""
        self._send("GET", "/_ping", versioned=False)

    def version(self) -> dict[str, Any]:
        """GET /version"""
        return self._get("/version", versioned=False)

    def info(self) -> dict[str, Any]:
        """GET /info"""
        return self._get("/info")

    def events(
        self,
        *,
        since: float | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> EventStream:
        """GET /events

        :param since: a Unix time; what the engine remembers since then comes
            first. Without it, what happens in the moment after this returns
            may not be in the stream.
        """
        query = _filters(filters)
        if since is not None:
            query["since"] = f"{since:.9f}"
        return EventStream(
            self._send(
                "GET",
                "/events",
                query,
                stream=True,
                timeout=(self._connect_timeout, None),
                # Two threads may end the stream: its connection must not be in
                # the pool of one of them, where a call may be on it already.
                session=self._new_session(),
            )
        )

    # Containers

    def list_containers(
        self,
        *,
        all: bool = True,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> list[dict[str, Any]]:
        """GET /containers/json

        :param all: also those that do not run
        """
        query = {"all": _flag(all), **_filters(filters)}
        return self._get("/containers/json", query)

    def create_container(self, name: str, config: Mapping[str, Any]) -> str:
        """POST /containers/create

        :param config: the request's body
        :returns: the container's id
        :raises Conflict: when the name is taken
        :raises NotFound: when there is no such image
        """
        answer = self._send(
            "POST", "/containers/create", {"name": name}, json=config, repeat=False
        )
        return _parsed(answer)["Id"]

    def inspect_container(self, ref: str) -> dict[str, Any]:
        """GET /containers/{ref}/json"""
        return self._get(_path("containers", ref, "json"))

    def start_container(self, ref: str, *, checkpoint: str | None = None) -> None:
        """POST /containers/{ref}/start; nothing happens to one that runs

        :param checkpoint: where to go on, in place of a new start
        """
        path = _path("containers", ref, "start")
        if checkpoint is None:
            self._send("POST", path)
        else:
            query = {"checkpoint": checkpoint}
            self._send(
                "POST",
                path,
                query,
                timeout=(self._connect_timeout, _LONG_TIMEOUT),
                repeat=False,
            )

    def stop_container(self, ref: str, timeout: int) -> None:
        """POST /containers/{ref}/stop; nothing happens to one that is stopped

        :param timeout: seconds from the stop signal to the kill
        """
        self._send(
            "POST",
            _path("containers", ref, "stop"),
            {"t": str(timeout)},
            timeout=(self._connect_timeout, self._read_timeout + timeout),
        )

    def restart_container(self, ref: str, timeout: int) -> None:
        """POST /containers/{ref}/restart

        :param timeout: seconds from the stop signal to the kill
        """
        self._send(
            "POST",
            _path("containers", ref, "restart"),
            {"t": str(timeout)},
            timeout=(self._connect_timeout, self._read_timeout + timeout),
            repeat=False,
        )

    def kill_container(self, ref: str, signal: str = "KILL") -> None:
        """POST /containers/{ref}/kill

        :raises Conflict: when it does not run
        """
        self._send(
            "POST", _path("containers", ref, "kill"), {"signal": signal}, repeat=False
        )

    def pause_container(self, ref: str) -> None:
        """POST /containers/{ref}/pause

        :raises Conflict: when it is paused already or does not run
        """
        self._send("POST", _path("containers", ref, "pause"), repeat=False)

    def unpause_container(self, ref: str) -> None:
        """POST /containers/{ref}/unpause"""
        self._send("POST", _path("containers", ref, "unpause"), repeat=False)

    def rename_container(self, ref: str, name: str) -> None:
        """POST /containers/{ref}/rename

        :raises Conflict: when the name is taken
        """
        path = _path("containers", ref, "rename")
        self._send("POST", path, {"name": name}, repeat=False)

    def update_container(self, ref: str, limits: Mapping[str, Any]) -> None:
        """POST /containers/{ref}/update: change limits, also while it runs

        :param limits: the request's body
        """
        self._send("POST", _path("containers", ref, "update"), json=limits)

    def container_stats(self, ref: str) -> dict[str, Any]:
        """GET /containers/{ref}/stats: what a container uses, as it is now

        The parts of one that does not run are empty.
        """
        query = {"stream": "0", "one-shot": "1"}
        return self._get(_path("containers", ref, "stats"), query)

    def create_checkpoint(self, ref: str, checkpoint: str) -> None:
        """POST /containers/{ref}/checkpoints: write its processes to disk

        They end when they are written, and run on when they cannot be.

        :raises EngineError: also when it does not run, or CRIU cannot do it
        """
        self._send(
            "POST",
            _path("containers", ref, "checkpoints"),
            json={"CheckpointID": checkpoint, "Exit": True},
            timeout=(self._connect_timeout, _LONG_TIMEOUT),
            repeat=False,
        )

    def list_checkpoints(self, ref: str) -> list[str]:
        """GET /containers/{ref}/checkpoints: their names

        :raises EngineError: also when the engine is not experimental
        """
        found = self._get(_path("containers", ref, "checkpoints"))
        return [checkpoint["Name"] for checkpoint in found or ()]

    def delete_checkpoint(self, ref: str, checkpoint: str) -> None:
        """DELETE /containers/{ref}/checkpoints/{checkpoint}

        :raises EngineError: also when there is none
        """
        path = _path("containers", ref, "checkpoints", checkpoint)
        self._send("DELETE", path, repeat=False)

    def remove_container(
        self, ref: str, *, force: bool = True, volumes: bool = True
    ) -> None:
        """DELETE /containers/{ref}

        :param force: kill it if it runs
        :param volumes: remove its anonymous volumes too
        """
        query = {"force": _flag(force), "v": _flag(volumes)}
        self._send("DELETE", _path("containers", ref), query)

    def container_logs(self, ref: str, *, tail: int | None = None) -> bytes:
        """GET /containers/{ref}/logs

        :param tail: how many lines from the end; None for all
        :returns: what its first process wrote: as it was with the log driver
            ``local``, while ``json-file`` puts U+FFFD for what is not UTF-8
        """
        query = {
            "stdout": "1",
            "stderr": "1",
            "tail": "all" if tail is None else str(tail),
        }
        answer = self._send("GET", _path("containers", ref, "logs"), query)
        # Without a terminal the engine frames the two streams; see "Attach to
        # a container" in its reference. It says so from API 1.42 on.
        kind = answer.headers.get("Content-Type")
        if kind == _RAW or (
            kind != _MULTIPLEXED and self.inspect_container(ref)["Config"]["Tty"]
        ):
            return answer.content
        return b"".join(frames(answer.content))

    def put_archive(self, ref: str, path: str, content: bytes) -> None:
        """PUT /containers/{ref}/archive: unpack an archive in a container

        The engine follows links of the container inside the container only. What
        is there is replaced.

        :param path: directory to unpack in, which must be there
        :param content: a tar archive
        :raises NotFound: when there is no such directory
        :raises DockerError: also when a file would replace a directory
        """
        self._send(
            "PUT",
            _path("containers", ref, "archive"),
            {"path": path, "noOverwriteDirNonDir": "1"},
            data=content,
            headers={"Content-Type": "application/x-tar"},
        )

    def get_archive(self, ref: str, path: str, *, max_size: int) -> bytes:
        """GET /containers/{ref}/archive: a file or directory as a tar archive

        :param max_size: bytes of the archive at most
        :raises NotFound: when there is none
        :raises DockerError: also when the archive is larger
        """
        answer = self._send(
            "GET", _path("containers", ref, "archive"), {"path": path}, stream=True
        )
        with contextlib.closing(ByteStream(answer)) as stream:
            content = stream.read(max_size + 1)
        if len(content) > max_size:
            raise errors.DockerError(f"{path} of {ref} is larger than {max_size}")
        return content

    def create_exec(self, ref: str, config: Mapping[str, Any]) -> str:
        """POST /containers/{ref}/exec: get ready to run one more command

        :param config: the request's body
        :returns: the exec's id
        :raises Conflict: when the container does not run, or is paused
        """
        path = _path("containers", ref, "exec")
        return _parsed(self._send("POST", path, json=config, repeat=False))["Id"]

    def inspect_exec(self, exec_id: str) -> dict[str, Any]:
        """GET /exec/{exec_id}/json"""
        return self._get(_path("exec", exec_id, "json"))

    def start_exec(self, exec_id: str, *, tty: bool) -> socket.socket:
        """POST /exec/{exec_id}/start

        :returns: the command's input and output; with a terminal as they are,
            otherwise its output is framed
        """
        return self._hijack(
            _path("exec", exec_id, "start"), json={"Detach": False, "Tty": tty}
        )

    def resize_exec(self, exec_id: str, rows: int, columns: int) -> None:
        """POST /exec/{exec_id}/resize"""
        size = {"h": str(rows), "w": str(columns)}
        self._send("POST", _path("exec", exec_id, "resize"), size)

    def attach_container(self, ref: str, *, detach_keys: str) -> socket.socket:
        """POST /containers/{ref}/attach

        :param detach_keys: what typed ends the connection and nothing else
        :returns: the terminal of its first process
        """
        query = {
            "stream": "1",
            "stdin": "1",
            "stdout": "1",
            "stderr": "1",
            "detachKeys": detach_keys,
        }
        return self._hijack(_path("containers", ref, "attach"), query)

    def resize_container(self, ref: str, rows: int, columns: int) -> None:
        """POST /containers/{ref}/resize: of its terminal"""
        size = {"h": str(rows), "w": str(columns)}
        self._send("POST", _path("containers", ref, "resize"), size)

    # Images

    def commit_container(
        self, ref: str, repo: str, tag: str, config: Mapping[str, Any]
    ) -> str:
        """POST /commit: make an image of a container, which is frozen meanwhile

        :param config: the image's; what is not given is the container's, also
            single variables of ``Env`` and ``Labels``
        :returns: the image's id
        """
        query = {"container": ref, "repo": repo, "tag": tag}
        answer = self._send("POST", "/commit", query, json=config, repeat=False)
        return _parsed(answer)["Id"]

    def save_image(self, ref: str) -> ByteStream:
        """GET /images/{ref}/get: an image as ``docker save`` writes it

        :raises DockerError: also when there is none
        """
        path = _path("images", ref, "get")
        return ByteStream(self._send("GET", path, stream=True))

    def list_images(
        self, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[dict[str, Any]]:
        """GET /images/json"""
        return self._get("/images/json", _filters(filters))

    def inspect_image(self, ref: str) -> dict[str, Any]:
        """GET /images/{ref}/json"""
        return self._get(_path("images", ref, "json"))

    def load_image(self, chunks: Iterable[bytes]) -> list[dict[str, Any]]:
        """POST /images/load

        :param chunks: a ``docker save`` archive. When iterating raises, the
            request is broken off, the engine drops what it has, and the
            exception is raised here as it is.
        :returns: the engine's progress messages
        :raises EngineError: also when the engine reports a failure in them
        """
        try:
            return self._load(chunks)
        except _UploadError as upload:
            error = upload.error
        raise error

    def _load(self, chunks: Iterable[bytes]) -> list[dict[str, Any]]:
        answer = self._send(
            "POST",
            "/images/load",
            {"quiet": "1"},
            data=_upload(chunks),
            headers={"Content-Type": "application/x-tar"},
            stream=True,
            # The first counts for sending too, while the engine writes to its disk.
            timeout=(self._read_timeout, max(self._read_timeout, _LONG_TIMEOUT)),
            repeat=False,
        )
        return _messages(answer)

    def pull_image(
        self, repository: str, digest: str, auth: tuple[str, str] | None = None
    ) -> None:
        """POST /images/create: have an image of a registry

        The engine checks that it is what the digest says, and takes the layers
        alone that it has not.

        :param repository: with its registry, ``host:port/name``
        :param digest: ``sha256:…``
        :param auth: user and password for the registry
        :raises NotFound: when the registry has none, or does not show it
        :raises DockerError: also when the registry cannot be spoken to or trusted
        """
        headers = {}
        if auth:
            user, password = auth
            said = json.dumps({"username": user, "password": password}).encode()
            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(said).decode()
        answer = self._send(
            "POST",
            "/images/create",
            {"fromImage": repository, "tag": digest},
            headers=headers,
            stream=True,
            timeout=(self._connect_timeout, max(self._read_timeout, _LONG_TIMEOUT)),
            repeat=False,
        )
        _messages(answer)

    def tag_image(self, ref: str, repo: str, tag: str) -> None:
        """POST /images/{ref}/tag"""
        self._send("POST", _path("images", ref, "tag"), {"repo": repo, "tag": tag})

    def remove_image(self, ref: str, *, force: bool = False) -> None:
        """DELETE /images/{ref}: the tag, and the image with its last one

        :raises Conflict: when a container uses it
        """
        self._send("DELETE", _path("images", ref), {"force": _flag(force)})

    # HTTP

    def _hijack(
        self, path: str, query: Mapping[str, str] | None = None, **request: Any
    ) -> socket.socket:
        """Make a call whose connection becomes the two ways of a stream."""
        answer = self._send(
            "POST",
            path,
            query,
            stream=True,
            headers={"Connection": "Upgrade", "Upgrade": "tcp"},
            repeat=False,
            # The connection must not be in the pool of a thread.
            session=self._new_session(),
            **request,
        )
        with contextlib.closing(answer):
            stream = socket.socket(fileno=os.dup(answer.raw.fileno()))
        stream.setblocking(True)
        return stream

    def _get(
        self, path: str, query: Mapping[str, str] | None = None, **how: Any
    ) -> Any:
        return _parsed(self._send("GET", path, query, **how))

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        versioned: bool = True,
        repeat: bool = True,
        timeout: tuple[float, float | None] | None = None,
        session: requests.Session | None = None,
        **request: Any,
    ) -> requests.Response:
        """Call the engine.

        :param repeat: whether the call may be made again after a lost connection
        :param timeout: of connecting and of reading, in seconds; None for the usual
        :param session: None for the thread's
        """
        prefix = f"{self._base}/v{self.api_version}" if versioned else self._base
        tries_left = _TRIES if repeat else 1
        while True:
            tries_left -= 1
            try:
                answer = (session or self._session()).request(
                    method,
                    prefix + path,
                    params=query,
                    timeout=timeout or (self._connect_timeout, self._read_timeout),
                    allow_redirects=False,
                    **request,
                )
            # Files of TLSConfig that are not there are OSErrors too.
            except OSError as error:
                if not tries_left or not _was_dropped(error):
                    raise _translated(f"{self.host}: {method} {path}", error) from error
            else:
                return _checked(answer)

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = self._new_session()
        return self._local.session

    def _new_session(self) -> requests.Session:
        session = requests_unixsocket.Session()
        session.mount("http+unix://", _UnixAdapter())
        session.mount("http://", _TCPAdapter())
        session.mount("https://", _TCPAdapter())
        # An engine is no web site: no proxy and no .netrc of the environment.
        session.trust_env = False
        if self._tls:
            session.verify = self._tls.verify and (self._tls.ca_file or True)
            if self._tls.cert_file:
                session.cert = (self._tls.cert_file, self._tls.key_file)
        return session


class _UnixAdapter(adapters.UnixAdapter):
    """A pool of connections for each socket; its base has one for each URL."""

    def get_connection(self, url: str, proxies: Any = None) -> Any:
        parts = parse.urlsplit(url)
        return super().get_connection(f"{parts.scheme}://{parts.netloc}", proxies)


class _TCPAdapter(requests.adapters.HTTPAdapter):
    """Notices within minutes that a silent engine's host has gone."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        kwargs["socket_options"] = [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        ]
        super().init_poolmanager(*args, **kwargs)


class ByteStream:
    """A file of what the engine sends, as it comes: what Glance's client reads."""

    def __init__(self, answer: requests.Response) -> None:
        self._answer = answer

    def read(self, size: int = -1) -> bytes:
        """As many bytes, fewer at the end, or all with -1.

        :raises Unreachable: when the engine goes away in the middle
        """
        try:
            return self._answer.raw.read(None if size < 0 else size)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            url = parse.unquote(self._answer.url)
            raise _translated(url, error) from error

    def close(self) -> None:
        self._answer.close()


class EventStream(Iterator[dict[str, Any]]):
    """Events of the engine as they happen.

    The iteration ends when :meth:`close` is called, from whichever thread.

    :raises Unreachable: from the iteration, when the engine goes away
    """

    def __init__(self, answer: requests.Response) -> None:
        self._answer = answer
        self._events = _json_lines(answer)
        self._closed = False
        # Of its own, because the answer closes the other when it ends.
        self._socket = socket.socket(fileno=os.dup(answer.raw.fileno()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __next__(self) -> dict[str, Any]:
        try:
            event = None if self._closed else next(self._events, None)
        except errors.DockerError:
            if not self._closed:
                raise
            event = None
        if event is not None:
            return event
        if self._closed:
            raise StopIteration
        raise errors.Unreachable("the engine ended its event stream")

    def close(self) -> None:
        """End the iteration, also one that waits in another thread."""
        self._closed = True
        with contextlib.suppress(OSError), self._socket:
            # Closing alone would wait for the other thread's read to end.
            self._socket.shutdown(socket.SHUT_RDWR)
        # A green thread in the middle of a read cannot be waited for: its read
        # fails now, which closes the answer.
        with contextlib.suppress(RuntimeError):
            self._answer.close()


class _UploadError(Exception):
    """Carries what the caller's iterator raised past the HTTP libraries.

    These would take an OSError for one of their own connection, and a
    BrokenPipeError for a sign that the engine has answered already.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error


def _upload(chunks: Iterable[bytes]) -> Iterator[bytes]:
    try:
        # An empty chunk is the end in HTTP.
        yield from filter(None, chunks)
    except Exception as error:
        raise _UploadError(error) from error


def _messages(answer: requests.Response) -> list[dict[str, Any]]:
    """Return the progress of a call.

    :raises EngineError: when it reports that the call failed
    """
    messages = []
    with contextlib.closing(answer):
        for message in _json_lines(answer):
            if "error" in message:
                raise errors.EngineError(message["error"], answer.status_code)
            messages.append(message)
    return messages


_RAW = "application/vnd.docker.raw-stream"
_MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
_FRAME_HEADER = 8


def _base_url(host: str, tls: TLSConfig | None) -> str:
    scheme, _, rest = host.partition("://")
    if scheme == "unix" and rest:
        return f"http+unix://{parse.quote(rest, safe='')}"
    if scheme == "tcp" and rest:
        return f"{'https' if tls else 'http'}://{rest.rstrip('/')}"
    raise ValueError(f"not an engine: {host!r}; unix:///path or tcp://address:port")


def _agree(engine: Mapping[str, Any]) -> str:
    newest = engine.get("ApiVersion", "0")
    oldest = engine.get("MinAPIVersion", newest)
    chosen = min(newest, MAX_API_VERSION, key=_as_numbers)
    if _as_numbers(chosen) < max(_as_numbers(oldest), _as_numbers(MIN_API_VERSION)):
        raise errors.UnsupportedVersion(
            f"Docker {engine.get('Version')} speaks API {oldest} to {newest}; "
            f"needed is one of {MIN_API_VERSION} to {MAX_API_VERSION}"
        )
    return chosen


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _path(*parts: str) -> str:
    # An image's name may have slashes, which the engine wants as they are.
    return "/" + "/".join(parse.quote(part, safe="/:@") for part in parts)


def _flag(value: bool) -> str:
    return "1" if value else "0"


def _filters(filters: Mapping[str, Sequence[str]] | None) -> dict[str, str]:
    if not filters:
        return {}
    return {"filters": json.dumps({key: list(v) for key, v in filters.items()})}


def _checked(answer: requests.Response) -> requests.Response:
    # 304 is the engine's word for "already so".
    if answer.status_code < 300 or answer.status_code == 304:
        return answer
    with contextlib.closing(answer):
        try:
            message = answer.json()["message"]
        except (ValueError, KeyError, TypeError):
            message = answer.text.strip() or answer.reason
    raise errors.for_status(answer.status_code, message)


def _parsed(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise errors.EngineError(
            f"{parse.unquote(answer.url)} is not an Engine API: its answer is not JSON",
            answer.status_code,
        ) from error


def _was_dropped(error: OSError) -> bool:
    """Whether a connection was there and was lost, rather than never made."""
    return isinstance(_root(error), ConnectionResetError | BrokenPipeError)


def _translated(call: str, error: Exception) -> errors.DockerError:
    root = _root(error)
    if isinstance(error, http.ConnectTimeout):
        return errors.Unreachable(f"{call}: no connection in time")
    if isinstance(error, http.ReadTimeout) or isinstance(root, TimeoutError):
        return errors.Timeout(f"{call}: no answer in time")
    if isinstance(root, PermissionError):
        return errors.Forbidden(
            f"{call}: {root}: this user must be in the group of the engine's socket, "
            "or be able to read the TLS files"
        )
    return errors.Unreachable(f"{call}: {root}")


def _root(error: BaseException) -> BaseException:
    """The innermost exception that the HTTP libraries have wrapped."""
    while True:
        for inner in (*error.args, getattr(error, "reason", None), error.__cause__):
            if isinstance(inner, BaseException):
                error = inner
                break
        else:
            return error


def _json_lines(answer: requests.Response) -> Iterator[dict[str, Any]]:
    pending = b""
    chunks = answer.iter_content(None)  # what has come, as soon as it has come
    while True:
        try:
            chunk = next(chunks, None)
        # The last two come from reading what another thread has closed.
        except (OSError, AttributeError, ValueError) as error:
            raise _translated(parse.unquote(answer.url), error) from error
        if chunk is None:
            break
        *lines, pending = (pending + chunk).split(b"\n")
        yield from (json.loads(line) for line in lines if line.strip())
    if pending.strip():
        yield json.loads(pending)


def frames(content: bytes) -> Iterator[bytes]:
    """What the engine has framed, of an output without a terminal."""
    start = 0
    while start < len(content):
        payload = start + _FRAME_HEADER
        size = int.from_bytes(content[start + 4 : payload], "big")
        start = payload + size
        yield content[payload:start]
