# SPDX-License-Identifier: Apache-2.0
"""Unwrap the nested exceptions of requests and urllib3."""

from __future__ import annotations

from collections.abc import Iterator

import urllib3

# urllib3 1.26 raises these while it handles an error of the operating system, without
# naming that one as their cause.
_WITHOUT_CAUSE = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.TimeoutError,
)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors wrapped in it, outermost first."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        inner = [*found.args, getattr(found, "reason", None), found.__cause__]
        # Of other errors, the context is what the caller was handling before it called,
        # and has nothing to do with the failure.
        if isinstance(found, _WITHOUT_CAUSE):
            inner.append(found.__context__)
        found = next((e for e in inner if isinstance(e, BaseException)), None)


def root_cause(error: BaseException) -> BaseException:
    """Return the innermost error, which has the operating system's message."""
    *_, innermost = causes(error)
    return innermost
