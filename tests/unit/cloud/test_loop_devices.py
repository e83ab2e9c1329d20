# SPDX-License-Identifier: Apache-2.0
"""The loop devices of volumes, with a losetup and a sysfs of the test's own."""

from __future__ import annotations

import pytest

from cloud.cinder_loop import devices


class Host:
    """A host with loop devices: a stand-in for losetup and for /sys/block."""

    def __init__(self, directory):
        self.sysfs = directory / "sysfs"
        self.files = directory / "files"
        self.links = directory / "links"
        for each in (self.sysfs, self.files, self.links):
            each.mkdir()
        self.resized = []

    def losetup(self, action, *arguments):
        if action == "--find":
            assert arguments[:2] == ("--show", "--nooverlap")
            return f"{self.bind(arguments[2])}\n"
        [device] = arguments
        if action == "--set-capacity":
            self.resized.append(device)
        else:
            assert action == "--detach"
            self._attribute(device.removeprefix("/dev/")).unlink()
        return ""

    def bind(self, file):
        """Return the device of a file, the first free one if it has none yet."""
        for device, backing in devices.all_devices():
            if str(backing) == str(file):
                return device
        used = {device for device, _ in devices.all_devices()}
        name = next(
            n for n in map("loop{}".format, range(9)) if f"/dev/{n}" not in used
        )
        self._attribute(name).write_text(f"{file}\n")
        return f"/dev/{name}"

    def reboot(self):
        for attribute in self.sysfs.glob("*/loop/backing_file"):
            attribute.unlink()

    def _attribute(self, name):
        directory = self.sysfs / name / "loop"
        directory.mkdir(parents=True, exist_ok=True)
        return directory / "backing_file"

    def volume(self, name):
        file = self.files / name
        file.touch()
        return file, self.links / name

    def target(self, name):
        return str((self.links / name).readlink())


@pytest.fixture
def host(tmp_path, monkeypatch):
    host = Host(tmp_path)
    monkeypatch.setattr(devices, "_SYSFS", host.sysfs)
    return host


def test_a_volume_has_one_device_however_often_it_is_attached(host):
    file, link = host.volume("a")
    devices.attach(host.losetup, file, link)
    devices.attach(host.losetup, file, link)
    assert devices.devices_of(file) == ["/dev/loop0"]
    assert host.target("a") == "/dev/loop0"


def test_detaching_frees_the_device_and_removes_the_link(host):
    for name in "ab":
        devices.attach(host.losetup, *host.volume(name))
    devices.detach(host.losetup, *host.volume("a"))
    assert devices.all_devices() == [("/dev/loop1", host.files / "b")]
    assert [link.name for link in host.links.iterdir()] == ["b"]


def test_detaching_twice_is_no_error(host):
    file, link = host.volume("a")
    devices.attach(host.losetup, file, link)
    devices.detach(host.losetup, file, link)
    devices.detach(host.losetup, file, link)
    assert devices.all_devices() == []


def test_after_a_reboot_each_link_leads_to_its_own_volume(host):
    for name in "ab":
        devices.attach(host.losetup, *host.volume(name))
    host.reboot()
    # Something else on the host was first.
    host.bind("/swap")
    devices.restore(host.losetup, host.files, host.links)
    files = {device: file.name for device, file in devices.all_devices()}
    assert files[host.target("a")] == "a"
    assert files[host.target("b")] == "b"


def test_a_reboot_in_the_middle_of_an_attachment_leaves_nothing(host):
    (host.links / "gone").symlink_to("/dev/loop3")
    (host.links / "a.new").symlink_to("/dev/loop4")
    devices.restore(host.losetup, host.files, host.links)
    assert list(host.links.iterdir()) == []
    assert devices.all_devices() == []


def test_an_attached_volume_is_resized_with_its_device(host):
    file, link = host.volume("a")
    devices.resize(host.losetup, file)
    assert host.resized == []
    devices.attach(host.losetup, file, link)
    devices.resize(host.losetup, file)
    assert host.resized == ["/dev/loop0"]


def test_a_deleted_file_is_still_known_by_its_name(host):
    host.bind(f"{host.files}/a (deleted)")
    assert devices.devices_of(host.files / "a") == ["/dev/loop0"]
