# SPDX-License-Identifier: Apache-2.0
"""Servers in gVisor on a real engine with runsc, and a real switch."""

from __future__ import annotations

import pathlib
import socket
import subprocess
import time

import psutil
import pytest
from nova import exception
from nova import objects
from nova.compute import power_state
from nova.compute import vm_states
from oslo_utils import units

from docker_engine import errors
from nova_docker import config_drive
from nova_docker import rescue
from nova_docker.container import isolation
from nova_docker.privsep import userns
from tests import archives
from tests import samples
from tests.functional import host
from tests.functional.host import eventually
from tests.functional.host import state

SPECS = {"docker:isolation": "gvisor"}
SMALL = samples.flavor(extra_specs=SPECS)
LARGE = samples.flavor(name="large", memory_mb=256, vcpus=2, extra_specs=SPECS)


@pytest.fixture
def gvisor(boot):
    """Boots a server in gVisor; takes the arguments of ``boot``."""

    def start(*arguments, **values):
        return boot(*arguments, **{"flavor": SMALL} | values)

    return start


@pytest.fixture
def client(boot):
    """A server with a user namespace, on the same network."""
    return boot()


def serve(server, text="hello"):
    server.run(f"echo {text} > /index.html; httpd -p 80 -h /")


def answers(client, address, text="hello"):
    request = "printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n'"
    return text in client.run(f"{request} | nc -w 5 {address} 80 || true")


def pings(client, address):
    ping = f"ping -c 1 -W 2 {address} || true"
    return "1 packets received" in client.run(ping)


def test_a_server_has_a_kernel_of_its_own(driver, gvisor, mocker):
    server = gvisor()
    assert "Starting gVisor" in server.run("busybox dmesg")
    kernel = pathlib.Path("/proc/version").read_text()
    assert server.run("cat /proc/version") != kernel
    assert server.inspect()["HostConfig"]["Runtime"] == "nova-gvisor"
    assert server.inspect()["Config"]["Labels"][isolation.LABEL] == "gvisor"
    assert server.run("echo $NOVA_ISOLATION") == "gvisor\n"
    assert userns.base_of(server.name) is None
    mocker.patch.object(
        type(server.instance), "get_network_info", return_value=server.network_info
    )
    assert driver.get_diagnostics(server.instance)["isolation"] == "gvisor"


def test_the_sandbox_is_nobody_on_the_host(gvisor):
    server = gvisor()
    status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines())
    assert set(values["Uid"].split()) == {"65534"}
    assert values["NoNewPrivs"].split() == ["1"]
    assert values["Seccomp"].split() == ["2"]


def test_the_console_log_and_a_command_of_the_image(driver, gvisor, image):
    server = gvisor(image(config={"Cmd": ["sh", "-c", "echo booted; exec sleep 99"]}))
    assert eventually(
        lambda: "booted" in driver.get_console_output(None, server.instance)
    )


def test_an_interactive_console(driver, gvisor, image):
    server = gvisor(image(config={"Cmd": ["sh"]}))
    found = driver.get_serial_console(None, server.instance)
    with socket.create_connection((found.host, found.port), 20) as viewer:
        path = found.internal_access_path
        viewer.sendall(f"CONNECT {path} HTTP/1.1\r\n\r\n".encode())
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += viewer.recv(1)
        viewer.sendall(b"echo $((6 * 7))-$NOVA_ISOLATION\n")
        while b"42-gvisor" not in seen:
            chunk = viewer.recv(4096)
            assert chunk, seen
            seen += chunk


def test_tcp_and_ping_work_in_both_directions(gvisor, client):
    server = gvisor()
    address = client.network_info[0].fixed_ips()[0]["address"]
    own = server.network_info[0].fixed_ips()[0]["address"]
    serve(server)
    serve(client, "other")
    assert eventually(lambda: answers(client, own))
    assert eventually(lambda: answers(server, address, "other"))
    assert pings(client, own)
    assert pings(server, address)


def test_much_data_passes_intact(gvisor, client):
    server = gvisor()
    own = server.network_info[0].fixed_ips()[0]["address"]
    server.run("busybox dd if=/dev/urandom of=/f bs=1M count=8; httpd -p 80 -h /")
    client.run(f"wget -q -O /f http://{own}/f")
    assert client.run("busybox md5sum < /f") == server.run("busybox md5sum < /f")


def test_several_nics_and_ipv6(gvisor, nic, boot):
    first = nic(
        samples.subnet("192.0.2.0/24", "192.0.2.60"),
        samples.subnet("2001:db8::/64", "2001:db8::60"),
    )
    second = nic(samples.subnet("198.51.100.0/24", "198.51.100.60"))
    server = gvisor(nics=[first, second])
    assert "192.0.2.60/24" in server.run("ip addr show dev eth0")
    assert "2001:db8::60/64" in server.run("ip addr show dev eth0")
    assert "198.51.100.60/24" in server.run("ip addr show dev eth1")
    defaults = [r for r in server.run("ip route").splitlines() if "default" in r]
    assert not [route for route in defaults if "eth1" in route]
    client = boot(
        nics=[
            nic(
                samples.subnet("192.0.2.0/24", "192.0.2.61"),
                samples.subnet("2001:db8::/64", "2001:db8::61"),
            )
        ]
    )
    serve(server)
    assert eventually(lambda: answers(client, "2001:db8::60"))


