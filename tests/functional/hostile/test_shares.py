# SPDX-License-Identifier: Apache-2.0
"""Attacks with the shares of servers, on a real engine and with real mounts."""

from __future__ import annotations

import pathlib
import subprocess

import pytest
from nova import exception
from nova.compute import power_state

from nova_docker.container import isolation
from nova_docker.privsep import shares as privileged
from tests import samples
from tests import storage
from tests.attacks import attack
from tests.functional.host import state

SECRET = "of the share\n"


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    with storage.serving(tmp_path_factory.mktemp("storage")) as directory:
        yield directory


@pytest.fixture
def with_share(driver, boot, exports):
    """Boots a server, runs a script in it, and starts it again with a share."""

    def start(script="true", level=isolation.USER):
        specs = {"docker:isolation": level}
        server = boot(flavor=samples.flavor(extra_specs=specs), device_metadata=None)
        server.run(script)
        driver.power_off(server.instance)
        mapping = storage.share(server, samples.uuid())
        (exports / mapping.share_id).mkdir()
        (exports / mapping.share_id / "secret").write_text(SECRET)
        driver.mount_share(None, server.instance, mapping)
        try:
            driver.power_on(
                None, server.instance, server.network_info, share_info=[mapping]
            )
        except exception.InstancePowerOnFailure:
            assert state(driver, server) == power_state.SHUTDOWN
            assert not driver.is_share_mounted(mapping)
        return server

    return start


@attack(
    "Files of the host, by the path of a share",
    tried="The place of the shares in the server's disk is a symbolic link: to "
    "absolute paths, above the root, and to the kernel's file systems",
    held_by="The OCI runtime follows links in the root of the server only, and mounts "
    "nothing on files of the kernel",
)
@pytest.mark.parametrize("level", [isolation.USER, isolation.SHARED])
@pytest.mark.parametrize(
    "target", ["/etc", "../../../../../../../../etc", "{host}", "/proc", "/sys", "/dev"]
)
def test_a_share_is_mounted_in_the_root_of_its_server(
    driver, with_share, tmp_path, target, level
):
    before = pathlib.Path("/proc/self/mounts").read_text().count("nova-docker/shares")
    path = target.format(host=tmp_path)
    server = with_share(
        f"rm -rf /mnt/shares; mkdir -p /mnt; ln -s {path} /mnt/shares", level
    )

    for directory in ("/etc", "/dev", tmp_path):
        assert not pathlib.Path(directory, "data").exists()
    if state(driver, server) == power_state.RUNNING:
        assert server.run("cat /mnt/shares/data/secret") == SECRET
        before += 1
    else:
        assert target in ("/proc", "/sys")
    text = pathlib.Path("/proc/self/mounts").read_text()
    assert text.count("nova-docker/shares") == before


@attack(
    "The share of another server",
    tried="Root of a server looks for the shares of others; so does one that has got "
    "out of all its namespaces but the user's",
    held_by="Only root of the host can read the directory in which they are mounted",
)
def test_a_server_does_not_reach_the_share_of_another_one(with_share, boot):
    victim, attacker = with_share(), boot()
    place = f"{privileged.DIRECTORY}/{victim.name}"
    assert "No such file" in attacker.run(f"ls {place} 2>&1 || true")
    for path in (privileged.DIRECTORY, place):
        with pytest.raises(subprocess.CalledProcessError) as error:
            attacker.as_root("ls", path)
        assert "Permission denied" in error.value.stderr


@attack(
    "Privileges by a share",
    tried="A server writes a set-user-id program and looks for a device on a share, "
    "and tries to mount the share without nosuid and nodev",
    held_by="The mount has both options, and the server has no right to change it",
)
@pytest.mark.parametrize("level", [isolation.USER, isolation.SHARED])
def test_a_share_gives_no_privileges(with_share, level):
    server = with_share(level=level)
    server.run("cp /bin/busybox /mnt/shares/data/su && chmod 4755 /mnt/shares/data/su")
    assert "not permitted" in server.run(
        "mknod /mnt/shares/data/null c 1 3 2>&1 || true"
    )
    for change in ("mount -o remount,suid,dev", "umount"):
        assert "denied" in server.run(
            f"{change} /mnt/shares/data 2>&1 || true"
        ).replace("not permitted", "denied")
    options = server.run("grep /mnt/shares/data /proc/self/mounts").split()[3]
    assert {"nosuid", "nodev"} <= set(options.split(","))
