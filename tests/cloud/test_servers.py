# SPDX-License-Identifier: Apache-2.0
"""Booting, stopping, rebooting and rebuilding servers."""

from __future__ import annotations

import time

import pytest
from openstack import exceptions

from cloud import images
from nova_docker.container.naming import name_of
from tests import archives
from tests.cloud.cloud import nova_compute
from tests.cloud.conftest import eventually


def shell_image(script):
    return archives.busybox_archive(config={"Entrypoint": ["sh", "-c", script]})


def test_a_server_boots_and_has_an_address(boot, engine):
    server = boot()
    assert f"inet {server.address()}/24" in server.run("ip -o addr show dev eth0")
    container = engine.inspect_container(name_of(server.id))
    assert container["Config"]["Labels"]["org.openstack.nova.uuid"] == server.id
    assert container["HostConfig"]["Memory"] == 64 * 2**20


def test_a_server_can_have_no_network(boot):
    server = boot(networks="none")
    assert server.run("ls /sys/class/net") == "lo\n"


def test_the_console_log_shows_the_output(boot, upload):
    script = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i; done; exec cat"
    image = upload(shell_image(script))
    server = boot(image)
    assert eventually(lambda: "line 50" in server.console())
    assert server.console(2).split() == ["line", "49", "line", "50"]
    assert server.console().startswith("line 1\n")


def test_stop_and_start_keep_the_address(boot):
    server = boot()
    before = server.run("ip -o addr show dev eth0 | grep -w inet")
    server.act("stop_server", until="SHUTOFF")
    server.act("start_server", until="ACTIVE")
    assert server.run("ip -o addr show dev eth0 | grep -w inet") == before


@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
def test_a_reboot_starts_a_new_process_with_the_same_nic(boot, upload, engine, kind):
    # It exits on SIGTERM: the API cannot shorten Nova's shutdown timeout.
    script = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    image = upload(shell_image(script))
    server = boot(image)

    def process():
        return engine.inspect_container(name_of(server.id))["State"]["Pid"]

    before = process()
    server.act("reboot_server", kind, until="ACTIVE")
    assert process() not in (0, before)
    assert server.address() in server.run("ip -o addr show dev eth0")


def test_a_server_whose_first_process_exits_is_shut_off_at_once(boot, engine):
    server = boot()
    engine.kill_container(name_of(server.id))
    begun = time.monotonic()
    eventually(lambda: server.status == "SHUTOFF", timeout=10, interval=0.05)
    assert server.status == "SHUTOFF"
    # Nova's periodic power state synchronization only runs every ten minutes.
    assert time.monotonic() - begun < 5


def test_a_rebuilt_server_keeps_its_address(boot, demo):
    server = boot()
    before = server.address()
    image = demo.image.find_image(images.BUSYBOX).id
    demo.compute.rebuild_server(server.id, image=image)
    eventually(lambda: server.status == "ACTIVE" and not server.show().task_state)
    assert server.address() == before
    assert before in server.run("ip -o addr show dev eth0")


@pytest.mark.parametrize(
    ("content", "values", "reason"),
    [
        (b"not an archive" * 99, {}, "archive"),
        (b"raw bytes" * 99, {"container_format": "bare"}, "container_format"),
        (
            archives.busybox_archive(),
            {"properties": {"os_command_line": "/no/such/command"}},
            "/no/such/command",
        ),
    ],
)
def test_the_fault_tells_why_an_image_is_refused(boot, upload, content, values, reason):
    server = boot(upload(content, **values), until="ERROR")
    assert reason in server.show().fault["message"]


def test_an_archive_cannot_take_the_name_of_a_local_image(boot, upload, engine):
    names = {tag for image in engine.list_images() for tag in image["RepoTags"] or []}
    # Docker's tag of an image without a name.
    names.discard("<none>:<none>")
    image = upload(archives.busybox_archive(tags=["debian:latest", *names]))
    before = {name: engine.inspect_image(name)["Id"] for name in names}
    boot(image)
    assert {name: engine.inspect_image(name)["Id"] for name in names} == before
    assert not engine.list_images({"reference": ["debian:latest"]})


def test_quotas_are_enforced(admin, demo, boot):
    project = demo.current_project_id
    limit = len(list(demo.compute.servers())) + 1
    admin.compute.update_quota_set(project, instances=limit)
    try:
        boot()
        with pytest.raises(exceptions.ForbiddenException, match="Quota exceeded"):
            boot()
    finally:
        admin.compute.revert_quota_set(project)


def test_killing_nova_compute_during_a_boot_loses_no_server(boot, admin):
    steady = boot()
    interrupted = boot(until=None)
    time.sleep(0.5)
    compute = nova_compute()
    compute.kill()
    assert eventually(lambda: nova_compute(other_than=compute.pid))
    assert eventually(lambda: interrupted.status in ("ACTIVE", "ERROR"))
    assert steady.status == "ACTIVE"
    assert steady.address() in steady.run("ip -o addr show dev eth0")
    assert boot().status == "ACTIVE"


def test_nova_compute_does_not_run_as_root():
    assert nova_compute().username() == "nova"


def test_the_host_reports_the_resources_of_the_engine(admin, engine):
    [host] = [
        found
        for found in admin.compute.hypervisors(details=True)
        if found.hypervisor_type == "docker"
    ]
    provider = admin.placement.find_resource_provider(host.name)
    inventory = {
        found.resource_class: found.total
        for found in admin.placement.resource_provider_inventories(provider)
    }
    info = engine.info()
    assert inventory["VCPU"] == info["NCPU"]
    assert inventory["MEMORY_MB"] == info["MemTotal"] // 2**20
    assert inventory["DISK_GB"] > 0
    answer = admin.placement.get(
        f"/resource_providers/{provider.id}/traits",
        headers={"OpenStack-API-Version": "placement 1.6"},
    )
    traits = set(answer.json()["traits"])
    assert {"COMPUTE_IMAGE_TYPE_RAW", "COMPUTE_VOLUME_MULTI_ATTACH"} <= traits
    assert "COMPUTE_IMAGE_TYPE_QCOW2" not in traits
