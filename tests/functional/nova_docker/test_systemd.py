# SPDX-License-Identifier: Apache-2.0
"""Servers whose first process is systemd, on a real engine."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import time

import pytest
from nova import exception
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import vm_states
from nova.virt import event as virtevent

from nova_docker.privsep import userns
from tests import samples
from tests.functional import host
from tests.functional.host import eventually
from tests.functional.host import state

STOPPED = virtevent.EVENT_LIFECYCLE_STOPPED
SHARED = {"docker:isolation": "shared"}


@pytest.fixture
def server(boot_systemd):
    return boot_systemd()


@pytest.fixture
def events(driver):
    """The transitions that Nova is told of."""
    found = []
    driver.register_event_listener(lambda event: found.append(event.get_transition()))
    return found


@pytest.fixture
def recorded(monkeypatch):
    """Lets Nova's database know a server, which its functional tests do not have."""

    def record(server):
        server.instance.host = host.CONF.host
        monkeypatch.setattr(
            "nova.objects.Instance.get_by_uuid", lambda *args: server.instance
        )
        monkeypatch.setattr(
            type(server.instance), "get_network_info", lambda self: server.network_info
        )
        return server

    return record


def started(server):
    return server.inspect()["State"]["StartedAt"]


def groups(server):
    """Return what is left of a server's control group on the host."""
    found = pathlib.Path("/sys/fs/cgroup").glob(f"**/{server.inspect()['Id']}")
    return list(found)


def test_a_whole_system_runs(server):
    assert server.run("systemctl --failed --no-legend") == ""
    assert server.run("cat /proc/1/comm; systemd-detect-virt") == "systemd\ndocker\n"
    services = "ssh dbus systemd-journald systemd-logind console-getty"
    assert set(server.run(f"systemctl is-active {services}").split()) == {"active"}
    assert "Startup finished" in server.run("journalctl --boot --no-pager")
    assert ".timer" in server.run("systemctl list-timers --no-pager")
    assert server.run("hostname; hostnamectl hostname") == "web-1\nweb-1\n"
    assert "192.0.2.10/24" in server.run("ip -o addr show dev eth0")


def test_services_and_timers_can_be_added(server):
    # systemd cannot give it a /tmp of its own, and does without.
    server.run("systemd-run --quiet --wait -p PrivateTmp=yes touch /root/service")
    server.run("systemd-run --quiet --on-active=0.1 touch /root/timer")
    assert eventually(lambda: "timer" in server.run("ls /root"))
    assert "service" in server.run("ls /root")


def test_the_console_is_a_login(driver, server):
    console = driver.get_console_output(None, server.instance)
    assert "Startup finished" in console or "Reached target" in console
    assert eventually(
        lambda: (
            "Debian GNU/Linux 12 web-1"
            in driver.get_console_output(None, server.instance)
        )
    )


def test_what_is_in_memory_is_within_the_servers_own(server):
    sizes = server.run("df --output=target,size --block-size=1M /run /tmp")
    assert [line.split() for line in sizes.splitlines()[1:]] == [
        ["/run", "103"],
        ["/tmp", "256"],
    ]


def test_cloud_init_does_its_work_and_leaves_the_network_alone(server):
    assert "done" in server.run("cloud-init status")
    assert "seed" in server.run("cat /run/cloud-init/result.json")
    assert server.run("cat /srv/note") == "from the user"
    warnings = "grep -E 'WARNING|ERROR|Traceback' /var/log/cloud-init.log || true"
    assert server.run(warnings) == ""
    assert server.run("find /etc -path '*network*' -name '[0-9]*cloud-init*'") == ""


def test_poweroff_stops_the_server(driver, server, events):
    server.run("systemctl poweroff")
    assert eventually(lambda: STOPPED in events)
    assert state(driver, server) == power_state.SHUTDOWN
    assert groups(server) == []
    driver.power_on(None, server.instance, server.network_info)
    assert eventually(lambda: "running" in server.run("systemctl is-system-running||:"))


def test_a_reboot_from_inside_is_not_noticed_by_nova(
    driver, server, events, recorded, running
):
    recorded(server)
    before, base = started(server), userns.base_of(server.name)
    server.run("ip addr add 192.0.2.99/24 dev eth0; touch /tmp/gone /root/kept")

    server.run("systemctl reboot")

    assert eventually(lambda: started(server) != before)
    assert running(server)
    assert STOPPED not in events
    assert state(driver, server) == power_state.RUNNING
    assert server.run("ls /tmp/gone /root/kept 2>/dev/null || :") == "/root/kept\n"
    # The network is as Nova wants it.
    addresses = server.run("ip -o addr show dev eth0")
    assert "192.0.2.10/24" in addresses and "192.0.2.99" not in addresses
    assert userns.base_of(server.name) == base


