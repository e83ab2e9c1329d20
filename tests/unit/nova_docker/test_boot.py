# SPDX-License-Identifier: Apache-2.0
"""A boot: what runs in parallel, what is refused, and what a failure leaves."""

from __future__ import annotations

import contextlib
import pathlib
import threading
import typing

import pytest
from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.compute import task_states

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker import accounts
from nova_docker import conf
from nova_docker import config_drive
from nova_docker.boot import Boot
from nova_docker.container import init
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.errors import EngineTimeout
from nova_docker.host.isolation import Isolation
from tests import archives
from tests import samples

CONF = nova_conf.CONF
conf.register_opts(CONF)

IMAGE = "image:latest"
DISK = {"device_name": "/dev/vdb", "size": 1}


class Host:
    """A stand-in for :class:`nova_docker.host.host.Host`."""

    disk_quota = False
    disk_device: str | None = None
    isolation = Isolation()
    missing_inits: typing.ClassVar[dict[str, str]] = {}

    def limits(self, flavor, level, topology):
        return {"PidsLimit": 256 if level == isolation.GVISOR else 100}

    def refuse_swap(self, flavor):
        if flavor.swap:
            raise exception.InvalidInput(reason="no swap")


class Images:
    """A stand-in for :class:`nova_docker.image.store.ImageStore`."""

    volumes = None
    command = None

    def check(self, image_meta, flavor):
        if flavor.root_gb < image_meta.min_disk:
            raise exception.FlavorDiskSmallerThanImage(flavor_size=0, image_size=1)

    def ensure(self, context, image_meta, flavor, trusted_certs):
        config = {"Volumes": self.volumes, "Cmd": self.command}
        return {"Id": IMAGE, "Config": config}


class Nics:
    """A stand-in for :class:`nova_docker.nics.Nics`: who has NICs, and who ids."""

    def __init__(self):
        self.plugged = set()
        self.with_ids = set()
        self.disconnected = set()

    def cut(self, instance):
        self.disconnected.add(instance.uuid)

    def plug(self, instance, network_info, *, level):
        self.plugged.add(instance.uuid)
        if level == isolation.USER:
            self.with_ids.add(instance.uuid)

    def release(self, uuid):
        self.with_ids.discard(uuid)

    def unplug(self, instance, network_info):
        self.plugged.discard(instance.uuid)

    @contextlib.contextmanager
    def wired(self, instance, network_info):
        yield


@pytest.fixture
def client():
    mock = MockDockerClient()
    mock.load_image([archives.busybox_archive(tags=[IMAGE])])
    return mock


@pytest.fixture
def nics():
    return Nics()


@pytest.fixture
def images():
    return Images()


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def boot(client, host, images, nics, monkeypatch, tmp_path):
    CONF.set_override("state_path", str(tmp_path))
    for kind in "BlockDeviceMapping", "VirtualInterface":
        monkeypatch.setattr(
            f"nova.objects.{kind}List.get_by_instance_uuid", lambda *args: []
        )
    monkeypatch.setattr(
        config_drive,
        "_contents",
        lambda *args: {
            "openstack/latest/meta_data.json": b'{"uuid": "1", "hostname": "web-1"}'
        },
    )
    yield Boot(client, host, images, nics)
    CONF.clear_override("state_path")


def run(boot, instance, *, files=(), power_on=True):
    boot.run(
        samples.request_context(),
        instance,
        samples.image_meta(),
        samples.nics(samples.vif(samples.subnet("192.0.2.0/24", "192.0.2.10"))),
        files,
        None,
        power_on,
    )


def status(client, instance):
    found = client.inspect_container(naming.name_of(instance.uuid))
    return found["State"]["Status"]


def config_drives():
    return list(pathlib.Path(CONF.state_path).glob("*/*"))


def fail(error):
    def raise_error(*args, **kwargs):
        raise error

    return raise_error


def test_a_server_runs_with_its_nics_and_its_config_drive(client, nics, boot):
    instance = samples.instance(config_drive="True")
    run(boot, instance)
    assert status(client, instance) == "running"
    assert nics.plugged == {instance.uuid}
    found = client.inspect_container(naming.name_of(instance.uuid))
    assert len(found["HostConfig"]["Mounts"]) == 2
    assert len(config_drives()) == 1


