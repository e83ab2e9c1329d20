# SPDX-License-Identifier: Apache-2.0
"""Unwrap the nested exceptions of requests and urllib3."""

from __future__ import annotations

from collections.abc import Iterator


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors wrapped in it, outermost first."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        inner = (*found.args, getattr(found, "reason", None))
        inner += (found.__cause__, found.__context__)
        found = next((e for e in inner if isinstance(e, BaseException)), None)


def root_cause(error: BaseException) -> BaseException:
    """Return the innermost error, which has the operating system's message."""
    *_, innermost = causes(error)
    return innermost
