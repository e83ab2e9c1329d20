# SPDX-License-Identifier: Apache-2.0
"""Text of others in messages, for logs and terminals.

Images, archives and programs of tenants are quoted in error messages. Escape sequences
in them would act on the terminal of whoever reads the log, and a line break would
forge a line of it.
"""

from __future__ import annotations

_MOST = 4096  # characters


def printable(text: str, most: int = _MOST) -> str:
    """Return a text with its control characters escaped.

    Calling it again changes nothing.

    :param most: number of characters after which it is cut off
    """
    shown = "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in text[: most + 1]
    )
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