def test_a_restarted_server_keeps_its_network_and_disk(driver, gvisor, client):
    server = gvisor()
    own = server.network_info[0].fixed_ips()[0]["address"]
    server.run("echo kept > /file")
    for verb in ("SOFT", "HARD", "power"):
        if verb == "power":
            driver.power_off(server.instance)
            assert state(driver, server) == power_state.SHUTDOWN
            assert not pings(client, own)
            driver.power_on(None, server.instance, server.network_info)
        else:
            host.CONF.set_override("shutdown_timeout", 1)
            driver.reboot(None, server.instance, server.network_info, verb)
        assert server.run("cat /file") == "kept\n"
        assert eventually(lambda: pings(client, own))


def test_the_hosts_kernel_does_not_answer_for_the_server(driver, gvisor, client):
    """Nova plugs the NICs of all servers when nova-compute starts."""
    server = gvisor()
    own = server.network_info[0].fixed_ips()[0]["address"]
    driver.plug_vifs(server.instance, server.network_info)
    shown = subprocess.run(
        [
            "ip",
            "-n",
            server.name,
            "-o",
            "addr",
            "show",
            "dev",
            "eth0",
            "scope",
            "global",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert shown == ""
    serve(server)
    assert eventually(lambda: answers(client, own))


def test_a_paused_server_is_frozen_and_disconnected(driver, gvisor, client):
    server = gvisor()
    own = server.network_info[0].fixed_ips()[0]["address"]
    server.run("(while sleep 0.1; do echo >> /ticks; done) > /dev/null 2>&1 &")
    upper = pathlib.Path(server.inspect()["GraphDriver"]["Data"]["UpperDir"])
    assert eventually(lambda: (upper / "ticks").exists())

    def ticks():
        return (upper / "ticks").stat().st_size

    for freeze, thaw in (
        (driver.pause, driver.unpause),
        (
            lambda instance: driver.suspend(None, instance),
            lambda instance: driver.resume(None, instance, server.network_info),
        ),
    ):
        freeze(server.instance)
        assert state(driver, server) == power_state.PAUSED
        assert not pings(client, own)
        before = ticks()
        time.sleep(0.5)
        assert ticks() == before
        thaw(server.instance)
        assert eventually(lambda: pings(client, own))
        assert eventually(lambda before=before: ticks() > before)


def test_a_snapshot_has_what_the_server_wrote(driver, gvisor, boot):
    server = gvisor()
    server.run("echo written > /file; busybox rm /bin/wget")
    image_meta = samples.image_meta(id=samples.uuid())
    driver.snapshot(None, server.instance, image_meta.id, lambda *a, **k: None)
    copy = boot(image_meta)
    assert copy.run("cat /file; ls /bin/wget 2>&1 || true").startswith("written\nls:")
    assert copy.run("echo $NOVA_ISOLATION") == "user\n"


def test_a_config_drive_and_injected_files(gvisor, monkeypatch):
    contents = {
        "openstack/latest/meta_data.json": b'{"uuid": "1", "hostname": "web-1"}',
        "openstack/latest/user_data": b"#cloud-config",
    }
    monkeypatch.setattr(config_drive, "_contents", lambda *args: contents)
    server = gvisor(files=[("/etc/motd", b"injected")], config_drive="True")
    assert server.run("cat /etc/motd") == "injected"
    drive = "/var/lib/cloud/seed/config_drive"
    assert server.run(f"cat {drive}/openstack/latest/user_data") == "#cloud-config"
    assert server.run(f"ls -ld {drive}").startswith("d---------")
    assert "Read-only" in server.run(f"touch {drive}/new 2>&1; true")


def test_a_password_is_set_also_if_the_image_has_a_user(driver, gvisor, image):
    """Then the server is frozen while the engine reads its files."""
    chpasswd = b"#!/bin/sh\ncat > /tmp/set\n"
    layer = archives.busybox_layer({"usr/sbin/chpasswd": chpasswd})
    for config in ({}, {"User": "0"}):
        server = gvisor(image(archives.archive([layer], config=config)))
        driver.set_admin_password(server.instance, "secret")
        assert server.run("cat /tmp/set") == "root:secret\n"


def test_a_rescue_repairs_the_disk(driver, gvisor, image, mocker):
    server = gvisor()
    server.run("echo broken > /state")
    mocker.patch.object(
        objects.Instance, "get_network_info", return_value=server.network_info
    )
    driver.power_off(server.instance)
    driver.rescue(
        samples.request_context(),
        server.instance,
        server.network_info,
        image(),
        None,
        {},
        objects.ShareMappingList(),
    )
    server.instance.vm_state = vm_states.RESCUED
    assert "Starting gVisor" in server.run("busybox dmesg")
    server.run(f"echo repaired > {rescue.MOUNT_POINT}/state")
    driver.unrescue(None, server.instance)
    assert server.run("cat /state") == "repaired\n"


def test_a_resize_restarts_the_server_and_can_be_reverted(driver, gvisor):
    server = gvisor()
    server.run("echo kept > /file")
    for flavor, revert in ((LARGE, False), (SMALL, True)):
        if revert:
            server.instance.flavor = flavor
            driver.finish_revert_migration(
                None, server.instance, server.network_info, None, power_on=True
            )
        else:
            driver.migrate_disk_and_power_off(
                None, server.instance, host.CONF.my_ip, flavor, server.network_info
            )
            driver.power_on(None, server.instance, server.network_info)
        expected = flavor.memory_mb * units.Ki
        assert f"MemTotal:{expected:>15} kB" in server.run("cat /proc/meminfo")
        assert server.inspect()["HostConfig"]["Memory"] == expected * units.Ki
        assert server.run("cat /file") == "kept\n"


def test_a_failed_resize_leaves_the_server_running(driver, gvisor, monkeypatch):
    server = gvisor()

    def fail(*args, **more):
        raise errors.EngineError("no", 500)

    with monkeypatch.context() as patched:
        patched.setattr(driver._client, "update_container", fail)
        with pytest.raises(exception.InstanceFaultRollback):
            driver.migrate_disk_and_power_off(
                None, server.instance, host.CONF.my_ip, LARGE, server.network_info
            )
    assert state(driver, server) == power_state.RUNNING


def test_nics_are_attached_and_detached_while_it_is_stopped(driver, gvisor, nic):
    server = gvisor()
    vif = nic(samples.subnet("198.51.100.0/24", "198.51.100.70"))
    for call in (
        lambda: driver.attach_interface(None, server.instance, None, vif),
        lambda: driver.detach_interface(None, server.instance, vif),
    ):
        with pytest.raises(exception.AttachInterfaceNotSupported, match="gvisor"):
            call()
    driver.power_off(server.instance)
    driver.attach_interface(None, server.instance, None, vif)
    server.network_info.append(vif)
    driver.power_on(None, server.instance, server.network_info)
    assert "198.51.100.70/24" in server.run("ip addr show dev eth1")
    driver.power_off(server.instance)
    driver.detach_interface(None, server.instance, server.network_info.pop())
    driver.power_on(None, server.instance, server.network_info)
    assert "eth1" not in server.run("ip addr")


def test_a_crash_dump_signal_reaches_the_first_process(driver, gvisor, image):
    script = "trap 'echo dumped' QUIT; while :; do sleep 0.1; done"
    server = gvisor(image(config={"Cmd": ["sh", "-c", script]}))
    time.sleep(1)
    driver.trigger_crash_dump(server.instance)
    assert eventually(
        lambda: "dumped" in driver.get_console_output(None, server.instance)
    )


def test_volumes_of_the_image_are_part_of_the_disk(gvisor, image):
    server = gvisor(image(config={"Cmd": ["cat"], "Volumes": {"/data": {}}}))
    server.run("echo kept > /data/file")
    upper = pathlib.Path(server.inspect()["GraphDriver"]["Data"]["UpperDir"])
    assert (upper / "data/file").read_text() == "kept\n"


def test_servers_outlive_a_restart_of_nova_compute(driver, gvisor, make_driver):
    server = gvisor()
    make_driver()
    assert server.run("echo alive") == "alive\n"


def test_a_start_that_fails_leaves_no_process(driver, gvisor, nic):
    subnet = samples.subnet("192.0.2.0/24", "192.0.2.80", gateway="192.0.2.1")
    server = gvisor(nics=[nic(subnet)])
    driver.power_off(server.instance)
    driver._nics.plug(server.instance, server.network_info, level="gvisor", renew=True)
    # gVisor refuses a second default route.
    route = ["route", "add", "default", "via", "192.0.2.2", "metric", "7"]
    subprocess.run(["ip", "-n", server.name, *route], check=True)
    with pytest.raises(errors.DockerError, match="more than one default route"):
        server.engine.client.start_container(server.name)
    container = server.inspect()["Id"]

    def processes():
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if container in " ".join(process.info["cmdline"] or [])
        ]

    assert eventually(lambda: not processes())
    driver.power_on(None, server.instance, server.network_info)
    assert server.run("echo alive") == "alive\n"


def test_the_host_reports_what_it_has(driver):
    assert driver._host.traits()["CUSTOM_DOCKER_ISOLATION_GVISOR"]