@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
def test_nova_reboots_it(driver, server, events, recorded, running, kind):
    recorded(server)
    server.instance.task_state = task_states.REBOOTING
    before = started(server)
    began = time.monotonic()
    driver.reboot(None, server.instance, server.network_info, kind)
    assert time.monotonic() - began < 20  # seconds; shutdown_timeout is 60
    assert started(server) != before
    assert running(server)


def test_a_stop_powers_the_system_off(driver, server):
    unit = r"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStop=touch /root/stopped"
    server.run(f"printf '{unit}' > /run/systemd/system/last.service")
    server.run("systemctl start last")
    driver.power_off(server.instance, 60)
    found = server.inspect()["State"]
    assert (found["Running"], found["ExitCode"]) == (False, 130)
    driver.power_on(None, server.instance, server.network_info)
    assert server.run("ls /root/stopped")


def test_it_can_be_paused_suspended_and_resized(driver, server):
    pid = server.pid
    driver.pause(server.instance)
    assert state(driver, server) == power_state.PAUSED
    driver.unpause(server.instance)
    driver.suspend(None, server.instance)
    assert state(driver, server) == power_state.PAUSED
    driver.resume(None, server.instance, server.network_info)
    flavor = samples.flavor(memory_mb=1024)
    driver.migrate_disk_and_power_off(
        None, server.instance, host.CONF.my_ip, flavor, server.network_info
    )
    assert server.pid == pid
    server.run("systemctl restart ssh")


def test_its_password_can_be_set(driver, server):
    driver.set_admin_password(server.instance, "s3cret")
    assert "root:$" in server.run("getent shadow root")


def test_a_snapshot_boots_as_the_server_does(driver, server, boot_systemd, engine):
    server.run("touch /root/kept /tmp/gone /run/gone")
    made = samples.image_meta(id=samples.uuid())
    driver.snapshot(None, server.instance, made.id, lambda **values: None)
    again = boot_systemd(made)
    config = engine.client.inspect_image(again.inspect()["Image"])["Config"]
    assert config["StopSignal"] == "SIGRTMIN+3"
    found = again.run("ls /root/kept /tmp/gone /run/gone 2>/dev/null || :")
    assert found == "/root/kept\n"


def test_a_rescue_runs_systemd_as_well(
    driver, server, systemd_image, recorded, running
):
    recorded(server)
    driver.rescue(
        samples.request_context(),
        server.instance,
        server.network_info,
        systemd_image,
        None,
        None,
        None,
    )
    server.instance.vm_state = vm_states.RESCUED
    try:
        # cloud-init has no config drive here, and finishes later.
        assert eventually(lambda: server.run("cat /proc/1/comm") == "systemd\n")
        assert server.run("ls /mnt/rescue/sbin/init")
    finally:
        driver.unrescue(samples.request_context(), server.instance)
        server.instance.vm_state = vm_states.ACTIVE
    assert running(server)


def test_a_deleted_server_leaves_no_control_group(driver, server):
    server.run("mkdir -p /sys/fs/cgroup/mine/deep/down")
    left = groups(server)
    assert left
    driver.destroy(None, server.instance, server.network_info)
    assert eventually(lambda: not any(path.exists() for path in left))


def test_a_failed_start_leaves_no_control_group(boot, image):
    before = set(pathlib.Path("/sys/fs/cgroup").glob("**/docker/*/"))
    broken = image(config={"Entrypoint": ["/lib/systemd/systemd"]})
    with pytest.raises(exception.InvalidInput):
        boot(broken)
    assert set(pathlib.Path("/sys/fs/cgroup").glob("**/docker/*/")) == before


def test_an_image_with_systemd_needs_a_user_namespace(driver, boot, systemd_image):
    shared = samples.flavor(extra_specs=SHARED)
    with pytest.raises(exception.InvalidInput, match="docker:isolation=user"):
        boot(systemd_image, flavor=shared)


def test_a_rebuild_with_systemd_is_refused_before_the_server_stops(
    driver, boot, systemd_image
):
    server = boot(flavor=samples.flavor(extra_specs=SHARED))
    before = started(server)
    nothing = (None,) * 4
    with pytest.raises(exception.InvalidInput, match="systemd"):
        driver.rebuild(None, server.instance, systemd_image, [], *nothing, None)
    assert started(server) == before
    assert state(driver, server) == power_state.RUNNING


