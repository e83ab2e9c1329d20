# SPDX-License-Identifier: Apache-2.0
"""The engine's filters of lists and events."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

from docker_engine import errors


def check_filters(filters: Mapping[str, Sequence[str]] | None, *known: str) -> None:
    for name in filters or ():
        if name not in known:
            raise errors.for_status(400, f"Invalid filter '{name}'")


def among(value: str, wanted: Sequence[str] | None) -> bool:
    return wanted is None or value in wanted


def has_labels(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    for label in wanted:
        name, equals, value = label.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True
