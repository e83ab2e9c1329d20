# SPDX-License-Identifier: Apache-2.0
"""Two compute hosts: traffic between their servers, moves, and a host that is lost."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess

import pytest

from cloud import supervisor
from cloud.hosts.host import Host
from tests.cloud import cloud
from tests.cloud import outages
from tests.cloud import services
from tests.cloud.conftest import eventually
from tests.cloud.test_network import FETCH
from tests.cloud.test_network import SERVE

FIRST, SECOND = Host(1), Host(2)
MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def two_hosts(the_cloud):
    cloud.up("--hosts", "2")
    yield
    cloud.up("--hosts", "1")


@pytest.fixture
def only(admin):
    """Has new servers go to one host during a block."""
    compute = admin.compute

    @contextlib.contextmanager
    def block(host):
        [other] = [
            service
            for service in compute.services(binary="nova-compute")
            if service.host in (FIRST.name, SECOND.name) and service.host != host.name
        ]
        compute.disable_service(other)
        try:
            yield
        finally:
            compute.enable_service(other)

    return block


@pytest.fixture
def boot_on(boot, only):
    def create(host, **values):
        with only(host):
            return boot(**values)

    return create


@pytest.fixture
def move(admin):
    """Moves a server to another host, and waits until its user may confirm that."""

    def to(server, host):
        admin.compute.migrate_server(server.id, host=host.name)
        eventually(lambda: server.status in ("VERIFY_RESIZE", "ERROR"))
        assert server.status == "VERIFY_RESIZE"

    return to


@pytest.fixture
def container():
    """Returns the state of a server's container on a host, None if there is none."""

    def of(host, server):
        found = docker(host, "inspect", f"nova-{server.id}", check=False).stdout
        return next(iter(json.loads(found or "[]")), {}).get("State", {}).get("Status")

    return of


def docker(host, *words, check=True):
    return subprocess.run(
        ["docker", *words],
        env=os.environ | {"DOCKER_HOST": f"unix://{host.engine}"},
        check=check,
        capture_output=True,
        text=True,
        timeout=120,
    )


def run(host, server, script):
    return docker(host, "exec", f"nova-{server.id}", "sh", "-c", script).stdout


def settled(server):
    return not server.show().task_state


def confirm(server):
    server.user.compute.confirm_server_resize(server.id)
    eventually(lambda: server.status == "ACTIVE" and settled(server))


def revert(server):
    server.user.compute.revert_server_resize(server.id)
    eventually(lambda: server.status == "ACTIVE" and settled(server))


def attach(demo, server, disk, host):
    demo.compute.create_volume_attachment(server.id, volume_id=disk.id)
    disk.until("in-use")
    run(host, server, "printf kept | dd of=/dev/vdb conv=fsync,notrunc")


def on_volume(host, server):
    return run(host, server, "dd if=/dev/vdb bs=4 count=1")


def test_servers_on_two_hosts_reach_each_other_where_security_groups_let_them(boot_on):
    web, client = boot_on(SECOND), boot_on(FIRST)
    run(SECOND, web, "mkdir -p /tmp; " + SERVE.format(port=80))

    def fetched():
        script = FETCH.format(address=web.address(), port=80)
        return client.run(script, check=False).endswith("hello\n")

    assert eventually(fetched)
    web.user.compute.remove_security_group_from_server(web.id, "default")
    assert eventually(lambda: not fetched(), timeout=30)


def test_a_server_moves_with_what_it_has(volume, boot_on, move, container, demo):
    disk = volume()
    server = boot_on(FIRST, config_drive=True)
    address = server.address()
    server.run("echo text > /written; rm /etc/passwd; chown 1000:5 /written")
    attach(demo, server, disk, FIRST)
    move(server, SECOND)
    state = run(SECOND, server, "stat -c %u:%g /written; cat /written; ls /etc")
    assert state.startswith("1000:5\ntext\n") and "passwd" not in state
    assert on_volume(SECOND, server) == "kept"
    drive = run(SECOND, server, "cat /var/lib/cloud/seed/config_drive/*/latest/meta*")
    assert server.id in drive
    assert address in run(SECOND, server, "ip -4 address show dev eth0")
    confirm(server)
    assert (container(FIRST, server), container(SECOND, server)) == (None, "running")


def test_a_move_is_reverted(volume, boot_on, move, container, demo):
    disk = volume()
    server = boot_on(FIRST)
    server.run("echo before > /file")
    attach(demo, server, disk, FIRST)
    move(server, SECOND)
    run(SECOND, server, "echo after > /file; printf more | dd of=/dev/vdb conv=notrunc")
    revert(server)
    assert server.run("cat /file") == "before\n"
    # There is one volume.
    assert on_volume(FIRST, server) == "more"
    assert container(SECOND, server) is None


