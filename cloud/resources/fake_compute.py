# SPDX-License-Identifier: Apache-2.0
"""A nova-compute with Nova's fake driver, for benchmarks."""

from __future__ import annotations

import platform
from typing import Any

import openstack

from cloud import settings
from cloud.probes import wait_until
from cloud.resources.compute import wait_for_host
from cloud.resources.connection import connect
from cloud.resources.connection import find_or_create

FAKE_TRAIT = "CUSTOM_FAKE_COMPUTE"


def forget() -> None:
    """Delete the service record of an earlier fake nova-compute.

    The fake driver does not keep its node's UUID, and Nova refuses to start a
    known nova-compute that has lost its UUID.
    """
    compute = connect().compute
    for service in compute.services(binary="nova-compute", host=settings.FAKE_HOST):
        compute.delete_service(service)


def create() -> None:
    """Reserve the fake nova-compute for servers of the flavor ``fake.tiny``.

    It gets an availability zone, and a trait that only this flavor requires. Images
    require the host's architecture as a trait, which Nova's fake driver does not
    report.
    """
    cloud = connect()
    host = settings.FAKE_HOST
    wait_for_host(host, "nova-compute-fake")

    def provider() -> Any:
        found = cloud.placement.resource_providers(name=host)
        return next(iter(found), None)

    found = wait_until(provider, f"Placement has no resource provider {host}")
    headers = {"OpenStack-API-Version": "placement 1.6"}
    cloud.placement.put(f"/traits/{FAKE_TRAIT}", headers=headers).raise_for_status()
    url = f"/resource_providers/{found.id}/traits"
    body = cloud.placement.get(url, headers=headers).json()
    architecture = f"HW_ARCH_{platform.machine().upper()}"
    body["traits"] = sorted({*body["traits"], FAKE_TRAIT, architecture})
    cloud.placement.put(url, json=body, headers=headers).raise_for_status()
    compute = cloud.compute
    aggregate = find_or_create(
        compute.find_aggregate,
        compute.create_aggregate,
        "fake",
        availability_zone="fake",
    )
    required = {f"trait:{FAKE_TRAIT}": "required"}
    compute.set_aggregate_metadata(aggregate, required)
    if host not in (aggregate.hosts or []):
        # Nova does not find the host until it is mapped to its cell.
        wait_until(
            lambda: _add_to_aggregate(compute, aggregate, host),
            f"Nova does not know the host {host}",
        )
    if not compute.find_flavor("fake.tiny"):
        flavor = compute.create_flavor(name="fake.tiny", vcpus=1, ram=64, disk=1)
        compute.create_flavor_extra_specs(flavor, required)


def _add_to_aggregate(compute: Any, aggregate: Any, host: str) -> bool:
    try:
        compute.add_host_to_aggregate(aggregate, host)
    except openstack.exceptions.NotFoundException:
        return False
    return True