@pytest.mark.parametrize("level", ["shared", "gvisor"])
def test_a_rescue_image_with_another_init_is_usable_without_a_user_namespace(
    driver, boot, image, recorded, level
):
    script = b"#!/bin/sh\nexec busybox sleep 1000\n"
    tools = image(files={"sbin/init": script}, config={"Cmd": ["/sbin/init"]})
    flavor = samples.flavor(extra_specs={"docker:isolation": level})
    server = recorded(boot(flavor=flavor))
    driver.rescue(
        samples.request_context(),
        server.instance,
        server.network_info,
        tools,
        *(None,) * 3,
    )
    server.instance.vm_state = vm_states.RESCUED
    try:
        assert server.run("echo rescued") == "rescued\n"
    finally:
        driver.unrescue(samples.request_context(), server.instance)
        server.instance.vm_state = vm_states.ACTIVE
    assert server.run("echo back") == "back\n"


# What follows needs an init that reboots, but not that it is systemd.


@pytest.fixture
def rebooting(boot, image, recorded):
    """Boots a server that is said to run systemd, and runs a script instead."""

    def run(script):
        image_meta = image(config={"Entrypoint": ["busybox", "sh", "-c", script]})
        return recorded(
            boot(
                image_meta,
                image_ref=image_meta.id,
                system_metadata={"image_os_init": "systemd"},
            )
        )

    return run


def test_a_server_that_nova_stops_does_not_start_again(driver, rebooting, events):
    server = rebooting("trap 'busybox reboot -f' $(kill -l 37); sleep 1000 & wait")
    assert eventually(lambda: state(driver, server) == power_state.RUNNING)
    server.instance.task_state = task_states.POWERING_OFF
    before = started(server)
    driver.power_off(server.instance, 10)
    assert server.inspect()["State"]["ExitCode"] == 129
    server.instance.vm_state, server.instance.task_state = vm_states.STOPPED, None
    assert eventually(lambda: STOPPED in events)
    assert started(server) == before


def test_a_server_that_reboots_in_a_loop_starts_ever_more_rarely(driver, rebooting):
    server = rebooting("busybox reboot -f")
    time.sleep(8)
    # It has waited for 0, 1, 2 and 4 seconds, or is waiting for 4 or 8.
    _, waited = driver._reboots._starts[server.instance.uuid]
    assert waited in (2, 4, 8)
    # To Nova, it runs.
    assert state(driver, server) == power_state.RUNNING
    server.instance.task_state = task_states.DELETING


def test_a_reboot_while_nova_compute_was_down_is_made_up_for(
    driver, make_driver, rebooting
):
    server = rebooting("sleep 1000 & wait")
    driver.cleanup_host("test-host")
    with contextlib.suppress(subprocess.CalledProcessError):
        server.run("busybox reboot -f")
    assert eventually(lambda: not server.inspect()["State"]["Running"])
    make_driver().get_available_resource("test-host")
    assert eventually(lambda: server.inspect()["State"]["Running"])


def test_other_servers_stop_when_they_reboot(driver, boot, image, recorded, events):
    script = "busybox reboot -f"
    server = recorded(
        boot(image(config={"Entrypoint": ["busybox", "sh", "-c", script]}))
    )
    assert eventually(lambda: STOPPED in events)
    assert state(driver, server) == power_state.SHUTDOWN
    assert server.inspect()["State"]["ExitCode"] == 129


def test_the_engines_init_reaps_processes(boot, image):
    image_meta = image(config={"Entrypoint": ["sh", "-c", "sleep 1000"]})
    server = boot(
        image_meta,
        image_ref=image_meta.id,
        system_metadata={"image_os_init": "docker-init"},
    )
    assert server.run("cat /proc/1/comm") == "docker-init\n"
    server.run("(sleep 0.1 &)")
    assert eventually(lambda: "Z" not in server.run("cat /proc/[0-9]*/stat"))


def test_an_image_cannot_prepare_a_server_for_systemd_by_itself(boot, image):
    image_meta = image(config={"Env": ["PATH=/bin", "NOVA_INIT=systemd"]})
    server = boot(image_meta)
    assert " /run " not in server.run("cat /proc/mounts")
    assert server.run("echo $NOVA_INIT$container") == "\n"
