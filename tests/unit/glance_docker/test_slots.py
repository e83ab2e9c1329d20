# SPDX-License-Identifier: Apache-2.0
"""The bound on exports, over threads and processes."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from glance_docker.slots import Busy
from glance_docker.slots import Slots

TIMEOUT = 20  # seconds

HOLD = """
import sys
from glance_docker.slots import Slots
with Slots(sys.argv[1], "local", 2).taken():
    print("held", flush=True)
    sys.stdin.read()
"""


def free(slots):
    try:
        with slots.taken(wait=0):
            return True
    except Busy:
        return False


def test_slots_are_counted_over_objects_with_the_same_directory(tmp_path):
    one, other = (Slots(str(tmp_path), "local", 2) for _ in range(2))
    with one.taken(), other.taken():
        assert not free(one) and not free(other)
        assert free(Slots(str(tmp_path), "rack-1", 2))
        assert free(Slots(None, "local", 2))
    assert free(one) and free(other)


def test_slots_are_counted_over_processes_and_end_with_them(tmp_path):
    slots = Slots(str(tmp_path), "local", 2)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"held\n"
        with slots.taken():
            assert not free(slots)
            process.kill()
            process.wait()
            assert free(slots)


def test_a_missing_directory_is_created(tmp_path):
    slots = Slots(str(tmp_path / "run" / "locks"), "local", 1)
    with slots.taken():
        assert not free(slots)


def test_others_have_what_is_reserved_for_them(tmp_path):
    readers = Slots(str(tmp_path), "local", 2, reserved=1)
    service = Slots(str(tmp_path), "local", 2)
    with readers.taken():
        assert not free(readers)
        assert free(service)
    with service.taken():
        assert free(readers)
    # There is nothing to reserve of one.
    assert free(Slots(str(tmp_path), "local", 1, reserved=1))


def test_a_slot_that_becomes_free_ends_the_wait(tmp_path):
    slots = Slots(str(tmp_path), "local", 1)
    waiting = threading.Event()
    got = threading.Event()

    def wait():
        waiting.set()
        with slots.taken(TIMEOUT):
            got.set()

    with slots.taken() as slot:
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(TIMEOUT)
        assert not got.is_set()
        slot.release()
        assert got.wait(TIMEOUT)
        # A second release takes nothing from the new holder.
        slot.release()
    thread.join()
    assert free(slots)


def test_a_service_that_stops_does_not_wait(tmp_path):
    slots = Slots(str(tmp_path), "local", 1)
    stopping = threading.Event()
    stopping.set()
    with slots.taken(), pytest.raises(Busy), slots.taken(stopping=stopping):
        pass
