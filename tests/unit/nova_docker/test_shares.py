# SPDX-License-Identifier: Apache-2.0
"""Manila's shares: what is mounted for which server, with the host's mounts faked."""

from __future__ import annotations

import errno
import time
from unittest import mock

import pytest
from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.virt.libvirt.volume import cephfs
from nova.virt.libvirt.volume import nfs

from nova_docker import conf
from nova_docker import shares
from nova_docker.container import naming
from nova_docker.privsep import shares as privileged
from tests import samples

CONF = nova_conf.CONF
conf.register_opts(CONF)
TOP = f"{privileged.DIRECTORY}"
SECRET = "AQBSdFhcGyvYLRAAD5Hhg=="


def share(instance, proto="NFS", tag="data", **values):
    return objects.ShareMapping(
        **{
            "share_id": samples.uuid(),
            "instance_uuid": instance.uuid,
            "status": "inactive",
            "tag": tag,
            "export_location": "192.0.2.7:/exports/1",
            "share_proto": proto,
            "access_to": "nova-1234",
            "access_key": SECRET,
        }
        | values
    )


@pytest.fixture
def instance():
    return samples.instance(device_metadata=None)


@pytest.fixture
def other():
    return samples.instance(device_metadata=None)


class Host:
    """The mounts of a host, which the privileged functions change."""

    def __init__(self):
        self.mounts = {}
        self.errors = {}
        self.calls = []

    def points(self, **options):
        return [mock.Mock(mountpoint=f"{TOP}/{'/'.join(key)}") for key in self.mounts]

    def mount(self, server, share, tag, *arguments):
        self._call("mount")
        self.mounts[server, share, tag] = arguments

    def unmount(self, *key):
        self._call("unmount")
        del self.mounts[key[:3]]

    def ask(self, *key):
        self._call("ask")

    def _call(self, name):
        self.calls.append(name)
        if name in self.errors:
            raise OSError(self.errors[name], "refused")


@pytest.fixture
def host(monkeypatch):
    found = Host()
    monkeypatch.setattr("psutil.disk_partitions", found.points)
    for name in ("mount", "unmount", "ask"):
        monkeypatch.setattr(privileged, name, getattr(found, name))
    monkeypatch.setattr(shares, "_silent", {})
    monkeypatch.setattr("nova.objects.Instance.save", mock.Mock())
    for kind in "BlockDeviceMapping", "VirtualInterface":
        monkeypatch.setattr(
            f"nova.objects.{kind}List.get_by_instance_uuid", lambda *args: []
        )
    return found


def start(instance, wanted, *, runs=False, fails=None):
    with shares.bound(samples.request_context(), instance, wanted, lambda _: runs):
        if fails:
            raise fails


# What is mounted


@pytest.mark.parametrize(
    ("proto", "driver"),
    [
        ("NFS", nfs.LibvirtNFSVolumeDriver),
        ("CEPHFS", cephfs.LibvirtCEPHFSVolumeDriver),
    ],
)
def test_a_share_is_mounted_as_novas_driver_for_libvirt_mounts_it(
    host, instance, proto, driver, monkeypatch
):
    mapping = share(instance, proto)
    novas = mock.Mock()
    monkeypatch.setattr("nova.virt.libvirt.volume.mount.mount", novas)
    data = {"export": mapping.export_location, "name": mapping.share_id}
    if proto == "CEPHFS":
        data["options"] = [f"name={mapping.access_to}", f"secret={SECRET}"]
    driver("host").connect_volume({"data": data}, instance)
    kind, export, *_, found = novas.call_args.args

    shares.mount(instance, mapping)

    [(ours, source, options, _)] = host.mounts.values()
    assert (ours, source) == (kind, export)
    assert options == ",".join([*found[1:], "nosuid", "nodev"])


@pytest.mark.parametrize("proto", ["NFS", "CEPHFS"])
def test_no_option_of_the_operator_allows_set_user_id_programs_and_devices(
    instance, proto
):
    found = shares.options(share(instance, proto), "suid,dev,vers=4.2").split(",")
    assert found[:3] == ["suid", "dev", "vers=4.2"]
    # The last one counts.
    assert found[-2:] == ["nosuid", "nodev"]


