# SPDX-License-Identifier: Apache-2.0
"""Attacks with the configuration of an image, on a real engine."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import time

import pytest
from nova import exception

from nova_docker.container import spec
from tests import archives
from tests import samples
from tests.attacks import attack

# 50 runs in a second, if the engine did what the image asks for
HEALTHCHECK = {"Test": ["CMD-SHELL", "echo x >> /runs"], "Interval": 20_000_000}


def docker(engine, *arguments):
    command = ["docker", "--host", engine.host, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def volumes(engine):
    return set(docker(engine, "volume", "ls", "--quiet").split())


def mount_points(server):
    return [line.split()[1] for line in server.run("cat /proc/mounts").splitlines()]


@attack(
    "Processor time outside the quota",
    tried="An image with a HEALTHCHECK that is due 50 times in a second",
    held_by="The driver disables the health checks of images",
)
@pytest.mark.parametrize("key", ["Healthcheck", "healthCHECK"])
def test_a_health_check_does_not_run(boot, image, key):
    server = boot(image(config={key: HEALTHCHECK}))
    time.sleep(0.5)
    assert server.run("ls /").split().count("runs") == 0
    assert server.inspect()["State"].get("Health") is None
    assert server.inspect()["ExecIDs"] is None


@attack(
    "Disk space without a limit",
    tried="An image with volumes, each of which the engine would create on the host",
    held_by="The OCI runtime leaves the volumes in the root file system, so that they "
    "count against the root disk",
)
def test_volumes_are_part_of_the_root_disk(driver, boot, engine, image):
    before = volumes(engine)
    server = boot(
        image(
            # Go reads names of any case, and cleans paths.
            config={"voLumes": {"/data": {}, "//srv/../srv/www/": {}, "/old": {}}},
            files={"old/file": b"from the image"},
        )
    )
    assert volumes(engine) == before
    assert not {"/data", "/srv/www", "/old"} & set(mount_points(server))
    server.run("echo 1 > /data/written; echo 2 > /srv/www/written")
    upper = pathlib.Path(server.inspect()["GraphDriver"]["Data"]["UpperDir"])
    assert (upper / "data/written").read_text() == "1\n"
    assert (upper / "srv/www/written").read_text() == "2\n"
    assert server.run("cat /old/file") == "from the image"

    driver.reboot(None, server.instance, server.network_info, "HARD")
    assert server.run("cat /data/written /srv/www/written").split() == ["1", "2"]
    assert volumes(engine) == before


@attack(
    "Thousands of volumes on the host",
    tried="An image with 2,000 volumes",
    held_by="An image may declare 64 volumes",
)
def test_an_image_with_thousands_of_volumes_is_refused(boot, engine, image):
    before = volumes(engine)
    declared = {f"/v{number}": {} for number in range(2000)}
    with pytest.raises(exception.ImageUnacceptable, match="the limit is 64"):
        boot(image(config={"Volumes": declared}))
    assert volumes(engine) == before


@attack(
    "Volumes in place of the kernel's file systems, or outside the root",
    tried="Images whose volumes are /, /proc, /dev, /sys, relative paths or have ..",
    held_by="The driver refuses volumes at such paths before it creates a container",
)
@pytest.mark.parametrize(
    "path", ["/", "", "relative", "../../x", "/proc", "/a/../proc/sys", "/dev", "//sys"]
)
def test_a_volume_at_an_impossible_path_is_refused(boot, engine, image, path):
    before = volumes(engine)
    with pytest.raises(exception.ImageUnacceptable, match="declares the volume"):
        boot(image(config={"Volumes": {path: {}}}))
    assert volumes(engine) == before


@attack(
    "Directories on the host",
    tried="An image whose volumes and working directory lead through symbolic links to "
    "paths of the host, or are files",
    held_by="The engine creates missing directories inside the root of the container",
)
def test_nothing_is_created_through_links(boot, image, tmp_path):
    server = boot(
        image(
            config={
                "Volumes": {
                    "/out/volume": {},
                    "/loose": {},
                    "/kept": {},
                    "/kept/file": {},
                },
                "WorkingDir": "/out/working",
            },
            files={
                "out": str(tmp_path),
                "loose": str(tmp_path / "loose"),
                "kept/file": b"",
            },
        )
    )
    assert list(tmp_path.iterdir()) == []
    # The links lead to directories of the server.
    assert server.run(f"cd /out/volume && cd {tmp_path}/working && echo yes") == "yes\n"
    # The server's file stays a file.
    assert server.run("test -f /kept/file && echo yes") == "yes\n"


@attack(
    "Directories on the host, above the root",
    tried="An image with a volume below a symbolic link that leads above the root",
    held_by="The engine stays inside the root of the container, or refuses the link",
)
def test_nothing_is_created_above_the_root(boot, image, tmp_path):
    archive = image(
        config={"Volumes": {"/up/volume": {}}},
        files={"up": "../../../../../../.." + str(tmp_path)},
    )
    # Docker 29.7 and later, and Debian's 28.5.2, refuse it.
    with contextlib.suppress(exception.ImageUnacceptable):
        server = boot(archive)
        assert server.run("cd /up/volume && echo yes") == "yes\n"
    assert list(tmp_path.iterdir()) == []


@attack(
    "The engine's time and memory",
    tried="Images with 20,000 variables, 2,000 words of a command, and labels of "
    "700,000 bytes, all of which the engine copies into each container and event",
    held_by="The driver refuses an image whose configuration is larger than half a "
    "megabyte or has more than 1,000 items in a list",
)
@pytest.mark.parametrize(
    "config",
    [
        {"Env": [f"V{number}=x" for number in range(20_000)]},
        {"Entrypoint": ["a"] * 2000},
        {"Labels": {"a": "x" * 700_000}},
        {"Env": ["A=" + "x" * 700_000]},
    ],
    ids=["variables", "words", "labels", "bytes"],
)
def test_a_huge_configuration_is_refused(boot, image, config):
    with pytest.raises(exception.ImageUnacceptable, match="the limit is"):
        boot(image(config=config))


@attack(
    "The identity of another server",
    tried="An image with the labels by which the driver finds servers, run by the "
    "driver and by somebody else on the same engine",
    held_by="The driver's labels override those of the image, and a container is only "
    "a server if its name says so, too",
)
def test_labels_of_an_image_make_nothing_a_server(driver, images, boot, engine, image):
    victim = boot()
    own_id = victim.inspect()["Id"]
    labels = {"org.openstack.nova.uuid": victim.instance.uuid}
    server = boot(image(config={"Labels": {**labels, "mine": "1"}}))
    own = server.inspect()["Config"]["Labels"]
    assert own["org.openstack.nova.uuid"] == server.instance.uuid
    assert own["mine"] == "1"

    other = samples.uuid()
    for uuid in (other, victim.instance.uuid, ""):
        labels = {"org.openstack.nova.uuid": uuid}
        archive = archives.busybox_archive(tags=["evil:1"], config={"Labels": labels})
        list(engine.client.load_image([archive]))
        foreign = docker(engine, "create", "--network=none", "evil:1").strip()
        try:
            assert set(driver.list_instance_uuids()) == {
                victim.instance.uuid,
                server.instance.uuid,
            }
            assert driver.get_info(victim.instance).internal_id == own_id
        finally:
            engine.client.remove_container(foreign)


@attack(
    "The variables of the OCI runtime",
    tried="An image whose environment sets each variable that the OCI runtime reads, "
    "in several spellings",
    held_by="The driver sets each of these variables on each container, and the "
    "runtime refuses one that is set twice",
)
def test_an_image_cannot_set_the_variables_of_the_runtime(boot, image):
    victim = boot()
    values = {
        "NOVA_NETNS": victim.name,
        "NOVA_ENGINE_NETWORK": "1",
        "NOVA_ROOT_VOLUMES": "0",
        "NOVA_ISOLATION": "shared",
        "NOVA_INIT": "systemd",
        "NOVA_READ_ONLY": "1",
        "NOVA_LXCFS": "/",
    }
    assert set(values) == set(spec.OWN_ENVIRONMENT)
    hostile = [
        spelling
        for name, value in values.items()
        for spelling in (
            f"{name}={value}",
            f"{name}={value}",
            name,
            f"{name} ={value}",
            f" {name}={value}",
            f"{name.lower()}={value}",
            f"X_{name}=1\n{name}={value}",
            f"{name}=={value}",
        )
    ]
    server = boot(image(config={"Env": ["PATH=/bin", *hostile], "Volumes": {"/v": {}}}))
    found = server.inspect()["Config"]["Env"]
    for name, value in {
        "NOVA_NETNS": server.name,
        "NOVA_ENGINE_NETWORK": "0",
        "NOVA_ROOT_VOLUMES": "1",
        "NOVA_ISOLATION": "user",
        "NOVA_INIT": "",
        "NOVA_LXCFS": "",
    }.items():
        assert [e for e in found if e.startswith(f"{name}=")] == [f"{name}={value}"]
    assert "192.0.2.11/" in server.run("ip -o addr show dev eth0")
    assert not {"/v", "/run"} & set(mount_points(server))


@attack(
    "Settings that are not the image's",
    tried="An image whose configuration has keys that the engine's structure has, such "
    "as a stop timeout and privileges",
    held_by="The engine does not take them from images",
)
def test_what_an_image_cannot_set(boot, image):
    """Keys of the engine's own structure that it does not take from an image."""
    config = {
        "StopTimeout": 10**6,
        "NetworkDisabled": True,
        "MacAddress": "02:00:00:00:00:01",
        "Hostname": "evil",
        "Domainname": "evil",
        "HostConfig": {"Privileged": True},
        "OnBuild": ["RUN true"],
        "Shell": ["/bin/sh"],
    }
    found = boot(image(config=config)).inspect()
    assert found["Config"].get("StopTimeout") is None
    assert found["Config"]["Hostname"] == "web-1"
    assert not found["HostConfig"]["Privileged"]
    assert not found["Config"].get("MacAddress")