def test_a_server_has_no_volume_for_what_its_image_declares(client, images, boot):
    images.volumes = {"/data": {}, "/var/lib/cloud/seed/config_drive": {}}
    instance = samples.instance(config_drive="True")
    run(boot, instance)
    name = naming.name_of(instance.uuid)
    mounts = client.inspect_container(name)["Mounts"]
    assert sorted((mount["Type"], mount["Destination"]) for mount in mounts) == [
        ("bind", "/var/lib/cloud/seed/config_drive"),
        ("bind", "/var/lib/cloud/seed/nocloud"),
        ("tmpfs", "/data"),
    ]
    assert client.has_path(name, "/data")


def test_nics_are_plugged_while_the_container_is_created(
    client, nics, boot, monkeypatch
):
    both = threading.Barrier(2, timeout=20)
    create = client.create_container

    def create_beside_plugging(*args):
        both.wait()
        return create(*args)

    monkeypatch.setattr(client, "create_container", create_beside_plugging)
    monkeypatch.setattr(nics, "plug", lambda *args, level: both.wait())
    instance = samples.instance()
    run(boot, instance)
    assert status(client, instance) == "running"


def test_a_server_starts_once_its_ports_are_wired(client, nics, boot, monkeypatch):
    instance = samples.instance()
    seen = []

    @contextlib.contextmanager
    def wired(*args):
        yield
        seen.append((status(client, instance), nics.plugged == {instance.uuid}))

    monkeypatch.setattr(nics, "wired", wired)
    run(boot, instance)
    assert seen == [("created", True)]
    assert status(client, instance) == "running"


def test_a_server_can_be_left_stopped_and_is_disconnected(client, boot, nics):
    instance = samples.instance()
    run(boot, instance, power_on=False)
    assert status(client, instance) == "created"
    assert nics.disconnected == {instance.uuid}


@pytest.mark.parametrize(("disk_quota", "limit"), [(False, None), (True, "1G")])
def test_the_root_disk_is_limited_if_the_engine_can(
    client, host, boot, disk_quota, limit
):
    host.disk_quota = disk_quota
    instance = samples.instance()
    run(boot, instance)
    found = client.inspect_container(naming.name_of(instance.uuid))["HostConfig"]
    assert found.get("StorageOpt", {}).get("size") == limit


def test_the_io_of_the_root_disk_is_limited(client, host, boot):
    host.disk_device = "/dev/vda"
    specs = {"quota:disk_read_iops_sec": "7"}
    instance = samples.instance(flavor=samples.flavor(extra_specs=specs))
    run(boot, instance)
    found = client.inspect_container(naming.name_of(instance.uuid))["HostConfig"]
    assert found["BlkioDeviceReadIOps"] == [{"Path": "/dev/vda", "Rate": 7}]


