# SPDX-License-Identifier: Apache-2.0
"""Injection of files, keys and config drives, with friendly and hostile images."""

from __future__ import annotations

import io
import pathlib
import tarfile

import pytest
from nova import exception

from nova_docker import config_drive
from nova_docker.driver import CONF
from tests import archives
from tests import samples

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOwn me@here"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOther you@there"
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nadmin:x:1000:1000::/home/admin:/bin/sh\n"


@pytest.fixture
def booted(boot, image):
    """Boots a server whose image has additional files."""

    def start(files_in_image=None, *, members=(), properties=None, **values):
        layers = [
            archives.busybox_layer({"etc/passwd": PASSWD} | (files_in_image or {}))
        ]
        if members:
            layers.append(layer(*members))
        found = image(archives.archive(layers), properties=properties)
        return boot(found, **values)

    return start


def layer(*members):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, link, 0o755
            archive.addfile(member)
    return target.getvalue()


def test_files_are_injected_at_their_paths(booted):
    server = booted(
        {"etc/motd": b"old"},
        files=[("/etc/motd", b"new"), ("/srv/a/b", b"deep"), ("../../up", b"top")],
    )
    assert server.run("cat /etc/motd /srv/a/b /up") == "newdeeptop"
    assert server.run("ls -n /srv/a/b").split()[:4] == ["-rw-r--r--", "1", "0", "0"]


@pytest.mark.parametrize("way", ["{}", "../../../../../../../..{}", "/proc/1/root{}"])
def test_an_images_links_cannot_reach_files_of_the_host(booted, tmp_path, way):
    target = way.format(tmp_path)
    (tmp_path / "there").write_text("the host's")
    try:
        server = booted(
            {"srv/out": target, "srv/file": f"{target}/there"},
            files=[("/srv/out/there", b"evil"), ("/srv/file", b"evil")],
        )
    except exception.ImageUnacceptable:
        pass
    else:
        assert server.run("cat /srv/file") == "evil"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "the host's"


def test_a_file_replaces_a_fifo_and_a_link(booted):
    kinds = [("srv/fifo", tarfile.FIFOTYPE, ""), ("srv/link", tarfile.SYMTYPE, "fifo")]
    server = booted(members=kinds, files=[("/srv/fifo", b"one"), ("/srv/link", b"two")])
    assert server.run("cat /srv/fifo /srv/link") == "onetwo"


@pytest.mark.parametrize("path", ["/etc", "/", "/etc/passwd/below"])
def test_a_file_that_cannot_be_injected_fails_the_boot(booted, path):
    with pytest.raises(exception.ImageUnacceptable, match="inject"):
        booted(files=[(path, b"")])


def test_a_key_is_added_to_the_images_authorized_keys(booted):
    trusted = {"root/.ssh/authorized_keys": OTHER.encode()}
    server = booted(trusted, key_data=KEY + "\n")
    found = server.run("cat /root/.ssh/authorized_keys")
    assert found == f"{OTHER}\n{KEY}\n"
    assert server.run("ls -lnd /root/.ssh").split()[:4:3] == ["drwx------", "0"]


def test_a_key_is_injected_for_the_images_os_admin_user(booted):
    server = booted(properties={"os_admin_user": "admin"}, key_data=KEY)
    assert server.run("cat /home/admin/.ssh/authorized_keys") == f"{KEY}\n"
    owner = server.run("ls -ln /home/admin/.ssh/authorized_keys").split()
    assert owner[:4] == ["-rw-------", "1", "1000", "1000"]


