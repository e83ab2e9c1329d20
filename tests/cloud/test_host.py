# SPDX-License-Identifier: Apache-2.0
"""The host in Nova and Placement, and requests that it refuses."""

from __future__ import annotations

import json

import os_traits
import psutil
import pytest

from cloud import databases
from nova_docker.host import cpu
from tests import archives
from tests.cloud.cloud import nova_compute
from tests.cloud.conftest import eventually

PLACEMENT = {"OpenStack-API-Version": "placement 1.6"}
NO_HOST = "No valid host was found"


@pytest.fixture
def host(admin):
    return next(
        found
        for found in admin.compute.hypervisors(details=True)
        if found.hypervisor_type == "docker"
    )


class Traits:
    """The traits of a host's resource provider."""

    def __init__(self, admin, host):
        self._api = admin.placement
        provider = self._api.find_resource_provider(host.name)
        self._url = f"/resource_providers/{provider.id}/traits"

    def __call__(self):
        return set(self._body()["traits"])

    def replace(self, traits):
        body = self._body() | {"traits": sorted(traits)}
        self._api.put(self._url, json=body, headers=PLACEMENT).raise_for_status()

    def _body(self):
        return self._api.get(self._url, headers=PLACEMENT).json()


@pytest.fixture
def traits(admin, host):
    return Traits(admin, host)


@pytest.fixture
def custom_trait(admin, traits):
    name = "CUSTOM_NOVA_DOCKER_TEST"
    url = f"/traits/{name}"
    admin.placement.put(url, headers=PLACEMENT).raise_for_status()
    yield name
    traits.replace(traits() - {name})
    admin.placement.delete(url, headers=PLACEMENT).raise_for_status()


def test_cpu_traits_are_restored_and_custom_traits_kept(traits, custom_trait):
    wanted = cpu.traits(cpu.describe("x86_64"))
    expected = {name for name, has in wanted.items() if has}
    traits.replace(
        traits() - {os_traits.HW_CPU_X86_SSE2, os_traits.HW_ARCH_X86_64}
        | {os_traits.HW_CPU_X86_3DNOW, custom_trait}
    )
    # nova-compute updates Placement when it starts.
    nova_compute().kill()
    assert eventually(lambda: expected == traits() & set(wanted))
    assert custom_trait in traits()


def test_required_traits_select_the_host(boot, flavor):
    matching = flavor({f"trait:{os_traits.HW_ARCH_X86_64}": "required"})
    boot(flavor=matching, networks="none")
    other = flavor({f"trait:{os_traits.HW_ARCH_AARCH64}": "required"})
    server = boot(flavor=other, networks="none", until="ERROR")
    assert NO_HOST in server.show().fault["message"]


def test_the_hypervisor_shows_cpu_address_and_uptime(admin, host):
    # Later microversions have no cpu_info.
    details = admin.compute.get(f"/os-hypervisors/{host.id}", microversion="2.53")
    info = details.json()["hypervisor"]["cpu_info"]
    assert info["arch"] == "x86_64" and "sse2" in info["features"]
    topology = info["topology"]
    count = topology["sockets"] * topology["cores"] * topology["threads"]
    assert count == psutil.cpu_count()
    assert host.host_ip == "127.0.0.1"
    assert " up " in host.uptime and "load average" in host.uptime


def test_cpu_use_of_the_host_is_measured():
    """Nova's CPU monitor writes the metrics to the database; no API shows them."""

    def metrics():
        query = f"SELECT metrics FROM {database}.compute_nodes WHERE {where}"
        [[found]] = databases.sql(query)
        return {item["name"]: item["value"] for item in json.loads(found or "[]")}

    database, where = "nova_cell1", "hypervisor_type = 'docker' AND deleted = 0"
    # nova-compute updates them once a minute, with the host's resources.
    assert eventually(lambda: "cpu.percent" in metrics())
    found = metrics()
    assert 0 <= found["cpu.percent"] <= 1
    assert found["cpu.frequency"] > 0 and found["cpu.idle.time"] > 0


