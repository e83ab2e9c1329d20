# SPDX-License-Identifier: Apache-2.0
"""User namespaces of servers on a real engine."""

from __future__ import annotations

import pathlib
import subprocess
import threading

import pytest
from nova import exception
from nova.compute import power_state
from nova.compute import task_states
from pyroute2 import netns

from docker_engine import errors
from nova_docker import id_ranges
from nova_docker.container import isolation
from nova_docker.host.isolation import Isolation
from nova_docker.privsep import network
from nova_docker.privsep import userns
from tests import archives
from tests import samples
from tests.functional import host
from tests.functional.host import state

START, SIZE = 1 << 30, id_ranges.SIZE


def flavor(level, **extra_specs):
    return samples.flavor(extra_specs={"docker:isolation": level, **extra_specs})


def maps(server, kind="uid"):
    """Return the ranges of a server's first process, as the host has them."""
    lines = pathlib.Path(f"/proc/{server.pid}/{kind}_map").read_text().splitlines()
    return [tuple(map(int, line.split())) for line in lines]


def base(server):
    """Return the host's id of root in a server."""
    [(inside, first, size)] = maps(server)
    assert (inside, size) == (0, SIZE)
    return first


def test_each_server_has_ids_of_its_own(boot):
    first, second = boot(), boot()
    start, count = host.CONF.docker.subid_start, host.CONF.docker.subid_count
    for server in (first, second):
        assert start <= base(server) <= start + count - SIZE
        assert maps(server, "gid") == maps(server)
        # No process of the server is root of the host.
        assert pathlib.Path(f"/proc/{server.pid}").stat().st_uid == base(server)
    assert base(first) != base(second)


def test_a_flavor_can_ask_for_the_hosts_user_namespace(driver, boot):
    server = boot(flavor=flavor("shared"))
    [(_, first, size)] = maps(server)
    assert (first, size) == (0, 2**32 - 1)
    assert userns.base_of(server.name) is None
    assert server.run("echo $NOVA_ISOLATION") == "shared\n"


@pytest.mark.parametrize("level", ["user", "shared"])
def test_everyone_can_see_how_a_server_is_isolated(driver, boot, mocker, level):
    server = boot(flavor=flavor(level))
    mocker.patch.object(
        type(server.instance), "get_network_info", return_value=server.network_info
    )
    assert server.run("echo $NOVA_ISOLATION") == f"{level}\n"
    assert server.inspect()["Config"]["Labels"][isolation.LABEL] == level
    assert driver.get_diagnostics(server.instance)["isolation"] == level


def test_files_belong_to_the_users_of_the_image(boot, image):
    layer = archives.busybox_layer({"root": b"1", "bin/mkfifo": "busybox"})
    server = boot(image(archives.archive([layer])))
    assert server.run("busybox stat -c %u /root /bin/sh / | sort -u") == "0\n"
    server.run("echo new > /new; busybox chown 7:8 /new; busybox rm /root")
    assert server.run("busybox stat -c %u:%g /new") == "7:8\n"
    # They do on disk, too: nothing that outlives the server has its ids.
    upper = pathlib.Path(server.inspect()["GraphDriver"]["Data"]["UpperDir"])
    found = (upper / "new").stat()
    assert (found.st_uid, found.st_gid) == (7, 8)
    assert (upper / "root").stat().st_uid == 0
    assert not list(pathlib.Path("/run/nova-docker/root").iterdir())


def test_an_image_may_have_many_layers(boot, image):
    """The engine then names them relative to its own directory."""
    more = [archives.tar({f"layer-{number}": b"x"}) for number in range(60)]
    server = boot(image(archives.archive([archives.busybox_layer({}), *more])))
    server.run("echo more >> /layer-7; busybox rm /layer-8")
    shown = server.run("cat /layer-7; ls / | grep -c layer-")
    assert shown == "xmore\n59\n"


def test_a_server_has_65536_ids(boot, image):
    server = boot()
    server.run("echo > /f; busybox chown 65535:65534 /f")
    assert server.run("busybox stat -c %u:%g /f") == "65535:65534\n"
    code = "busybox chown 65536 /f 2>&1 || true"
    assert "Invalid argument" in server.run(code)
    # What others on the host own belongs to nobody.
    assert server.run("busybox stat -c %u:%g /dev/null") == "65534:65534\n"