@pytest.mark.parametrize(
    ("files", "properties"),
    [
        ({"root": b"a file"}, {}),
        ({"root/.ssh": b"a file"}, {}),
        ({"root/.ssh": "/proc/1/root/root/.ssh"}, {}),
        ({"root/.ssh/authorized_keys/sub": b""}, {}),
        ({"root/.ssh/authorized_keys": b"#" * 2**21}, {}),
        ({"etc/passwd": b"\xff::\nroot:x:many:0:root:/root:/bin/sh\n"}, {}),
        ({"etc/passwd": b"root:x:" + b"9" * 40 + b":0:root:/root:/bin/sh\n"}, {}),
        ({}, {"os_admin_user": "no\nbody"}),
    ],
)
def test_a_key_that_cannot_be_injected_does_not_fail_the_boot(
    booted, files, properties
):
    server = booted(files, properties=properties, key_data=KEY)
    assert server.inspect()["State"]["Running"]


def test_a_key_is_injected_when_the_home_directory_is_missing(booted):
    kinds = [("root/.ssh", tarfile.DIRTYPE, "")]
    kinds.append(("root/.ssh/authorized_keys", tarfile.FIFOTYPE, ""))
    for members in ([], kinds):
        server = booted(members=members, key_data=KEY)
        assert server.run("cat /root/.ssh/authorized_keys") == f"{KEY}\n"


def test_key_injection_can_be_switched_off(booted, configure):
    configure("inject_key", False)
    assert booted(key_data=KEY).run("ls -a /").split().count("root") == 0


@pytest.fixture
def contents(monkeypatch):
    """Replaces the metadata that Nova would read from its database."""
    files = {
        "openstack/latest/meta_data.json": b'{"uuid": "1", "hostname": "web-1"}',
        "openstack/latest/user_data": b"#cloud-config",
    }
    monkeypatch.setattr(config_drive, "_contents", lambda *args: files)
    return files


def drives():
    directory = pathlib.Path(CONF.state_path, "docker-config-drives")
    return [path.name for path in directory.iterdir()]


SEED = "/var/lib/cloud/seed"


def test_a_config_drive_is_mounted_read_only_and_removed_with_the_server(
    booted, contents, driver
):
    server = booted(config_drive="True")
    seen = server.run(f"cat {SEED}/config_drive/openstack/latest/user_data")
    assert seen == "#cloud-config"
    assert '"instance-id": "1"' in server.run(f"cat {SEED}/nocloud/meta-data")
    for change in ("touch config_drive/new", "rm nocloud/user-data"):
        assert "Read-only" in server.run(f"cd {SEED}; {change} 2>&1; true")
    contents["openstack/latest/user_data"] = b"changed"
    driver.destroy(None, server.instance, server.network_info)
    assert server.instance.uuid not in drives()


def test_only_root_can_read_a_config_drive(booted, contents):
    server = booted(config_drive="True")
    for directory in ("config_drive", "nocloud"):
        assert server.run(f"ls -ld {SEED}/{directory}").startswith("d---------")


@pytest.mark.parametrize("seed", ["{}", "../../../../../../../..{}"])
def test_an_images_link_does_not_mount_a_config_drive_on_the_host(
    booted, contents, tmp_path, seed
):
    link = {"var/lib/cloud/seed/config_drive": seed.format(tmp_path)}
    try:
        server = booted(link, config_drive="True")
    except exception.InstancePowerOnFailure:
        # Docker 29.5.1 and Debian's 28.5.2 refuse mounts below absolute links.
        pass
    else:
        seen = server.run(f"cat {SEED}/config_drive/openstack/latest/user_data")
        assert seen == "#cloud-config"
    assert str(tmp_path) not in pathlib.Path("/proc/mounts").read_text()
    assert list(tmp_path.iterdir()) == []


def test_files_cannot_be_injected_into_a_config_drive(booted, contents):
    with pytest.raises(exception.ImageUnacceptable):
        booted(files=[(f"{SEED}/config_drive/evil", b"")], config_drive="True")
    assert drives() == []


def test_the_config_drive_of_an_interrupted_boot_is_removed(
    driver, make_driver, contents
):
    instance = samples.instance(config_drive="True")
    config_drive.write(instance, [], None, samples.nics())
    assert drives() == [instance.uuid]
    make_driver()
    assert drives() == []
