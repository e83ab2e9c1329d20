# SPDX-License-Identifier: Apache-2.0
"""Filters for lists and events, as the engine applies them."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

from docker_engine import errors
from docker_engine.api.base import Filters


def check_filters(filters: Filters | None, *known: str) -> None:
    """Check the names of filters.

    :raises BadRequest: if one is not among the ``known``
    """
    for name in filters or ():
        if name not in known:
            raise errors.for_status(400, f"Invalid filter '{name}'")


def among(value: str, wanted: Sequence[str] | None) -> bool:
    """Tell whether a value passes a filter; None passes everything."""
    return wanted is None or value in wanted


def has_labels(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """Tell whether all ``wanted`` labels, ``key`` or ``key=value``, are present."""
    for label in wanted:
        name, equals, value = label.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True
