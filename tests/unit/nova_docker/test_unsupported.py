# SPDX-License-Identifier: Apache-2.0
"""Requests that a container cannot fulfil are refused by name."""

from __future__ import annotations

import re

import pytest
from nova import exception

from nova_docker import unsupported
from tests import samples


@pytest.mark.parametrize(
    "properties",
    [
        {"hw_firmware_type": "uefi"},
        {"hw_firmware_stateless": "true"},
        {"os_secure_boot": "required"},
        {"hw_tpm_version": "2.0", "hw_tpm_model": "tpm-crb"},
        {"hw_mem_encryption": "true"},
        {"hw_machine_type": "q35"},
        {"hw_disk_bus": "virtio"},
        {"hw_vif_model": "e1000"},
        {"hw_video_model": "virtio"},
        {"hw_mem_page_size": "large"},
        {"hw_numa_nodes": "2"},
        {"hw_watchdog_action": "reset"},
    ],
)
def test_hardware_properties_of_an_image_are_refused_by_name(properties):
    image_meta = samples.image_meta(properties=properties)
    with pytest.raises(exception.InvalidInput) as refused:
        unsupported.refuse(samples.flavor(), image_meta)
    for name in properties:
        assert re.search(rf"\b{name}=\S+ \(image\)", str(refused.value))


@pytest.mark.parametrize(
    "extra_specs",
    [
        {"hw:cpu_realtime": "yes"},
        {"hw:mem_page_size": "large"},
        {"hw:numa_nodes": "1"},
        {"hw:tpm_version": "2.0"},
        {"hw:mem_encryption": "True"},
        {"os:secure_boot": "required"},
        {"pci_passthrough:alias": "gpu:1"},
        {"accel:device_profile": "fpga"},
        {"quota:disk_total_bytes_sec": "1000"},
        {"quota:disk_write_iops_sec": "1000"},
        {"quota:memory_limit": "100"},
        {"quota:vif_inbound_average": "1000"},
    ],
)
def test_hardware_extra_specs_of_a_flavor_are_refused_by_name(extra_specs):
    flavor = samples.flavor(extra_specs=extra_specs)
    [(name, value)] = extra_specs.items()
    with pytest.raises(exception.InvalidInput, match=f"{name}={value} "):
        unsupported.refuse(flavor, samples.image_meta())


def test_requests_that_a_container_fulfils_are_accepted():
    image_meta = samples.image_meta(
        properties={
            "hw_architecture": "x86_64",
            "hw_vm_mode": "exe",
            "hw_qemu_guest_agent": "yes",
            "hw_cpu_policy": "dedicated",
            "hw_watchdog_action": "disabled",
            "hw_boot_menu": "false",
            "os_secure_boot": "optional",
            "os_distro": "debian",
            "os_command_line": "true",
            "img_hv_type": "docker",
        }
    )
    flavor = samples.flavor(
        extra_specs={
            "hw:cpu_policy": "dedicated",
            "hw:cpu_dedicated_mask": "0",
            "hw:cpu_thread_policy": "require",
            "hw_rng:allowed": "True",
            "quota:cpu_shares": "2048",
            "quota:disk_total_iops_sec": "0",
            "trait:CUSTOM_FAST": "required",
            "resources:VCPU": "1",
        }
    )
    unsupported.refuse(flavor, image_meta)