def test_root_may_change_the_network_unless_the_flavor_forbids_it(boot):
    server = boot()
    server.run("ip addr add 192.0.2.77/24 dev eth0; ip link set eth0 mtu 1300")
    assert "192.0.2.77/24" in server.run("ip addr show dev eth0")
    other = boot(flavor=flavor("user", **{"docker:net_admin": "false"}))
    assert "not permitted" in other.run("ip link set eth0 mtu 1300 2>&1 || true")


def test_a_user_can_become_root_of_the_server(boot, image, engine):
    passwd = b"root::0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"
    server = boot(image(files={"etc/passwd": passwd}))
    server.run("busybox cp /bin/busybox /bin/su; busybox chmod 4755 /bin/su")
    command = ["docker", "--host", engine.host, "exec", "--user=1000", server.name]
    shown = subprocess.run(
        [*command, "/bin/su", "-c", "busybox id -u; cat /proc/self/uid_map"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert shown.split() == ["0", "0", str(base(server)), str(SIZE)]


def test_ids_stay_until_the_server_is_deleted(driver, boot, make_driver):
    server = boot()
    first = base(server)
    driver.reboot(None, server.instance, server.network_info, "HARD")
    assert base(server) == first
    driver.power_off(server.instance)
    make_driver()
    driver.power_on(None, server.instance, server.network_info)
    assert base(server) == first
    driver.destroy(None, server.instance, server.network_info)
    assert userns.base_of(server.name) is None


def test_a_server_gets_new_ids_after_a_restart_of_the_host(driver, boot):
    server = boot()
    server.run("echo kept > /file; busybox chown 5:5 /file")
    first = base(server)
    driver.power_off(server.instance)
    network.unplug(server.name)
    userns.release(server.name)

    driver.power_on(None, server.instance, server.network_info)

    assert base(server) != first
    assert server.run("cat /file; busybox stat -c %u /file") == "kept\n5\n"


def test_a_server_without_its_user_namespace_is_not_started(driver, boot, engine):
    server = boot()
    driver.power_off(server.instance)
    userns.release(server.name)
    with pytest.raises(errors.DockerError, match=r"user namespace .* does not exist"):
        engine.client.start_container(server.name)
    driver.power_on(None, server.instance, server.network_info)
    assert state(driver, server) == power_state.RUNNING


@pytest.mark.parametrize(
    ("extra_specs", "message"),
    [
        ({"docker:isolation": "vm"}, "none of user, shared"),
        ({"docker:net_admin": "perhaps"}, "neither true nor false"),
    ],
)
def test_an_unknown_isolation_is_refused_before_anything_happens(
    driver, boot, extra_specs, message
):
    with pytest.raises(exception.InvalidInput, match=message):
        boot(flavor=samples.flavor(extra_specs=extra_specs))


def test_a_server_is_not_resized_to_another_isolation(driver, boot):
    server = boot()
    for specs in ({"docker:isolation": "shared"}, {"docker:net_admin": "false"}):
        with pytest.raises(exception.InstanceFaultRollback, match=next(iter(specs))):
            driver.migrate_disk_and_power_off(
                None,
                server.instance,
                driver.get_host_ip_addr(),
                samples.flavor(extra_specs=specs),
                server.network_info,
            )
    assert state(driver, server) == power_state.RUNNING


@pytest.fixture
def old_server(driver, boot, engine, monkeypatch):
    """A server as the earlier release has created it."""
    create = engine.client.create_container
    client = driver._client

    def without_isolation(name, config):
        del config["Labels"][isolation.LABEL]
        config["Env"] = [v for v in config["Env"] if "NOVA_ISOLATION" not in v]
        return create(name, config)

    with monkeypatch.context() as patched:
        patched.setattr(client, "create_container", without_isolation)
        return boot(flavor=flavor("shared"))


def test_a_server_of_an_earlier_release_runs_as_before(driver, old_server):
    server = old_server
    server.instance.flavor = samples.flavor()
    for verb in ("reboot", "power"):
        if verb == "reboot":
            driver.reboot(None, server.instance, server.network_info, "HARD")
        else:
            driver.power_off(server.instance)
            network.unplug(server.name)
            driver.power_on(None, server.instance, server.network_info)
        assert maps(server)[0][1] == 0
        assert "192.0.2.10/24" in server.run("ip addr show dev eth0")
    bigger = samples.flavor(memory_mb=128)
    driver.migrate_disk_and_power_off(
        None, server.instance, host.CONF.my_ip, bigger, server.network_info
    )


def test_a_pinned_user_namespace_is_joined_whatever_the_container_says(
    driver, old_server, engine
):
    server = old_server
    driver.power_off(server.instance)
    network.unplug(server.name)
    userns.pin(server.name, driver._host.engine_id, START, SIZE)
    network.plug(server.name, driver._host.engine_id, [], isolated=True)
    engine.client.start_container(server.name)
    assert base(server) == START


def test_parallel_boots_get_different_ids(driver, boot, nic, image):
    servers, failures = [], []
    given = image()
    deleted = boot(given)

    def delete():
        driver.destroy(None, deleted.instance, deleted.network_info)

    def create(number):
        address = f"192.0.2.{50 + number}"
        vif = nic(samples.subnet("192.0.2.0/24", address))
        try:
            servers.append(boot(given, [vif]))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(6)]
    threads.insert(3, threading.Thread(target=delete))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len({base(server) for server in servers}) == 6


def test_no_two_servers_share_a_range_however_fast_they_come_and_go(configuration):
    """Many more threads than ranges."""
    held, clashes, lock = set(), [], threading.Lock()

    def come_and_go(number):
        for _ in range(5):
            name = f"nova-race-{number}"
            try:
                first = userns.pin(name, "race", START, 6 * SIZE)
            except id_ranges.NoneLeft:
                continue
            with lock:
                if first in held:
                    clashes.append(first)
                held.add(first)
            with lock:
                held.discard(first)
            network.unplug(name)
            userns.release(name)

    threads = [threading.Thread(target=come_and_go, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in userns.owned_by("race"):
        network.unplug(name)
        userns.release(name)
    assert not clashes
    assert not [name for name in netns.listnetns() if name.startswith("nova-race-")]


def test_a_boot_fails_if_all_ids_are_in_use(driver, boot, configure):
    configure("subid_start", START)
    configure("subid_count", SIZE)
    server = boot()
    with pytest.raises(exception.VirtualInterfacePlugException, match="subid_count"):
        boot()
    assert base(server) == START


def test_a_wedged_server_keeps_its_ids_until_it_is_gone(
    driver, boot, engine, monkeypatch
):
    server = boot()
    first = base(server)
    server.instance.task_state = task_states.DELETING
    with monkeypatch.context() as patched:

        def hang(*args, **more):
            raise errors.Timeout("no answer")

        patched.setattr(driver._client, "remove_container", hang)
        patched.setattr(driver._client, "inspect_container", hang)
        driver.destroy(None, server.instance, server.network_info)
    driver.get_available_resource("test-host")
    assert userns.base_of(server.name) == first
    engine.client.remove_container(server.name)
    driver.get_available_resource("test-host")
    assert userns.base_of(server.name) is None


def test_what_a_killed_nova_compute_leaves_is_swept(driver, make_driver):
    owner = driver._host.engine_id
    half = f"nova-{samples.uuid()}"
    whole = f"nova-{samples.uuid()}"
    userns._write_owner(half, owner)
    pathlib.Path("/run/nova-docker/userns", half).touch()
    userns.pin(whole, owner, START, SIZE)
    network.plug(whole, owner, [], isolated=True)
    # A plain file where the namespace was to be is no obstacle.
    assert userns.pin(half, owner, START, 2 * SIZE) == START + SIZE
    make_driver()
    for name in (half, whole):
        assert userns.base_of(name) is None
        assert network.describe(name)[0] is None
        assert userns.owner_of(name) is None


def test_the_host_reports_what_it_has(driver):
    traits = driver._host.traits()
    assert traits["CUSTOM_DOCKER_ISOLATION_USER"]
    assert traits["CUSTOM_DOCKER_ISOLATION_SHARED"]


def test_a_runtime_of_an_earlier_release_is_noticed(configuration, driver, tmp_path):
    old = tmp_path / "nova-docker-runtime"
    old.write_text('#!/bin/sh\nexec runc "$@"\n')
    old.chmod(0o755)
    with pytest.raises(exception.NovaException, match="of an earlier release"):
        Isolation().connect(driver._host._info, {"path": str(old)})


def test_a_file_system_that_cannot_shift_ids_is_noticed(configuration):
    with pytest.raises(OSError, match="mount_setattr"):
        userns.probe("/proc", START)
