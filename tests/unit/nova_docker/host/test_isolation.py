# SPDX-License-Identifier: Apache-2.0
"""What a host must have to give servers a user namespace."""

from __future__ import annotations

import os

import pytest
from nova import conf as nova_conf
from nova import exception

from nova_docker import conf
from nova_docker.host import isolation
from nova_docker.privsep import contexts
from nova_docker.privsep import userns
from tests import samples

CONF = nova_conf.CONF
conf.register_opts(CONF)

INFO = {"Driver": "overlay2", "DockerRootDir": "/var/lib/docker"}


@pytest.fixture
def runtime(tmp_path):
    """Writes an OCI runtime: the script that it runs."""

    def write(script="echo user shared"):
        path = tmp_path / "runtime"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return {"path": str(path)}

    return write


@pytest.fixture
def probed(mocker):
    return mocker.patch.object(userns, "probe")


@pytest.fixture
def default():
    def override(level):
        CONF.set_override("isolation", level, "docker")

    yield override
    CONF.clear_override("isolation", "docker")


@pytest.fixture
def gvisor(tmp_path):
    """Returns /info of an engine with gVisor's runtime: the script that it runs."""

    def write(script='echo "gvisor runsc version 7"'):
        path = tmp_path / "gvisor"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return INFO | {"Runtimes": {"nova-gvisor": {"path": str(path)}}}

    return write


def test_a_host_that_can_has_all_levels(runtime, gvisor, probed, caplog):
    caplog.set_level("INFO")
    found = isolation.Isolation()
    found.connect(gvisor(), runtime())
    assert all(found.traits().values())
    assert "docker:isolation=gvisor, with runsc version 7" in caplog.text
    probed.assert_called_once_with("/var/lib/docker", CONF.docker.subid_start)
    found.refuse(samples.flavor())


@pytest.mark.parametrize(
    ("info", "script", "reason"),
    [
        ({"Driver": "vfs"}, "echo user", "storage driver is vfs"),
        ({"SecurityOptions": ["name=seccomp", "name=userns"]}, "echo user", "remap"),
        ({"SecurityOptions": ["name=rootless"]}, "echo user", "is rootless"),
        ({}, 'echo "unknown command" >&2; exit 1', "of an earlier release"),
        ({}, "kill -9 $$", "of an earlier release"),
    ],
)
def test_an_engine_that_cannot_keeps_nova_compute_from_starting(
    runtime, probed, info, script, reason
):
    with pytest.raises(exception.NovaException, match=reason) as error:
        isolation.Isolation().connect(INFO | info, runtime(script))
    assert "[docker]isolation = shared" in str(error.value)
    probed.assert_not_called()


def test_a_kernel_that_cannot_keeps_nova_compute_from_starting(runtime, probed):
    probed.side_effect = OSError(22, "mount_setattr: Invalid argument")
    with pytest.raises(exception.NovaException, match=r"Linux 5\.19.*mount_setattr"):
        isolation.Isolation().connect(INFO, runtime())


def test_a_missing_runtime_is_named(probed):
    with pytest.raises(exception.NovaException, match="/missing does not run"):
        isolation.Isolation().connect(INFO, {"path": "/missing"})


def test_the_user_of_nova_compute_must_be_one_of_a_servers(
    runtime, probed, monkeypatch
):
    monkeypatch.setattr(os, "getuid", lambda: 65536)
    with pytest.raises(exception.NovaException, match="config drives"):
        isolation.Isolation().connect(INFO, runtime())


def test_only_the_configured_level_is_necessary(runtime, probed, default, caplog):
    caplog.set_level("INFO")
    default("shared")
    found = isolation.Isolation()
    found.connect(INFO | {"Driver": "vfs"}, runtime())
    assert "No server can have docker:isolation=user" in caplog.text
    assert not found.traits()["CUSTOM_DOCKER_ISOLATION_USER"]
    found.refuse(samples.flavor())
    with pytest.raises(exception.InvalidInput, match="storage driver is vfs"):
        found.refuse(samples.flavor(extra_specs={"docker:isolation": "user"}))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "no OCI runtime 'nova-gvisor'"),
        ("echo too old >&2; exit 1", "too old"),
        ("echo user shared", "is not nova-docker-gvisor"),
    ],
)
def test_gvisor_is_optional_unless_it_is_the_default(
    runtime, gvisor, probed, default, script, reason
):
    info = INFO if script is None else gvisor(script)
    found = isolation.Isolation()
    found.connect(info, runtime())
    assert not found.traits()["CUSTOM_DOCKER_ISOLATION_GVISOR"]
    with pytest.raises(exception.InvalidInput, match=reason):
        found.refuse(samples.flavor(extra_specs={"docker:isolation": "gvisor"}))
    found.refuse(samples.flavor())
    default("gvisor")
    with pytest.raises(exception.NovaException, match=reason):
        found.connect(info, runtime())


def test_gvisor_does_not_go_with_dockers_bridge(runtime, gvisor, probed):
    CONF.set_override("network_mode", "bridge", "docker")
    try:
        found = isolation.Isolation()
        found.connect(gvisor(), runtime())
    finally:
        CONF.clear_override("network_mode", "docker")
    assert not found.traits()["CUSTOM_DOCKER_ISOLATION_GVISOR"]


def test_ids_that_others_have_are_reported(
    runtime, probed, monkeypatch, tmp_path, caplog
):
    subuid = tmp_path / "subuid"
    monkeypatch.setattr(isolation, "_SUBIDS", (str(subuid), "/missing"))
    first = CONF.docker.subid_start
    for lines, reported in (
        (f"alice:{first}:65536\n# comment\n", True),
        (f"alice:{first - 65536}:65536\nbob:x:y\n\n", False),
    ):
        caplog.clear()
        subuid.write_text(lines)
        isolation.Isolation().connect(INFO, runtime())
        assert (f"{subuid} of alice" in caplog.text) == reported


def test_the_other_daemons_start_as_the_first_unless_configured():
    sections = (
        contexts.netns_admin.cfg_section,
        contexts.userns_admin.cfg_section,
        contexts.devices_admin.cfg_section,
        contexts.shares_admin.cfg_section,
        contexts.filesystems_admin.cfg_section,
        "privsep_osbrick",
    )
    CONF.set_override("helper_command", "sudo x", contexts.netns_admin.cfg_section)
    try:
        contexts.configure()
        assert {CONF[name].helper_command for name in sections} == {"sudo x"}
    finally:
        CONF.clear_override("helper_command", contexts.netns_admin.cfg_section)
        contexts.configure()


@pytest.mark.parametrize(
    ("level", "wanted", "reason"),
    [
        ("user", None, None),
        ("user", "shared", None),
        ("shared", None, "less than its"),
        ("shared", "gvisor", "less than its"),
        ("user", "gvisor", "less than its"),
        ("gvisor", "gvisor", "cannot run docker:isolation=gvisor: no gVisor"),
    ],
)
def test_a_server_of_another_host_is_isolated_as_its_flavor_says(level, wanted, reason):
    host = isolation.Isolation()
    host._missing["gvisor"] = "no gVisor"
    specs = {"docker:isolation": wanted} if wanted else {}
    found = host.why_not(level, samples.flavor(extra_specs=specs))
    assert (reason is None and found is None) or reason in found
