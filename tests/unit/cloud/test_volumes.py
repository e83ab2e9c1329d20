# SPDX-License-Identifier: Apache-2.0
"""The loop devices of volumes."""

from __future__ import annotations

import concurrent.futures
import threading
import time

from cloud import volumes
from cloud.cinder_loop import devices


def test_hosts_that_start_at_the_same_time_restore_devices_one_by_one(monkeypatch):
    restoring = threading.Lock()
    alone = []

    def restore(*_):
        alone.append(restoring.acquire(blocking=False))
        time.sleep(0.01)
        restoring.release()

    monkeypatch.setattr(devices, "restore", restore)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: volumes.restore_devices(), range(4)))
    assert alone == [True] * 4
