# SPDX-License-Identifier: Apache-2.0
"""Which user and group ids of the host a server gets: pure functions.

A server has :data:`SIZE` ids of its own, which are 0, 1, … in the server. Nothing on
disk depends on them: the files of servers have the ids of their images.
"""

from __future__ import annotations

from collections.abc import Collection

#: Ids of one server, as in the allocations of subuid(5)
SIZE = 65536


class NoneLeft(Exception):
    """All ranges are in use; the message says how many there are."""


def choose(used: Collection[int], start: int, count: int, after: int) -> int:
    """Return the first id of a range that no server uses.

    Ranges are taken in turn: one that was just released is the last to be used again,
    so that whatever an old server may have left does not belong to a new one soon.

    :param used: first ids of the ranges in use, also from other configurations
    :param start: first id of all ranges
    :param count: number of ids of all ranges together
    :param after: first id of the range that was chosen last
    :raises NoneLeft: if all are in use
    """
    ranges = range(start, start + count - SIZE + 1, SIZE)
    later = [base for base in ranges if base > after]
    for base in [*later, *ranges[: len(ranges) - len(later)]]:
        if all(abs(base - other) >= SIZE for other in used):
            return base
    raise NoneLeft(
        f"all {len(ranges)} ranges of ids for servers are in use; make "
        "[docker]subid_count larger"
    )


def overlapping(
    taken: Collection[tuple[str, int, int]], start: int, count: int
) -> list[str]:
    """Return the names of those whose ids are among those of servers.

    :param taken: (name, first id, number of ids) of each
    """
    return sorted(
        {
            name
            for name, first, size in taken
            if first < start + count and first + size > start
        }
    )