def test_a_server_is_set_up_as_its_flavor_and_its_image_say(client, boot):
    specs = {"docker:tmpfs": "/run:8", "docker:ulimit_core": "0"}
    instance = samples.instance(
        flavor=samples.flavor(extra_specs=specs),
        system_metadata={"image_os_read_only": "true"},
    )
    run(boot, instance)
    found = client.inspect_container(naming.name_of(instance.uuid))
    config = found["HostConfig"]
    assert config["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]
    assert [mount["Target"] for mount in config["Mounts"]] == ["/run"]
    assert "NOVA_READ_ONLY=1" in found["Config"]["Env"]


@contextlib.contextmanager
def ports_fail(*args):
    yield
    raise exception.VirtualInterfaceCreateException


@pytest.mark.parametrize(
    ("part", "method", "replacement", "error"),
    [
        (
            "images",
            "ensure",
            fail(exception.ImageUnacceptable(image_id=IMAGE, reason="broken")),
            exception.ImageUnacceptable,
        ),
        (
            "nics",
            "plug",
            fail(exception.VirtualInterfacePlugException("no switch")),
            exception.VirtualInterfacePlugException,
        ),
        ("nics", "wired", ports_fail, exception.VirtualInterfaceCreateException),
        (
            "client",
            "put_archive",
            fail(errors.for_status(400, "not a directory")),
            exception.ImageUnacceptable,
        ),
        (
            "client",
            "start_container",
            fail(errors.for_status(400, "no such command")),
            exception.InvalidInput,
        ),
    ],
)
def test_a_failed_boot_leaves_nothing(
    request, client, nics, boot, monkeypatch, part, method, replacement, error
):
    monkeypatch.setattr(request.getfixturevalue(part), method, replacement)
    with pytest.raises(error):
        run(boot, samples.instance(config_drive="True"), files=[("/etc/motd", b"")])
    assert client.list_containers() == []
    assert nics.plugged == nics.with_ids == set()
    assert config_drives() == []


def test_a_failed_clean_up_does_not_hide_the_reason(client, nics, boot, caplog):
    client.fail_next("start_container", errors.for_status(400, "no such command"))
    nics.unplug = fail(exception.VirtualInterfaceUnplugException(reason="no switch"))
    with pytest.raises(exception.InvalidInput, match="no such command"):
        run(boot, samples.instance())
    assert client.list_containers() == []
    assert "Failed to clean up after a failed boot" in caplog.text
    assert "no switch" in caplog.text


def test_a_failed_boot_leaves_no_config_drive_on_a_lost_engine(
    client, nics, boot, monkeypatch
):
    for method in ("create_container", "list_containers", "remove_container"):
        monkeypatch.setattr(client, method, fail(errors.Unreachable("refused")))
    instance = samples.instance(config_drive="True")
    with pytest.raises(exception.NovaException, match="refused"):
        run(boot, instance)
    # Nova's own attempt fails, too, and it is the last one.
    with pytest.raises(exception.NovaException, match="refused"):
        boot.undo(instance, samples.nics())
    assert nics.plugged == set()
    assert config_drives() == []


def test_an_existing_server_is_left_alone(client, nics, boot):
    instance = samples.instance()
    run(boot, instance)
    before = client.inspect_container(naming.name_of(instance.uuid))
    with pytest.raises(exception.InstanceExists):
        run(boot, instance)
    assert client.inspect_container(naming.name_of(instance.uuid)) == before
    assert nics.plugged == {instance.uuid}


@pytest.mark.parametrize("unplug", [True, False])
def test_undo_removes_a_server_and_its_nics_if_asked(client, nics, boot, unplug):
    instance = samples.instance(config_drive="True")
    run(boot, instance)
    boot.undo(instance, samples.nics(), unplug=unplug)
    assert client.list_containers() == []
    assert config_drives() == []
    assert nics.plugged == (set() if unplug else {instance.uuid})
    assert nics.with_ids == set()


def test_undo_removes_the_container_although_the_switch_fails(client, nics, boot):
    instance = samples.instance()
    run(boot, instance)
    nics.plugged.clear()
    nics.unplug = fail(exception.VirtualInterfaceUnplugException(reason="no switch"))
    with pytest.raises(exception.VirtualInterfaceUnplugException):
        boot.undo(instance, samples.nics())
    assert client.list_containers() == []
    assert nics.with_ids == set()


def test_a_server_that_would_boot_from_a_volume_is_refused_without_an_image(boot):
    devices = {"block_device_mapping": [{"boot_index": 0, "mount_device": "/dev/vda"}]}
    # As Nova makes it of a volume's metadata
    image_meta = objects.ImageMeta.from_dict({"properties": {}})
    with pytest.raises(exception.InvalidInput, match="cannot boot from a volume"):
        boot.check(samples.instance(), image_meta, devices)


@pytest.mark.parametrize(
    ("flavor", "image", "devices", "error"),
    [
        ({"extra_specs": {"hw:cpu_policy": "dedicated"}}, {}, {}, "InvalidInput"),
        ({}, {"properties": {"os_command_line": "'"}}, {}, "ImageUnacceptable"),
        ({}, {}, {"ephemerals": [DISK | {"guest_format": "x"}]}, "InvalidInput"),
        ({"swap": 1}, {}, {}, "InvalidInput"),
        ({"extra_specs": {"docker:isolation": "vm"}}, {}, {}, "InvalidInput"),
        ({"extra_specs": {"docker:shm_size_mb": "x"}}, {}, {}, "InvalidInput"),
        ({"extra_specs": {"quota:cpu_quota": "1"}}, {}, {}, "InvalidInput"),
        ({}, {"min_disk": 2}, {}, "FlavorDiskSmallerThanImage"),
    ],
)
def test_a_server_that_cannot_be_a_container_is_refused(
    boot, flavor, image, devices, error
):
    instance = samples.instance(flavor=samples.flavor(**flavor))
    with pytest.raises(getattr(exception, error)):
        boot.check(instance, samples.image_meta(**image), devices)


SHARED = {"extra_specs": {"docker:isolation": "shared"}}


@pytest.mark.parametrize("requested", ["systemd", ""])
def test_systemd_without_a_user_namespace_is_refused_before_anything_happens(
    boot, requested
):
    """If it is requested. Another image may have an entry point before the command."""
    command = {"properties": {"os_command_line": "/sbin/init"}}
    metadata = {"image_os_init": requested}
    shared = samples.flavor(**SHARED)
    for flavor, refused in (shared, bool(requested)), (samples.flavor(), False):
        instance = samples.instance(flavor=flavor, system_metadata=metadata)
        with (
            pytest.raises(exception.InvalidInput)
            if refused
            else contextlib.nullcontext()
        ):
            boot.check(instance, samples.image_meta(**command), None)


def test_an_image_with_systemd_is_refused_before_its_container_is_created(
    client, images, nics, boot
):
    images.command = ["/sbin/init"]
    instance = samples.instance(flavor=samples.flavor(**SHARED))
    with pytest.raises(exception.InvalidInput, match="systemd"):
        run(boot, instance)
    assert client.list_containers() == []
    assert not nics.plugged


@pytest.mark.parametrize(
    ("level", "expected"), [("user", "systemd"), ("shared", "none"), ("gvisor", "none")]
)
def test_a_rescue_image_with_an_init_is_usable_at_each_level(
    client, images, boot, level, expected
):
    images.command = ["/sbin/init"]
    instance = samples.instance()
    image_meta = samples.image_meta(id=samples.uuid())
    arguments = (samples.request_context(), instance, image_meta)
    assert boot.fetch(*arguments, level, rescue=True)[1] == expected
    boot.create(*arguments, samples.nics(), level, rescue=True)
    made = client.inspect_container(naming.name_of(instance.uuid))
    assert made["Config"]["Labels"][init.LABEL] == expected


@pytest.mark.parametrize(("level", "expected"), [("user", 100), ("gvisor", 256)])
def test_a_container_has_the_limits_of_its_level(client, boot, level, expected):
    instance = samples.instance()
    context = samples.request_context()
    boot.create(context, instance, samples.image_meta(), samples.nics(), level)
    made = client.inspect_container(naming.name_of(instance.uuid))
    assert made["HostConfig"]["PidsLimit"] == expected


@pytest.mark.parametrize("level", ["shared", "gvisor"])
def test_a_rescue_from_the_servers_own_image_with_systemd_is_refused(boot, level):
    instance = samples.instance(system_metadata={"image_os_init": "systemd"})
    arguments = (samples.request_context(), instance, samples.image_meta())
    with pytest.raises(exception.InvalidInput, match="systemd"):
        boot.fetch(*arguments, level, rescue=True)


def test_an_init_that_the_host_does_not_have_is_refused(host, boot):
    host.missing_inits = {"docker-init": "install it"}
    instance = samples.instance(system_metadata={"image_os_init": "docker-init"})
    with pytest.raises(exception.InvalidInput, match="install it"):
        boot.check(instance, samples.image_meta(), None)


def test_an_ordinary_server_is_accepted(boot):
    boot.check(samples.instance(), samples.image_meta(), None)


def test_an_image_is_looked_at_once_and_a_servers_own_files_each_time(
    client, boot, monkeypatch
):
    looked = []
    monkeypatch.setattr(
        "nova_docker.accounts.check", lambda client, name: looked.append(name)
    )
    for _ in range(2):
        run(boot, samples.instance())
    assert len(looked) == 1
    for _ in range(2):
        # It has mounts, and they are the same in each server.
        run(boot, samples.instance(config_drive="True"))
    assert len(looked) == 2
    for _ in range(2):
        run(boot, samples.instance(), files=[("/etc/group", b"root:x:0:")])
    assert len(looked) == 4


def test_no_more_than_some_images_are_remembered(boot, images, monkeypatch):
    monkeypatch.setattr("nova_docker.boot._MAX_CHECKED", 1)
    run(boot, samples.instance())
    run(boot, samples.instance(config_drive="True"))
    assert len(boot._checked) == 1


def test_a_server_whose_files_would_block_the_engine_is_not_booted(
    client, boot, monkeypatch
):
    refuse = fail(accounts.Unreadable("/etc/group in the server is a named pipe"))
    monkeypatch.setattr("nova_docker.accounts.check", refuse)
    with pytest.raises(exception.InstancePowerOnFailure, match="a named pipe"):
        run(boot, samples.instance())
    assert client.list_containers() == []


def test_the_deletion_of_a_server_that_does_not_answer_is_completed_later(
    client, nics, boot, caplog
):
    instance = samples.instance(config_drive="True")
    run(boot, instance)
    for task_state in (None, task_states.REBUILDING):
        instance.task_state = task_state
        wedge(client)
        with pytest.raises(EngineTimeout):
            boot.undo(instance, None)
    instance.task_state = task_states.DELETING
    wedge(client)
    boot.undo(instance, None)
    assert "does not answer and is not removed yet" in caplog.text
    assert not nics.plugged and not config_drives()
    assert client.list_containers()
    # Its processes may run on, as the users that only it must have.
    boot.release(lambda: [instance.uuid])
    assert nics.with_ids == {instance.uuid}
    boot.undo(instance, None)
    assert not client.list_containers()
    assert nics.with_ids == set()


def test_the_ids_of_a_server_that_does_not_answer_are_released_when_it_is_gone(
    client, nics, boot
):
    instance = samples.instance(task_state=task_states.DELETING)
    run(boot, instance)
    wedge(client)
    boot.undo(instance, None)
    # Once it answers, the engine removes it although nobody calls.
    boot.release(list)
    assert nics.with_ids == set()


def wedge(client):
    """Let a container not answer when it is removed."""
    for method in ("remove_container", "inspect_container"):
        client.fail_next(method, errors.Timeout("no answer"))


def test_deletions_that_wait_for_the_engine_do_not_delay_boots(
    client, boot, monkeypatch
):
    waiting = [samples.instance() for _ in range(boot._pool._max_workers)]
    for instance in waiting:
        run(boot, instance)
    begun = threading.Barrier(len(waiting) + 1, timeout=20)
    answered = threading.Event()
    remove = client.remove_container

    def wait(*arguments, **options):
        begun.wait()
        assert answered.wait(20)
        remove(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(client, "remove_container", wait)
        threads = [
            threading.Thread(target=boot.undo, args=(instance, None))
            for instance in waiting
        ]
        for thread in threads:
            thread.start()
        begun.wait()
        patched.setattr(client, "remove_container", remove)
        booted = samples.instance()
        booting = threading.Thread(target=run, args=(boot, booted))
        booting.start()
        booting.join(10)
        ended = not booting.is_alive()
        answered.set()
        for thread in [*threads, booting]:
            thread.join(20)
    assert ended
    assert status(client, booted) == "running"


def move_in(boot, instance, fill=lambda: None, drive=None):
    boot.move_in(
        samples.request_context(),
        instance,
        samples.image_meta(),
        samples.nics(samples.vif(samples.subnet("192.0.2.0/24", "192.0.2.10"))),
        isolation.USER,
        drive,
        fill,
    )


def test_a_server_that_moves_in_gets_nothing_but_its_files(
    client, nics, boot, monkeypatch
):
    for name in "inject_files", "inject_key":
        monkeypatch.setattr(
            f"nova_docker.injection.{name}", fail(AssertionError("injected"))
        )
    instance = samples.instance(key_data="ssh-ed25519 AAAA")
    states = []
    drive = {"openstack/latest/meta_data.json": b'{"uuid": "1", "hostname": "web-1"}'}
    move_in(boot, instance, lambda: states.append(status(client, instance)), drive)
    assert states == ["created"]
    assert status(client, instance) == "created"
    assert nics.plugged == nics.disconnected == {instance.uuid}
    assert config_drive.read(instance.uuid) == drive


def test_nothing_is_left_of_a_server_that_does_not_move_in(client, nics, boot):
    instance = samples.instance()
    drive = {"openstack/latest/meta_data.json": b'{"uuid": "1", "hostname": "web-1"}'}
    with pytest.raises(exception.MigrationError):
        move_in(boot, instance, fail(exception.MigrationError(reason="no")), drive)
    assert not client.list_containers()
    assert not nics.plugged
    assert not config_drives()


def test_a_config_drive_that_makes_no_sense_leaves_nothing(client, nics, boot):
    with pytest.raises(KeyError):
        move_in(boot, samples.instance(), drive={"a": b""})
    assert not client.list_containers()
    assert not nics.plugged
    assert not config_drives()
