# SPDX-License-Identifier: Apache-2.0
"""What a server looks like as a container."""

import pytest
from nova import exception
from nova.compute import power_state

from nova_docker import container
from tests import samples


def config(instance=None, image_meta=None, **values):
    return container.config(
        instance or samples.instance(),
        image_meta or samples.image_meta(),
        "sha256:1234",
        **{
            "nameservers": [],
            "address": None,
            "limits": {},
            "disk_gb": 0,
            "runtime": "nova",
            "network_mode": "none",
            "log_size_mb": 10,
        }
        | values,
    )


def test_a_container_is_named_after_its_server():
    assert container.name_of("1-2-3") == "nova-1-2-3"


@pytest.mark.parametrize(
    ("hostname", "seen"),
    [
        ("web", "web"),
        ("web.example.com", "web.example.com"),
        ("x" * 52 + "-web.example.com", "x" * 52 + "-web"),
    ],
)
def test_a_name_that_is_too_long_for_the_kernel_is_cut(hostname, seen):
    instance = samples.instance(hostname=hostname)
    made = config(instance, address="192.0.2.1")
    assert made["Hostname"] == seen
    known = [line.partition(":")[0] for line in made["HostConfig"]["ExtraHosts"]]
    assert known == list(dict.fromkeys([hostname, seen]))


def test_labels_say_whose_server_it_is():
    instance = samples.instance()

    labels = config(instance)["Labels"]

    assert labels == {
        "org.openstack.nova.uuid": instance.uuid,
        "org.openstack.nova.name": "instance-0000001a",
        "org.openstack.nova.display_name": "web 1",
        "org.openstack.nova.project": "project",
        "org.openstack.nova.image": instance.image_ref,
    }
    assert container.uuid_of(labels) == instance.uuid


def test_the_command_is_the_images_unless_a_property_overrides_it():
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


def test_a_command_line_that_cannot_be_split_is_the_images_fault():
    broken = samples.image_meta(properties={"os_command_line": "echo 'open"})
    with pytest.raises(exception.ImageUnacceptable, match="os_command_line"):
        config(image_meta=broken)


def test_a_shell_stays_up():
    body = config()
    assert body["Tty"] and body["OpenStdin"]


def test_a_container_is_unprivileged():
    host_config = config()["HostConfig"]
    assert host_config["Privileged"] is False
    assert host_config["CapDrop"] == ["ALL"]
    assert not {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "MKNOD"} & set(
        host_config["CapAdd"]
    )
    # No seccomp or AppArmor option: the engine's defaults stay on.
    assert host_config["SecurityOpt"] == ["no-new-privileges"]
    assert "Binds" not in host_config and host_config["Mounts"] == []


def test_a_server_that_only_nova_connects_has_no_engine_network():
    instance = samples.instance()
    body = config(instance)
    assert body["HostConfig"]["NetworkMode"] == "none"
    assert body["Env"] == [
        f"NOVA_NETNS=nova-{instance.uuid}",
        "product_name=OpenStack Nova",
    ]


def test_bridge_mode_keeps_the_engines_network():
    instance = samples.instance()
    body = config(instance, network_mode="bridge")
    assert body["HostConfig"]["NetworkMode"] == "bridge"
    assert "NOVA_ENGINE_NETWORK=1" in body["Env"]


def test_a_server_knows_its_own_name_and_neutrons_dns():
    body = config(nameservers=["192.0.2.53"], address="192.0.2.10")
    assert body["Hostname"] == "web-1"
    assert body["HostConfig"]["ExtraHosts"] == ["web-1:192.0.2.10"]
    assert body["HostConfig"]["Dns"] == ["192.0.2.53"]


def test_the_console_log_is_bounded():
    log = config(log_size_mb=10)["HostConfig"]["LogConfig"]
    assert log["Type"] == "local"
    assert log["Config"]["max-size"] == "5120k"
    assert log["Config"]["max-file"] == "2"


def test_a_flavor_becomes_limits():
    flavor = samples.flavor(memory_mb=512, swap=256, vcpus=2)
    assert container.limits(flavor, pids=100) == {
        "Memory": 512 * 2**20,
        "MemorySwap": (512 + 256) * 2**20,
        "CpuShares": 2048,
        "CpuPeriod": 100_000,
        "CpuQuota": 200_000,
        "PidsLimit": 100,
    }


def test_no_swap_in_the_flavor_is_no_swap_in_the_server():
    limits = container.limits(samples.flavor(), pids=100)
    assert limits["MemorySwap"] == limits["Memory"]


def test_a_root_disk_is_only_limited_where_the_engine_can():
    assert config(disk_gb=5)["HostConfig"]["StorageOpt"] == {"size": "5G"}
    assert "StorageOpt" not in config(disk_gb=0)["HostConfig"]


def test_shares_stay_in_what_the_kernel_takes():
    limits = container.limits(samples.flavor(vcpus=512), pids=1)
    assert limits["CpuShares"] == 262_144


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("created", power_state.SHUTDOWN),
        ("running", power_state.RUNNING),
        ("paused", power_state.PAUSED),
        ("exited", power_state.SHUTDOWN),
        ("dead", power_state.CRASHED),
        ("what-comes-next", power_state.NOSTATE),
    ],
)
def test_the_engines_states_are_novas(status, state):
    assert container.power_state_of(status) == state


@pytest.mark.parametrize(
    ("words", "interactive"),
    [
        (["/bin/sh"], True),
        (["bash", "-l"], True),
        (["bash", "--norc"], True),
        (["/sbin/init"], True),
        (["/lib/systemd/systemd", "--system"], True),
        (["sh", "-c", "httpd"], False),
        (["bash", "-lc", "httpd"], False),
        (["sh", "/start"], False),
        (["/usr/sbin/sshd", "-D"], False),
    ],
)
def test_shells_and_logins_are_worked_at(words, interactive):
    found = {"Path": words[0], "Args": words[1:], "Config": {"Labels": {}}}
    assert container.has_interactive_process(found) == interactive
    for wish in ("attach", "shell"):
        found["Config"]["Labels"] = {container.CONSOLE_LABEL: wish}
        assert container.has_interactive_process(found) == (wish == "attach")
