# SPDX-License-Identifier: Apache-2.0
"""JSON that Python and Go read alike.

Go, in which engines are written, accepts ``"Layers"`` for ``"layers"`` and uses the
last of two such keys, so a document with both would describe one image here and another
one to an engine.
"""

from __future__ import annotations

import json
from typing import Any

# A real image configuration has a hundred objects, a real index some hundreds. Three
# bytes of JSON are enough for one, which takes a microsecond and a hundred bytes of
# memory.
MAX_OBJECTS = 20_000


class Object(dict[str, Any]):
    """A JSON object that knows whether Go could confuse two of its keys.

    :ivar ambiguous: whether two keys are equal, or differ only in case
    """

    __slots__ = ("ambiguous",)  # A hostile document may have very many objects.

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.ambiguous = len({key.casefold() for key, _ in pairs}) < len(pairs)


def loads(content: bytes, *, allow_ambiguous: bool = False) -> Any:
    """Parse a document; its objects are :class:`Object`.

    :param allow_ambiguous: accept ambiguous objects; the caller checks those where it
        matters. Labels, for example, may differ only in case.
    :raises ValueError: if it is not JSON in UTF-8, nested too deeply, or ambiguous, or
        has more than ``MAX_OBJECTS`` objects
    """
    left = MAX_OBJECTS

    def checked(pairs: list[tuple[str, Any]]) -> Object:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError("too many objects")
        found = Object(pairs)
        if found.ambiguous and not allow_ambiguous:
            raise ValueError("two keys are equal or differ only in case")
        return found

    try:
        return json.loads(content.decode(), object_pairs_hook=checked)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def short(value: Any) -> str:
    """Return an untrusted value in a form that fits into a message."""
    return repr(value)[:100]
