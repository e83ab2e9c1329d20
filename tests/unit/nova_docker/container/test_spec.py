# SPDX-License-Identifier: Apache-2.0
"""The specification of a server's container."""

from __future__ import annotations

import pytest
from nova import exception

from nova_docker.container import spec
from tests import samples


def config(instance=None, image_meta=None, **values):
    return spec.specification(
        instance or samples.instance(),
        image_meta or samples.image_meta(),
        "sha256:1234",
        **{
            "nameservers": [],
            "address": None,
            "level": "user",
            "limits": {},
            "runtime": "nova",
            "network_mode": "none",
            "log_size_mb": 10,
        }
        | values,
    )


@pytest.mark.parametrize(
    ("hostname", "seen"),
    [
        ("web", "web"),
        ("web.example.com", "web.example.com"),
        ("x" * 52 + "-web.example.com", "x" * 52 + "-web"),
    ],
)
def test_a_host_name_that_is_too_long_for_the_kernel_is_shortened(hostname, seen):
    instance = samples.instance(hostname=hostname)
    made = config(instance, address="192.0.2.1")
    assert made["Hostname"] == seen
    known = [line.partition(":")[0] for line in made["HostConfig"]["ExtraHosts"]]
    assert known == list(dict.fromkeys([hostname, seen]))


def test_an_image_property_overrides_the_command_of_the_image():
    assert "Cmd" not in config()
    overridden = samples.image_meta(
        properties={"os_command_line": "httpd -f -h '/var/my www'"}
    )
    assert config(image_meta=overridden)["Cmd"] == [
        "httpd",
        "-f",
        "-h",
        "/var/my www",
    ]


def test_a_server_has_a_terminal_so_that_a_shell_keeps_running():
    body = config()
    assert body["Tty"] and body["OpenStdin"]


def test_a_container_is_unprivileged():
    host_config = config()["HostConfig"]
    assert host_config["Privileged"] is False
    assert host_config["CapDrop"] == ["ALL"]
    assert not {"SYS_ADMIN", "SYS_PTRACE", "MKNOD"} & set(host_config["CapAdd"])
    # Without seccomp and AppArmor options, the engine's defaults apply.
    assert host_config["SecurityOpt"] == []
    assert "Binds" not in host_config and host_config["Mounts"] == []


def test_without_a_user_namespace_no_process_gains_privileges():
    host_config = config(level="shared")["HostConfig"]
    assert not {"NET_ADMIN", "NET_RAW", "SETFCAP"} & set(host_config["CapAdd"])
    assert host_config["SecurityOpt"] == ["no-new-privileges"]


@pytest.mark.parametrize("level", ["user", "shared"])
def test_the_level_of_isolation_is_shown(level):
    body = config(level=level)
    assert body["Labels"]["org.openstack.nova.isolation"] == level
    assert f"NOVA_ISOLATION={level}" in body["Env"]


def test_a_server_has_no_network_of_the_engine_by_default():
    instance = samples.instance()
    body = config(instance)
    assert body["HostConfig"]["NetworkMode"] == "none"
    assert body["Env"] == [
        f"NOVA_NETNS=nova-{instance.uuid}",
        "NOVA_ENGINE_NETWORK=0",
        "NOVA_ROOT_VOLUMES=1",
        "NOVA_ISOLATION=user",
        "NOVA_INIT=",
        "NOVA_READ_ONLY=0",
        "NOVA_LXCFS=",
        "product_name=OpenStack Nova",
    ]


def test_in_bridge_mode_a_server_also_has_the_engines_network():
    instance = samples.instance()
    body = config(instance, network_mode="bridge")
    assert body["HostConfig"]["NetworkMode"] == "bridge"
    assert "NOVA_ENGINE_NETWORK=1" in body["Env"]


def test_every_variable_that_the_runtime_reads_is_set():
    for mode in ("none", "bridge"):
        names = {item.partition("=")[0] for item in config(network_mode=mode)["Env"]}
        assert names >= set(spec.OWN_ENVIRONMENT)


@pytest.mark.parametrize(
    ("level", "point"), [("user", "/x"), ("shared", "/x"), ("gvisor", "")]
)
def test_servers_get_the_files_of_lxcfs_but_in_gvisor(level, point):
    assert f"NOVA_LXCFS={point}" in config(level=level, lxcfs="/x")["Env"]


def test_the_health_check_of_an_image_only_runs_if_the_operator_allows_it():
    assert config()["Healthcheck"] == {"Test": ["NONE"]}
    assert "Healthcheck" not in config(image_healthcheck=True)


def test_a_server_can_resolve_its_own_name_and_uses_neutrons_dns():
    body = config(nameservers=["192.0.2.53"], address="192.0.2.10")
    assert body["Hostname"] == "web-1"
    assert body["HostConfig"]["ExtraHosts"] == ["web-1:192.0.2.10"]
    assert body["HostConfig"]["Dns"] == ["192.0.2.53"]


def test_the_console_log_is_bounded():
    log = config(log_size_mb=10)["HostConfig"]["LogConfig"]
    assert log["Type"] == "local"
    assert log["Config"]["max-size"] == "5120k"
    assert log["Config"]["max-file"] == "2"


def test_a_malformed_command_line_makes_the_image_unacceptable():
    broken = samples.image_meta(properties={"os_command_line": "echo 'open"})
    with pytest.raises(exception.ImageUnacceptable, match="os_command_line"):
        config(image_meta=broken)
