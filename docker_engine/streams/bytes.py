# SPDX-License-Identifier: Apache-2.0
"""Archives that are streamed from and to an engine."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from urllib import parse

import requests
import urllib3

from docker_engine.transport.http import interrupted


class ByteStream:
    """A file-like object that reads bytes as an engine sends them."""

    def __init__(self, answer: requests.Response) -> None:
        self._answer = answer

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, fewer at the end; everything with -1.

        :raises Unreachable: if the connection is lost
        """
        raw = self._answer.raw
        try:
            if size < 0:
                return raw.read()
            content = raw.read(size)
            # At the end; if it came too early, only this read says so.
            return content if len(content) == size else content + raw.read(1)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            url = parse.unquote(self._answer.url)
            raise interrupted(url, error) from error

    def close(self) -> None:
        self._answer.close()


class UploadError(Exception):
    """Carries an exception of the caller's iterator past the HTTP libraries.

    They would treat an OSError as an error of their own connection, and a
    BrokenPipeError as a sign that the engine has already responded.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error


def upload(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of a request's body.

    :raises UploadError: if iterating over ``chunks`` raises
    """
    try:
        # In HTTP an empty chunk ends the body.
        yield from filter(None, chunks)
    except Exception as error:
        raise UploadError(error) from error
