# SPDX-License-Identifier: Apache-2.0
"""The usage of volumes, as the kernel counts it."""

from __future__ import annotations

from nova import objects

from nova_docker.volume import usage
from tests import samples

# Of a device that was read 10 times, 80 sectors, and written 5 times, 16 sectors
STAT = "  10 1 80 3 5 2 16 4 0 7 8 0 0 0 0 1 2\n"
COUNTERS = {"rd_req": 10, "rd_bytes": 40960, "wr_req": 5, "wr_bytes": 8192}


def test_counters_are_in_bytes():
    assert usage.counters(STAT) == COUNTERS


def test_each_volume_that_a_server_has_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(usage, "_BLOCK", tmp_path)
    (tmp_path / "7:1").mkdir()
    (tmp_path / "7:1" / "stat").write_text(STAT)
    instance = samples.instance()
    bdms = [
        objects.BlockDeviceMapping(device_name=name, volume_id=samples.uuid())
        # The second one has vanished, and the server does not have the third one.
        for name in ("/dev/vdb", "/dev/vdc", "/dev/vdd", "root")
    ]
    numbers = {"vdb": "7:1", "vdc": "7:2"}
    assert list(usage.of(instance, bdms, numbers)) == [
        {"volume": bdms[0].volume_id, "instance": instance, **COUNTERS}
    ]
