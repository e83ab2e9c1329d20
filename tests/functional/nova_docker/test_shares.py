# SPDX-License-Identifier: Apache-2.0
"""Manila's shares of servers, on a real engine and with real mounts."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import time

import pytest
from nova import exception
from nova import objects
from nova.compute import power_state
from nova.compute import vm_states

from nova_docker.container import isolation
from nova_docker.privsep import shares as privileged
from tests import samples
from tests import storage
from tests.functional.host import state

pytestmark = pytest.mark.usefixtures("soon")

TOP = "/mnt/shares"


def flavor(level):
    return samples.flavor(extra_specs={"docker:isolation": level})


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    with storage.serving(tmp_path_factory.mktemp("storage")) as directory:
        yield directory


@pytest.fixture
def share(exports):
    """Creates a share, and returns what Nova knows of it."""
    made = []

    def of(server, tag="data", share_id=None, *, host=storage.STORAGE, export=None):
        share_id = share_id or samples.uuid()
        mapping = storage.share(server, share_id, tag, host=host)
        if export:
            mapping.export_location = f"{host}:/{export}"
        else:
            (exports / share_id).mkdir(exist_ok=True)
            made.append(exports / share_id)
        return mapping

    yield of
    for directory in made:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def boot(boot):
    """Boots servers as the others do, whose metadata is known."""

    def spawn(*arguments, level=isolation.USER, **values):
        values = {"flavor": flavor(level), "device_metadata": None} | values
        return boot(*arguments, **values)

    return spawn


@pytest.fixture(autouse=True)
def nothing_is_mounted(nothing_is_left):
    before = storage.mounts()
    yield
    assert storage.mounts() == before


@pytest.fixture
def attach(driver):
    """Gives a server that runs shares, as Nova does: it is stopped meanwhile."""

    def start(server, *mappings, using=driver):
        stop(using, server)
        for mapping in mappings:
            using.mount_share(None, server.instance, mapping)
        using.power_on(
            None, server.instance, server.network_info, share_info=list(mappings)
        )

    return start


def stop(driver, server, *mappings):
    driver.power_off(server.instance)
    return [driver.umount_share(None, server.instance, mapping) for mapping in mappings]


def reboot(driver, server, kind, *mappings):
    server.instance.vm_state = vm_states.ACTIVE
    driver.reboot(
        None, server.instance, server.network_info, kind, share_info=list(mappings)
    )


@pytest.mark.parametrize("level", [isolation.USER, isolation.SHARED, isolation.GVISOR])
def test_servers_share_files(driver, boot, share, attach, level):
    servers = [boot(level=level), boot(level=level)]
    one = share(servers[0])
    two = share(servers[1], tag="other-name", share_id=one.share_id)
    attach(servers[0], one)
    attach(servers[1], two)

    servers[0].run(f"echo hello > {TOP}/data/file && chmod 600 {TOP}/data/file")
    assert servers[1].run(f"cat {TOP}/other-name/file") == "hello\n"
    # Root of each server is root of the share, whatever it is of the host.
    assert servers[1].run(f"stat -c %u:%g {TOP}/other-name/file") == "0:0\n"

    assert stop(driver, servers[0], one) == [True]
    assert servers[1].run(f"cat {TOP}/other-name/file") == "hello\n"
    assert stop(driver, servers[1], two) == [False]
    assert not driver.is_share_mounted(two)


def test_neither_set_user_id_programs_nor_devices_work(boot, share, attach, exports):
    server = boot()
    mapping = share(server)
    attach(server, mapping)
    line = server.run(f"grep {TOP}/data /proc/self/mounts")
    options = line.split()[3].split(",")
    assert {"rw", "nosuid", "nodev"} <= set(options)

    subprocess.run(
        ["mknod", exports / mapping.share_id / "null", "c", "1", "3"], check=True
    )
    assert "denied" in server.run(f"cat {TOP}/data/null 2>&1 || true")


@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
def test_shares_survive_a_reboot(driver, boot, share, attach, kind):
    server = boot()
    mapping = share(server)
    attach(server, mapping)
    server.run(f"echo hello > {TOP}/data/file")
    if kind == "HARD":
        driver.mount_share(None, server.instance, mapping)
    reboot(driver, server, kind, mapping)
    assert server.run(f"cat {TOP}/data/file") == "hello\n"


def test_shares_survive_a_restart_of_nova_compute(
    make_driver, driver, boot, share, attach
):
    servers = [boot(), boot()]
    one = share(servers[0])
    two = share(servers[1], share_id=one.share_id)
    attach(servers[0], one)
    attach(servers[1], two)

    later = make_driver()

    # It knows who uses the share.
    assert later.is_share_mounted(one)
    assert stop(later, servers[0], one) == [True]
    reboot(later, servers[1], "SOFT", two)
    servers[1].run(f"echo hello > {TOP}/data/file")
    assert stop(later, servers[1], two) == [False]


def test_shares_survive_a_restart_by_the_engine(boot, share, attach, engine):
    server = boot()
    attach(server, share(server))
    server.run(f"echo hello > {TOP}/data/file")
    engine.client.stop_container(server.name, 0)
    engine.client.start_container(server.name)
    assert server.run(f"cat {TOP}/data/file") == "hello\n"


def test_a_server_returns_with_its_shares_when_the_host_has_restarted(
    driver, boot, share, attach, engine
):
    server = boot()
    mapping = share(server)
    attach(server, mapping)
    engine.client.kill_container(server.name, "SIGKILL")
    # Mounts do not outlive the host.
    driver.umount_share(None, server.instance, mapping)

    driver.mount_share(None, server.instance, mapping)
    driver.resume_state_on_host_boot(
        None, server.instance, server.network_info, [mapping]
    )
    server.run(f"echo hello > {TOP}/data/file")


def test_a_detached_share_is_not_there_even_if_it_is_still_mounted(
    driver, boot, share, attach
):
    server = boot()
    kept, detached = share(server, "kept"), share(server, "detached")
    attach(server, kept, detached)
    # Nova allows it in ERROR too, and unmounts nothing then.
    driver.power_off(server.instance)
    driver.power_on(None, server.instance, server.network_info, share_info=[kept])
    assert server.run(f"ls {TOP}; grep -c {TOP}/ /proc/self/mounts").split() == [
        "detached",
        "kept",
        "1",
    ]
    assert not driver.is_share_mounted(detached)


def test_a_server_in_rescue_has_its_shares(driver, boot, share, attach, image):
    server = boot()
    mapping = share(server)
    attach(server, mapping)
    server.run(f"echo hello > {TOP}/data/file")
    stop(driver, server, mapping)
    driver.mount_share(None, server.instance, mapping)
    driver.rescue(
        *(samples.request_context(), server.instance, server.network_info),
        *(image(), None, None, [mapping]),
    )
    assert server.run(f"cat {TOP}/data/file") == "hello\n"
    server.instance.vm_state = vm_states.RESCUED
    server.instance.info_cache = objects.InstanceInfoCache(
        network_info=server.network_info
    )
    driver.unrescue(None, server.instance)
    assert server.run(f"cat {TOP}/data/file") == "hello\n"


def test_a_share_that_is_refused_leaves_nothing(driver, boot, share):
    server = boot()
    with pytest.raises(exception.ShareMountError, match="access denied by server"):
        driver.mount_share(None, server.instance, share(server, host="refuses"))
    assert not driver.is_share_mounted(share(server))
    assert not pathlib.Path(privileged.DIRECTORY, server.name).exists()


def test_storage_that_does_not_answer_delays_nobody_else(
    driver, boot, share, attach, configure
):
    configure("share_timeout", 1)
    slow, other = boot(), boot()
    began = time.monotonic()
    for _ in range(5):
        with pytest.raises(exception.ShareMountError):
            driver.mount_share(None, slow.instance, share(slow, host=storage.SILENT))
    assert time.monotonic() - began < 5
    attach(other, share(other))
    other.run(f"touch {TOP}/data/file")
    assert not _sleeping()


def _sleeping():
    command = ["pgrep", "--full", f"^{storage.SLEEP}$"]
    return subprocess.run(command, capture_output=True, check=False).stdout


def test_a_file_system_that_cannot_shift_ids_is_refused_with_what_to_do(
    driver, boot, share, attach
):
    server = boot()
    with pytest.raises(
        exception.InstancePowerOnFailure, match="cannot shift the ids"
    ) as error:
        attach(server, share(server, export="ids"))
    assert "another isolation" in str(error.value)
    assert state(driver, server) == power_state.SHUTDOWN

    # Without the share, it starts; and a server without a user namespace has it.
    driver.power_on(None, server.instance, server.network_info, share_info=[])
    assert state(driver, server) == power_state.RUNNING
    shared = boot(level=isolation.SHARED)
    attach(shared, share(shared, export="ids"))
    shared.run(f"touch {TOP}/data/file")


def test_a_deleted_server_leaves_no_share(driver, boot, share, attach):
    server = boot()
    mapping = share(server)
    attach(server, mapping)
    driver.destroy(None, server.instance, server.network_info)
    assert not driver.is_share_mounted(mapping)
    # Nova calls it afterwards.
    assert driver.umount_share(None, server.instance, mapping) is False


def test_the_shares_of_a_server_that_is_gone_are_unmounted_at_the_start(
    make_driver, driver, boot, share, attach, engine
):
    server = boot()
    mapping = share(server)
    attach(server, mapping)
    engine.client.remove_container(server.name, force=True)
    make_driver()
    assert not driver.is_share_mounted(mapping)


def test_metadata_has_the_tags(boot, share, attach):
    server = boot()
    mapping = share(server)
    attach(server, mapping)
    [device] = server.instance.device_metadata.devices
    assert (device.share_id, device.tag) == (mapping.share_id, "data")