@pytest.mark.parametrize("key", [f"{SECRET},suid", "", None])
def test_a_key_of_cephfs_is_one_option(instance, key):
    with pytest.raises(exception.ShareMountError, match="secret"):
        shares.options(share(instance, "CEPHFS", access_key=key), None)


@pytest.mark.parametrize(
    "tag", ["..", ".", "", "a/b", "../../etc", "a\n", "a b", "é", "a" * 256, "a\0"]
)
def test_a_tag_that_is_no_name_of_a_directory_is_refused(host, instance, tag):
    with pytest.raises(exception.ShareMountError, match="tag"):
        shares.mount(instance, share(instance, tag=tag))
    assert not host.calls


def test_a_share_without_a_uuid_is_refused(host, instance):
    mapping = mock.Mock(share_proto="NFS", tag="data", share_id="../../x")
    with pytest.raises(exception.ShareMountError, match="UUID"):
        shares.mount(instance, mapping)
    assert not host.calls


def test_an_unknown_protocol_is_refused(host, instance):
    # As a later Nova might have it
    with pytest.raises(exception.ShareProtocolNotSupported):
        shares.mount(instance, mock.Mock(share_proto="CIFS"))
    assert not host.calls


def test_other_mounts_of_the_host_are_no_shares():
    points = ["/", f"{TOP}", f"{TOP}/nova-1", f"{TOP}/nova-1/2/3/4", f"{TOP}x/1/2/3"]
    assert shares.mounted([*points, f"{TOP}/nova-1/2/data"]) == [
        ("nova-1", "2", "data")
    ]


# Mounting


def test_each_server_has_mounts_of_its_own(host, instance, other):
    mapping = share(instance)
    shares.mount(instance, mapping)
    shares.mount(other, share(other, share_id=mapping.share_id))
    assert set(host.mounts) == {
        (naming.name_of(server.uuid), mapping.share_id, "data")
        for server in (instance, other)
    }


def test_mounting_again_has_no_effect(host, instance):
    mapping = share(instance)
    shares.mount(instance, mapping)
    shares.mount(instance, mapping)
    assert host.calls == ["mount", "ask"]


def test_a_share_that_does_not_answer_is_mounted_anew(host, instance):
    mapping = share(instance)
    shares.mount(instance, mapping)
    host.errors["ask"] = errno.ETIMEDOUT
    shares.mount(instance, mapping)
    assert host.calls == ["mount", "ask", "unmount", "mount"]


def test_a_share_with_another_tag_is_mounted_at_the_new_one_only(host, instance):
    mapping = share(instance, tag="old")
    shares.mount(instance, mapping)
    mapping.tag = "new"
    shares.mount(instance, mapping)
    assert [tag for _, _, tag in host.mounts] == ["new"]


def test_the_reason_of_a_failure_is_reported(host, instance):
    host.errors["mount"] = errno.EIO
    with pytest.raises(exception.ShareMountError, match="refused"):
        shares.mount(instance, share(instance))


def test_storage_that_does_not_answer_is_not_asked_again_at_once(
    host, instance, other, monkeypatch
):
    host.errors["mount"] = errno.ETIMEDOUT
    for server in (instance, other):
        with pytest.raises(exception.ShareMountError):
            shares.mount(server, share(server))
    assert host.calls == ["mount"]

    elsewhere = share(other, export_location="192.0.2.8:/exports/1")
    host.errors.clear()
    shares.mount(other, elsewhere)
    assert host.calls == ["mount", "mount"]

    later = time.monotonic() + CONF.docker.share_timeout
    monkeypatch.setattr("time.monotonic", lambda: later)
    shares.mount(instance, share(instance))
    assert host.calls == ["mount"] * 3


def test_no_secret_is_logged_or_reported(host, instance, caplog):
    caplog.set_level("DEBUG")
    mapping = share(instance, "CEPHFS")
    shares.mount(instance, mapping)
    host.errors["mount"] = errno.EIO
    with pytest.raises(exception.ShareMountError) as error:
        shares.mount(instance, share(instance, "CEPHFS"))
    shares.unmount(instance, mapping)
    assert SECRET not in caplog.text + str(error.value)