def test_a_disabled_host_gets_no_new_servers_and_keeps_its_own(
    admin, boot, host, traits
):
    before = boot(networks="none")
    [service] = admin.compute.services(
        binary="nova-compute", host=host.service_details["host"]
    )
    admin.compute.disable_service(service, disabled_reason="test")
    try:
        assert eventually(lambda: os_traits.COMPUTE_STATUS_DISABLED in traits())
        refused = boot(networks="none", until="ERROR")
        assert NO_HOST in refused.show().fault["message"]
        assert before.status == "ACTIVE"
    finally:
        admin.compute.enable_service(service)
    assert eventually(lambda: os_traits.COMPUTE_STATUS_DISABLED not in traits())
    boot(networks="none")


@pytest.mark.parametrize("action", ["reboot", "shutdown", "startup"])
def test_nova_cannot_change_the_power_state_of_the_host(admin, host, action):
    answer = admin.compute.get(
        f"/os-hosts/{host.service_details['host']}/{action}", microversion="2.42"
    )
    assert answer.status_code == 501


def test_there_is_no_maintenance_mode(admin, host):
    answer = admin.compute.put(
        f"/os-hosts/{host.service_details['host']}",
        json={"maintenance_mode": "enable"},
        microversion="2.42",
    )
    assert answer.status_code == 501


@pytest.mark.parametrize(
    ("protocol", "console"),
    [
        ("vnc", "novnc"),
        ("spice", "spice-html5"),
        ("rdp", "rdp-html5"),
        ("mks", "webmks"),
    ],
)
def test_graphical_consoles_are_refused(boot, demo, protocol, console):
    server = boot(networks="none")
    answer = demo.compute.post(
        f"/servers/{server.id}/remote-consoles",
        json={"remote_console": {"protocol": protocol, "type": console}},
        microversion="2.8",
    )
    assert answer.status_code == 400
    assert server.status == "ACTIVE"


UEFI = {"hw_firmware_type": "uefi"}


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        # Nova requires a trait for these.
        ({"hw_vif_model": "e1000"}, NO_HOST),
        ({"hw_disk_bus": "virtio"}, NO_HOST),
        ({"hw_video_model": "virtio"}, NO_HOST),
        ({**UEFI, "os_secure_boot": "required"}, NO_HOST),
        ({**UEFI, "hw_firmware_stateless": "true"}, NO_HOST),
        ({**UEFI, "hw_machine_type": "q35", "hw_mem_encryption": "true"}, NO_HOST),
        ({"hw_tpm_version": "2.0", "hw_tpm_model": "tpm-crb"}, NO_HOST),
        # Nova's scheduler filters reject these.
        ({"hw_architecture": "aarch64"}, NO_HOST),
        ({"img_hv_type": "kvm"}, NO_HOST),
        # Nova leaves these to the driver.
        ({"hw_numa_nodes": "1"}, "hw_numa_nodes=1 (image)"),
        (UEFI, "hw_firmware_type=uefi (image)"),
        ({"hw_machine_type": "q35"}, "hw_machine_type=q35 (image)"),
    ],
)
def test_an_image_for_virtual_machines_is_refused(boot, upload, properties, reason):
    image = upload(archives.busybox_archive(), properties=properties)
    server = boot(image, networks="none", until="ERROR")
    assert reason in server.show().fault["message"]


@pytest.mark.parametrize(
    ("extra_specs", "reason"),
    [
        ({"os:secure_boot": "required"}, NO_HOST),
        ({"hw:tpm_version": "2.0", "hw:tpm_model": "tpm-tis"}, NO_HOST),
        ({"hw:cpu_policy": "dedicated"}, NO_HOST),
        ({"hw:mem_page_size": "large"}, NO_HOST),
        ({"hw:watchdog_action": "reset"}, "hw:watchdog_action=reset (flavor)"),
    ],
)
def test_a_flavor_for_virtual_machines_is_refused(boot, flavor, extra_specs, reason):
    server = boot(flavor=flavor(extra_specs), networks="none", until="ERROR")
    assert reason in server.show().fault["message"]


@pytest.mark.parametrize("kind", ["direct", "macvtap", "vdpa", "remote-managed"])
def test_a_port_that_needs_a_device_is_refused(admin, demo, boot, kind):
    port = admin.network.create_port(
        network_id=admin.network.find_network("private").id,
        project_id=demo.current_project_id,
        binding_vnic_type=kind,
    )
    try:
        server = boot(networks=[{"port": port.id}], until="ERROR")
        assert NO_HOST in server.show().fault["message"]
    finally:
        admin.network.delete_port(port)