# What an image might try, as Nova stores its properties with the server
MORE = {
    "docker:isolation": "shared",
    "docker:pids": "100000",
    "docker:read_only": "false",
    "docker:shm_size_mb": "4096",
    "docker:sysctl.kernel.core_pattern": "|/bin/sh",
    "docker:sysctl.net.core.somaxconn": "77",
    "docker:tmpfs": "/etc:1",
    "docker:ulimit_core": "1",
    "os_pids": "100000",
    "os_tmpfs": "/etc:1",
    "os_ulimit_core": "1",
    "quota:cpu_quota": "-1",
}


@attack(
    "More than the flavor allows",
    tried="An image with a property for each extra spec of flavors, and with larger "
    "values of those that images may have",
    held_by="Only os_read_only and os_shm_size_mb are read, and a value that asks for "
    "more than the flavor refuses the image",
)
@pytest.mark.parametrize(
    "asked",
    [{"os_shm_size_mb": "17"}, {"os_read_only": "false"}, {"os_shm_size_mb": "-1"}],
)
def test_an_image_cannot_ask_for_more(boot, image, asked):
    specs = {"docker:read_only": "true", "docker:shm_size_mb": "16"}
    flavor = samples.flavor(extra_specs=specs)
    meta = image()

    def start(properties):
        metadata = {f"image_{name}": value for name, value in properties.items()}
        return boot(
            meta, image_ref=meta.id, flavor=flavor, system_metadata=metadata
        ).inspect()

    with pytest.raises(exception.ImageUnacceptable, match="os_"):
        start(asked)
    plain, hostile = start({}), start(MORE)
    own = ("HostConfig", "Mounts", "AppArmorProfile")
    for container in (plain, hostile):
        del container["HostConfig"]["ExtraHosts"]
    assert [hostile[key] for key in own] == [plain[key] for key in own]