# Unmounting


@pytest.mark.parametrize(("proto", "needed"), [("NFS", True), ("CEPHFS", False)])
def test_nova_learns_whether_another_server_needs_the_access(
    host, instance, other, proto, needed
):
    mine = share(instance, proto)
    theirs = share(other, proto, share_id=mine.share_id)
    shares.mount(instance, mine)
    shares.mount(other, theirs)

    assert shares.unmount(instance, mine) is needed
    assert shares.is_mounted(mine)
    assert shares.unmount(other, theirs) is False
    assert not shares.is_mounted(mine)
    assert not host.mounts


def test_unmounting_again_has_no_effect(host, instance):
    assert shares.unmount(instance, share(instance)) is False
    assert not host.calls


def test_a_failure_to_unmount_is_reported(host, instance):
    mapping = share(instance)
    shares.mount(instance, mapping)
    host.errors["unmount"] = errno.EBUSY
    with pytest.raises(exception.ShareUmountError):
        shares.unmount(instance, mapping)


def test_a_server_that_is_deleted_leaves_no_mount(host, instance, other):
    for server in (instance, instance, other):
        shares.mount(server, share(server))
    shares.release(instance.uuid)
    assert {server for server, *_ in host.mounts} == {naming.name_of(other.uuid)}


def test_a_server_can_be_deleted_whose_share_cannot_be_unmounted(
    host, instance, caplog
):
    shares.mount(instance, share(instance))
    host.errors["unmount"] = errno.ETIMEDOUT
    shares.release(instance.uuid)
    assert "Failed to unmount" in caplog.text


def test_the_shares_of_servers_that_are_gone_are_unmounted(host, instance, other):
    for server in (instance, other):
        shares.mount(server, share(server))
    shares.sweep([other.uuid])
    assert {server for server, *_ in host.mounts} == {naming.name_of(other.uuid)}


# The start of a server


def test_a_server_starts_with_its_shares(host, instance):
    wanted = [share(instance, tag="a"), share(instance, tag="b")]
    for mapping in wanted:
        shares.mount(instance, mapping)
    start(instance, wanted)
    assert {tag for *_, tag in host.mounts} == {"a", "b"}


def test_a_server_does_not_start_without_a_share(host, instance):
    missing = share(instance)
    with pytest.raises(exception.InstancePowerOnFailure, match=missing.share_id):
        start(instance, [missing])


def test_a_server_does_not_start_with_a_share_that_was_detached(host, instance):
    shares.mount(instance, share(instance))
    start(instance, [])
    assert not host.mounts


def test_a_server_does_not_start_if_a_detached_share_stays(host, instance):
    shares.mount(instance, share(instance))
    host.errors["unmount"] = errno.ETIMEDOUT
    with pytest.raises(exception.InstancePowerOnFailure, match="detached"):
        start(instance, [])


def test_nothing_changes_for_a_server_that_runs(host, instance):
    shares.mount(instance, share(instance))
    start(instance, [], runs=True)
    assert host.mounts


def test_nothing_changes_where_nova_does_not_pass_the_shares(host, instance):
    shares.mount(instance, share(instance))
    start(instance, None)
    assert host.mounts


@pytest.mark.parametrize("runs", [True, False])
def test_a_server_that_fails_to_start_leaves_no_mount(host, instance, runs):
    mapping = share(instance)
    shares.mount(instance, mapping)
    with pytest.raises(ValueError, match="failed"):
        start(instance, [mapping], runs=runs, fails=ValueError("failed"))
    assert bool(host.mounts) is runs


def test_the_tags_are_in_the_metadata(host, instance):
    mapping = share(instance)
    shares.mount(instance, mapping)
    start(instance, [mapping])
    [device] = instance.device_metadata.devices
    assert (device.share_id, device.tag) == (mapping.share_id, "data")

    start(instance, [mapping])
    assert objects.Instance.save.call_count == 1

    start(instance, [])
    assert instance.device_metadata is None