def test_a_resize_moves_a_server_if_it_has_to(boot_on, only, flavor, demo):
    server = boot_on(FIRST)
    server.run("echo text > /file")
    with only(SECOND):
        demo.compute.resize_server(
            server.id, demo.compute.find_flavor(flavor(ram=128)).id
        )
        eventually(lambda: server.status in ("VERIFY_RESIZE", "ERROR"))
    assert run(SECOND, server, "cat /file") == "text\n"
    confirm(server)
    found = docker(SECOND, "inspect", f"nova-{server.id}").stdout
    assert json.loads(found)[0]["HostConfig"]["Memory"] == 128 * MIB


def test_a_stopped_server_moves_and_stays_stopped(boot_on, move, container):
    server = boot_on(FIRST)
    server.run("echo text > /file")
    server.act("stop_server", until="SHUTOFF")
    move(server, SECOND)
    assert container(SECOND, server) in ("created", "exited")
    server.user.compute.confirm_server_resize(server.id)
    eventually(lambda: server.status == "SHUTOFF" and settled(server))
    server.act("start_server", until="ACTIVE")
    assert run(SECOND, server, "cat /file") == "text\n"


def test_a_server_that_cannot_be_sent_is_not_stopped(boot_on, admin):
    server = boot_on(FIRST)
    process = server.run("cat /proc/1/stat").split()[21]
    name = SECOND.service("sshd")
    supervisor.stop(name)
    try:
        admin.compute.migrate_server(server.id, host=SECOND.name)
        eventually(lambda: failed_moves(admin, server))
    finally:
        services.start(name)
    eventually(lambda: settled(server))
    assert server.status == "ACTIVE"
    assert server.run("cat /proc/1/stat").split()[21] == process


def failed_moves(admin, server):
    found = admin.compute.migrations(instance_uuid=server.id)
    return [each for each in found if each.status == "error"]


def test_a_server_runs_on_if_the_other_nova_compute_ends_while_it_receives(
    boot_on, admin, container
):
    server = boot_on(FIRST)
    server.run(f"echo text > /file; dd if=/dev/urandom of=/large bs={MIB} count=300")
    arriving = SECOND.data / "docker/nova-docker-arriving" / f"nova-{server.id}"
    admin.compute.migrate_server(server.id, host=SECOND.name)
    assert eventually(lambda: arriving.exists(), interval=0.01)
    outages.kill(SECOND.service("nova-compute"))
    assert eventually(lambda: failed_moves(admin, server))
    eventually(lambda: settled(server))
    assert server.status == "ACTIVE"
    assert server.run("cat /file") == "text\n"
    assert eventually(lambda: not arriving.exists())
    assert container(SECOND, server) is None


def test_a_server_leaves_a_lost_host_with_its_volume(
    volume, boot_on, admin, container, demo
):
    disk = volume()
    server = boot_on(SECOND)
    address = server.address()
    run(SECOND, server, "echo text > /file")
    attach(demo, server, disk, SECOND)
    quickstart("host", "kill", SECOND.name)
    try:
        force(admin, down=True)
        admin.compute.evacuate_server(server.id)
        eventually(lambda: evacuated(admin, server))
        # As of version 2.95 of the API, Nova leaves it stopped.
        if server.status == "SHUTOFF":
            server.act("start_server", until="ACTIVE")
        assert on_volume(FIRST, server) == "kept"
        assert address in server.run("ip -4 address show dev eth0")
        # What it wrote to its root disk was on the host.
        assert not server.run("cat /file 2>/dev/null || :")
    finally:
        quickstart("host", "start", SECOND.name)
        force(admin, down=False)
    assert container(SECOND, server) is None
    assert container(FIRST, server) == "running"


def evacuated(admin, server):
    found = admin.compute.get_server(server.id)
    return found.compute_host == FIRST.name and not found.task_state


def force(admin, *, down):
    compute = admin.compute
    [service] = compute.services(binary="nova-compute", host=SECOND.name)
    compute.update_service_forced_down(service, forced=down)
    wanted = "down" if down else "up"
    assert eventually(
        lambda: (
            [
                service.state
                for service in compute.services(binary="nova-compute", host=SECOND.name)
            ]
            == [wanted]
        )
    )


def test_a_host_with_servers_is_not_removed(boot_on):
    server = boot_on(SECOND)
    done = subprocess.run(
        [cloud.QUICKSTART, "up", "--hosts", "1"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"{SECOND.name} has servers" in done.stderr
    assert run(SECOND, server, "echo runs") == "runs\n"


def quickstart(*words):
    subprocess.run([cloud.QUICKSTART, *words], check=True)
