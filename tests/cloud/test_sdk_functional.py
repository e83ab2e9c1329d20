# SPDX-License-Identifier: Apache-2.0
"""The functional tests of Compute that openstacksdk itself brings along."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from cloud import images
from tests.cloud import cloud

TESTS = "openstack.tests.functional.compute.v2"
# Those of images are left out: they remove the properties of the first image that they
# find, by which the cloud knows its own.
MODULES = (
    "extension",
    "flavor",
    "hypervisor",
    "keypair",
    "limits",
    "quota_set",
    "server",
    "service",
    "volume_attachment",
)
LEFT_OUT = {
    # A container has no graphical console.
    "TestServer.test_server_remote_console",
    # It boots from a volume.
    "TestServerAdmin.test_server",
}


@pytest.fixture
def environment(tmp_path):
    """That of the tests: clouds with the names that they use, and no other tests'."""
    file = pathlib.Path(cloud.environment()["OS_CLIENT_CONFIG_FILE"])
    clouds = json.loads(file.read_text())["clouds"]
    system = json.loads(json.dumps(clouds["admin"]))
    for name in ("project_name", "project_domain_name"):
        del system["auth"][name]
    system["auth"]["system_scope"] = "all"
    file = tmp_path / "clouds.yaml"
    names = {
        "devstack": clouds["demo"],
        "devstack-alt": clouds["demo"],
        "devstack-admin": clouds["admin"],
        "devstack-system-admin": system,
    }
    file.write_text(json.dumps({"clouds": names}))
    others = {k: v for k, v in os.environ.items() if not k.startswith("OS_")}
    return others | {
        "OS_CLIENT_CONFIG_FILE": str(file),
        "OS_TEST_TIMEOUT": "300",
        "OPENSTACKSDK_FLAVOR": "docker.tiny",
        "OPENSTACKSDK_IMAGE": images.DEBIAN,
    }


def test_the_sdks_own_tests_of_compute_pass(environment):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "unittest", "-v"),
            *(f"{TESTS}.test_{module}" for module in MODULES),
        ],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    bad = set(re.findall(r"(?m)^(?:ERROR|FAIL): \S+ \(\S+\.(\w+\.\w+)\)$", done.stdout))
    assert bad == LEFT_OUT, done.stdout
    [(ran, rest)] = re.findall(r"(?ms)^Ran (\d+) tests in \S+$\s+(.*)\Z", done.stdout)
    assert int(ran) >= 15
    assert rest.strip() == f"FAILED (errors={len(LEFT_OUT)})"
