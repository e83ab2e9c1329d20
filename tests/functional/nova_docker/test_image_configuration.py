# SPDX-License-Identifier: Apache-2.0
"""The configuration of an image: its health check and its volumes."""

from __future__ import annotations

import io
import subprocess
import tarfile

import pytest
from nova import exception

from nova_docker import config_drive
from tests import archives
from tests import samples
from tests.functional.host import eventually

HEALTHCHECK = {"Test": ["CMD-SHELL", "echo x >> /runs"], "Interval": 20_000_000}


def volumes(engine):
    command = ["docker", "--host", engine.host, "volume", "ls", "--quiet"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_a_health_check_runs_if_the_operator_allows_it(boot, image, configure):
    configure("image_healthcheck", True)
    server = boot(image(config={"Healthcheck": HEALTHCHECK}))
    assert eventually(lambda: "runs" in server.run("ls /").split())


def test_an_existing_directory_keeps_its_owner_and_mode(boot, image):
    kept = tarfile.TarInfo("kept")
    kept.type, kept.mode, kept.uid, kept.gid = tarfile.DIRTYPE, 0o1751, 33, 44
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        archive.addfile(kept)
    server = boot(
        image(
            archives.archive(
                [archives.busybox_layer(), layer.getvalue()],
                config={"Volumes": {"/kept": {}, "/made/here": {}}},
            )
        )
    )
    stat = "/bin/busybox stat -c '%a %u %g' /kept /made /made/here"
    assert server.run(stat).splitlines() == ["1751 33 44", "755 0 0", "755 0 0"]


def test_a_volume_with_no_place_is_refused_with_the_reason(boot, image):
    with pytest.raises(exception.ImageUnacceptable, match="directories of its volumes"):
        boot(image(config={"Volumes": {"/etc/passwd/x": {}}}))


def test_a_volume_at_etc_hides_no_file_from_the_engine(driver, boot, image):
    server = boot(image(config={"Volumes": {"/etc": {}}}))
    server.run("echo root:x:0:0::/:/bin/sh >/etc/passwd")
    driver.reboot(None, server.instance, server.network_info, "HARD")
    assert server.run("cat /etc/passwd")


def test_volumes_in_the_config_drive_and_in_rescue_are_left_alone(
    driver, boot, engine, image, monkeypatch
):
    files = {"openstack/latest/meta_data.json": b'{"uuid": "1", "hostname": "web-1"}'}
    monkeypatch.setattr(config_drive, "_contents", lambda *args: files)
    drive = "/var/lib/cloud/seed/config_drive"
    declared = {drive: {}, f"{drive}/x": {}, "/mnt/rescue": {}, "/mnt/rescue/y": {}}
    meta = image(config={"Volumes": {**declared, "/data": {}}})
    before = volumes(engine)
    server = boot(meta, config_drive="True")
    assert "openstack" in server.run(f"ls {drive}")
    server.run("echo lost > /data/file")

    driver.rescue(
        samples.request_context(),
        server.instance,
        server.network_info,
        meta,
        None,
        None,
        None,
    )
    # What was in the volume is in the rescued root.
    assert server.run("cat /mnt/rescue/data/file") == "lost\n"
    monkeypatch.setattr(
        type(server.instance), "get_network_info", lambda instance: server.network_info
    )
    driver.unrescue(samples.request_context(), server.instance)
    assert server.run("cat /data/file") == "lost\n"
    assert volumes(engine) == before


def test_a_snapshot_keeps_the_health_check_of_the_image(
    driver, boot, engine, glance, image
):
    server = boot(image(config={"Healthcheck": HEALTHCHECK}))
    copy = samples.image_meta(id=samples.uuid())
    driver.snapshot(
        samples.request_context(), server.instance, copy.id, lambda **values: None
    )
    found = engine.client.inspect_image(boot(copy).inspect()["Image"])
    assert found["Config"]["Healthcheck"] == HEALTHCHECK


def test_a_snapshot_contains_the_volumes(driver, boot, glance, image):
    server = boot(image(config={"Volumes": {"/data": {}}}))
    server.run("echo kept > /data/file")
    copy = samples.image_meta(id=samples.uuid())
    driver.snapshot(
        samples.request_context(), server.instance, copy.id, lambda **values: None
    )
    second = boot(copy)
    assert second.run("cat /data/file") == "kept\n"
    assert list(second.inspect()["Config"]["Volumes"]) == ["/data"]


def test_a_relative_working_directory_fails_the_boot(boot, image):
    with pytest.raises(exception.NovaException, match="absolute path"):
        boot(image(config={"WorkingDir": "../x"}))
