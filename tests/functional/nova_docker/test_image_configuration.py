# SPDX-License-Identifier: Apache-2.0
"""The configuration of an image: its health check and its volumes."""

from __future__ import annotations

import json
import subprocess

import pytest
from nova import exception

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


def test_an_existing_directory_keeps_its_owner_and_mode(boot, engine, image):
    builder = boot(image())
    builder.run("/bin/busybox mkdir /kept /made; /bin/busybox chmod 1751 /kept")
    builder.run("/bin/busybox chown 33:44 /kept; /bin/busybox rmdir /made")
    engine.client.commit_container(builder.name, "kept", "latest", {})
    archive = b"".join(engine.client.save_image("kept:latest"))
    engine.client.remove_image("kept:latest")
    server = boot(_with_volumes(image, archive, ["/kept", "/made"]))
    stat = "/bin/busybox stat -c '%a %u %g' /kept /made"
    assert server.run(stat).split("\n")[:2] == ["1751 33 44", "755 0 0"]


def test_a_volume_with_no_place_is_refused_with_the_reason(boot, image):
    with pytest.raises(exception.ImageUnacceptable, match="directories of its volumes"):
        boot(image(config={"Volumes": {"/etc/passwd/x": {}}}))


def test_volumes_in_the_config_drive_and_in_rescue_are_left_alone(
    driver, boot, engine, image
):
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
    driver.unrescue(samples.request_context(), server.instance)
    assert server.run("cat /data/file") == "lost\n"
    assert volumes(engine) == before


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


def _with_volumes(image, archive, paths):
    """Upload an image of which the archive has one, with other volumes."""
    members = archives.members(archive)
    [manifest] = json.loads(members["manifest.json"])
    layers = [members[name] for name in manifest["Layers"]]
    declared = {path: {} for path in paths}
    return image(archives.archive(layers, config={"Volumes": declared}))


def test_a_relative_working_directory_fails_the_boot(boot, image):
    with pytest.raises(exception.NovaException, match="absolute path"):
        boot(image(config={"WorkingDir": "../x"}))
