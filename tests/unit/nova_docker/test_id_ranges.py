# SPDX-License-Identifier: Apache-2.0
"""Which ids of the host a server gets."""

import pytest

from nova_docker import id_ranges
from nova_docker.id_ranges import SIZE

START = 1 << 30


def choose(used, *, count=4, after=-1):
    return id_ranges.choose(used, START, count * SIZE, after)


def test_the_first_server_gets_the_first_range():
    assert choose([]) == START


def test_ranges_are_taken_in_turn():
    chosen, used = START - SIZE, []
    for number in range(4):
        chosen = choose(used, after=chosen)
        used.append(chosen)
        assert chosen == START + number * SIZE
    # The one that was released last is the last to be used again.
    for free in (START + 3 * SIZE, START + SIZE):
        used.remove(free)
    assert choose(used, after=chosen) == START + SIZE


def test_a_range_is_not_reused_while_others_are_free():
    assert choose([], after=START) == START + SIZE
    assert choose([], after=START + 3 * SIZE) == START


def test_ranges_of_another_configuration_are_left_out():
    assert choose([START - 1]) == START + SIZE
    assert choose([START + SIZE + 5]) == START
    assert choose([START + SIZE + 5], after=START) == START + 3 * SIZE


def test_all_ids_may_be_in_use():
    used = [START + number * SIZE for number in range(4)]
    with pytest.raises(id_ranges.NoneLeft, match="all 4 ranges"):
        choose(used)


def test_what_remains_of_a_count_is_not_used():
    with pytest.raises(id_ranges.NoneLeft):
        id_ranges.choose([START], START, 2 * SIZE - 1, -1)


@pytest.mark.parametrize(
    ("first", "size", "overlaps"),
    [
        (START - 10, 10, False),
        (START - 10, 11, True),
        (START + 5, 1, True),
        (START + SIZE - 1, 5, True),
        (START + SIZE, 5, False),
        (0, 2 * START, True),
    ],
)
def test_overlapping_ids_are_found(first, size, overlaps):
    found = id_ranges.overlapping([("a", first, size)], START, SIZE)
    assert found == (["a"] if overlaps else [])
