# SPDX-License-Identifier: Apache-2.0
"""The life of a server on a real engine, with its NICs on a real switch."""

from __future__ import annotations

import functools
import pathlib
import queue
import time

import pytest
from nova import exception
from nova.compute import power_state
from nova.virt import event as virtevent

from nova_docker.driver import CONF
from nova_docker.privsep import network
from tests import samples
from tests.functional.host import TIMEOUT
from tests.functional.host import Server
from tests.functional.host import eventually
from tests.functional.host import state

# Exits with 1 unless eth0 already has its address.
IMPATIENT = """#!/bin/sh
ip -o addr show dev eth0 | grep -q 'inet 192.0.2.10/24' || exit 1
exec sleep 1000
"""


def is_sleeping(server):
    return server.run("cat /proc/1/comm") == "sleep\n"


@pytest.fixture
def events(driver):
    """A queue of (uuid, transition) that the driver has reported to Nova."""
    reported = queue.Queue()
    driver.register_event_listener(
        lambda event: reported.put((event.get_instance_uuid(), event.get_transition()))
    )
    return reported


def wait_for(events, uuid, transition):
    deadline = time.monotonic() + TIMEOUT
    while events.get(timeout=max(0, deadline - time.monotonic())) != (
        uuid,
        transition,
    ):
        pass


def test_a_server_boots_with_its_ports_addresses_routes_and_dns(driver, boot, nic):
    first = nic(
        samples.subnet(
            "192.0.2.0/24",
            "192.0.2.10",
            gateway="192.0.2.1",
            dns=("192.0.2.53",),
            routes={"198.18.0.0/15": "192.0.2.9"},
        ),
        samples.subnet("2001:db8::/64", "2001:db8::a", gateway="2001:db8::1"),
        mtu=1300,
    )
    second = nic(samples.subnet("203.0.113.0/24", "203.0.113.5"))

    server = boot(nics=[first, second])

    assert state(driver, server) == power_state.RUNNING
    assert driver.list_instance_uuids() == [server.instance.uuid]
    assert driver.list_instances() == [server.instance.name]
    assert driver.instance_exists(server.instance)
    links = server.run("cat /sys/class/net/eth*/address /sys/class/net/eth0/mtu")
    assert links.split() == [first["address"], second["address"], "1300"]
    addresses = server.run("ip -o addr")
    for address in ("192.0.2.10/24", "2001:db8::a/64", "203.0.113.5/24"):
        assert address in addresses
    routes = server.run("ip route; ip -6 route")
    for route in (
        "default via 192.0.2.1 dev eth0",
        "198.18.0.0/15 via 192.0.2.9 dev eth0",
        "default via 2001:db8::1 dev eth0",
    ):
        assert route in routes
    assert server.run("hostname") == "web-1\n"
    assert "nameserver 192.0.2.53" in server.run("cat /etc/resolv.conf")
    assert "192.0.2.10\tweb-1" in server.run("cat /etc/hosts")


def test_the_switch_port_carries_the_ids_of_neutrons_port(boot, switch):
    server = boot()
    [vif] = server.network_info
    assert switch.ports() == {vif["devname"]}
    ids = switch.interface(vif["devname"])
    assert ids["iface-id"] == vif["id"]
    assert ids["attached-mac"] == vif["address"]
    assert ids["vm-uuid"] == server.instance.uuid


def test_servers_reach_each_other_over_tcp(boot):
    web, client = boot(), boot()
    web.run("echo hello > /index.html; httpd -p 80 -h /")
    request = "printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n'"
    assert client.run(f"{request} | nc -w 10 192.0.2.10 80").endswith("\n\nhello\n")


def test_no_process_runs_before_its_nics_are_configured(driver, boot, image, nic):
    impatient = image(
        files={"impatient": IMPATIENT.encode()}, config={"Entrypoint": ["/impatient"]}
    )
    up = []
    for _ in range(50):
        port = nic(samples.subnet("192.0.2.0/24", "192.0.2.10"))
        server = boot(impatient, nics=[port])
        # It becomes the sleep after it has checked its NIC.
        up.append(eventually(functools.partial(is_sleeping, server)))
        driver.destroy(None, server.instance, server.network_info)
    assert up == [True] * 50


def test_the_impatient_server_exits_without_its_address(driver, boot, image, nic):
    """Otherwise the preceding test could not fail."""
    impatient = image(
        files={"impatient": IMPATIENT.encode()}, config={"Entrypoint": ["/impatient"]}
    )
    server = boot(impatient, nics=[nic(samples.subnet("192.0.2.0/24", "192.0.2.99"))])
    assert eventually(lambda: not server.inspect()["State"]["Running"])
    assert server.inspect()["State"]["ExitCode"] == 1


def test_a_server_without_a_network_boots(driver, boot):
    server = boot(nics=[])
    assert state(driver, server) == power_state.RUNNING
    assert server.run("ls /sys/class/net") == "lo\n"


@pytest.mark.parametrize("reboot_type", ["SOFT", "HARD"])
def test_a_rebooted_server_keeps_its_nics(driver, boot, monkeypatch, reboot_type):
    monkeypatch.setattr(type(CONF), "shutdown_timeout", 1, raising=False)
    server = boot()
    before = server.inspect()["State"]
    driver.reboot(None, server.instance, server.network_info, reboot_type)
    after = server.inspect()["State"]
    assert after["Running"] and after["Pid"] != before["Pid"]
    assert "192.0.2.10/24" in server.run("ip -o addr show dev eth0")


def test_a_stopped_server_is_disconnected_until_it_starts(driver, boot):
    server, neighbour = boot(), boot()

    def answers():
        """Return whether the server's kernel answers; no program listens there."""
        tried = neighbour.run("nc -w 1 192.0.2.10 9 < /dev/null 2>&1 || true")
        return "refused" in tried

    assert eventually(answers)

    driver.power_off(server.instance, timeout=0)
    assert state(driver, server) == power_state.SHUTDOWN
    assert not answers()

    driver.power_on(None, server.instance, server.network_info)
    assert state(driver, server) == power_state.RUNNING
    assert eventually(answers)


def test_stop_sends_the_images_signal_and_waits(driver, boot, image):
    script = "trap 'exit 7' USR1; while :; do sleep 0.1; done"
    polite = image(config={"Entrypoint": ["sh", "-c", script], "StopSignal": "SIGUSR1"})
    server = boot(polite)
    begun = time.monotonic()
    driver.power_off(server.instance, timeout=TIMEOUT)
    assert server.inspect()["State"]["ExitCode"] == 7
    assert time.monotonic() - begun < TIMEOUT


def test_stop_kills_a_process_that_ignores_the_signal(driver, boot):
    server = boot()
    driver.power_off(server.instance, timeout=1)
    assert server.inspect()["State"]["ExitCode"] == 137


def test_nova_learns_within_a_second_that_the_first_process_has_exited(
    driver, boot, events
):
    server = boot()
    wait_for(events, server.instance.uuid, virtevent.EVENT_LIFECYCLE_STARTED)
    server.run("kill -9 -1 || true; exit 0")
    server.engine.client.kill_container(server.name)
    begun = time.monotonic()
    wait_for(events, server.instance.uuid, virtevent.EVENT_LIFECYCLE_STOPPED)
    assert time.monotonic() - begun < 1


def test_an_engine_restart_is_noticed_and_nics_survive_it(driver, boot, events, engine):
    server = boot()
    wait_for(events, server.instance.uuid, virtevent.EVENT_LIFECYCLE_STARTED)

    engine.restart()

    wait_for(events, server.instance.uuid, virtevent.EVENT_LIFECYCLE_STOPPED)
    driver.power_on(None, server.instance, server.network_info)
    assert "192.0.2.10/24" in server.run("ip -o addr show dev eth0")
    # The driver follows the event stream again.
    wait_for(events, server.instance.uuid, virtevent.EVENT_LIFECYCLE_STARTED)


def test_a_restart_through_the_engine_keeps_the_nics(boot):
    server = boot()
    server.engine.client.restart_container(server.name, 0)
    assert "192.0.2.10/24" in server.run("ip -o addr show dev eth0")


def test_a_restarted_nova_compute_leaves_servers_alone(make_driver, driver, boot):
    server = boot()
    pid = server.inspect()["State"]["Pid"]
    restarted = make_driver()
    restarted.plug_vifs(server.instance, server.network_info)
    assert server.inspect()["State"]["Pid"] == pid
    assert "192.0.2.10/24" in server.run("ip -o addr show dev eth0")


def test_a_name_without_a_namespace_counts_as_none(make_driver, boot):
    """The privileged daemon is killed between making the name and binding to it."""
    uuid = samples.uuid()
    name = pathlib.Path("/run/netns", f"nova-{uuid}")
    name.touch()
    make_driver()
    network.unplug(name.name)
    assert not name.exists()
    name.touch()
    server = boot(uuid=uuid)
    assert "192.0.2.10/24" in server.run("ip -o addr show dev eth0")


def test_nics_left_by_a_killed_nova_compute_are_removed(
    make_driver, driver, nic, nothing_is_left
):
    vif = nic(samples.subnet("192.0.2.0/24", "192.0.2.10"))
    driver.plug_vifs(samples.instance(), samples.nics(vif))
    make_driver()


def test_containers_without_novas_label_are_left_alone(
    driver, boot, engine, make_driver
):
    name = "nova-not-really"
    config = {
        "Image": "nova-docker-test:latest",
        "Tty": True,
        "HostConfig": {"NetworkMode": "none"},
    }
    engine.client.create_container(name, config)
    engine.client.start_container(name)
    try:
        make_driver()
        boot()
        assert driver.get_num_instances() == 1
        assert engine.client.inspect_container(name)["State"]["Running"]
    finally:
        engine.client.remove_container(name)


def test_spawning_an_existing_server_leaves_it_running(driver, boot, image):
    server = boot()
    pid = server.inspect()["State"]["Pid"]
    with pytest.raises(exception.InstanceExists):
        driver.spawn(
            samples.request_context(),
            server.instance,
            image(),
            [],
            None,
            {},
            server.network_info,
        )
    assert server.inspect()["State"]["Pid"] == pid


def test_os_command_line_replaces_the_images_command(boot, image):
    server = boot(image(properties={"os_command_line": "sleep '1000'"}))
    assert server.run("cat /proc/1/cmdline") == "sleep\x001000\x00"


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ({"properties": {"os_command_line": "/no/such"}}, exception.InvalidInput),
        ({"archive": b"not an archive" * 99}, exception.ImageUnacceptable),
        ({"archive": b""}, exception.ImageUnacceptable),
    ],
)
def test_a_failed_boot_raises_the_reason_and_leaves_nothing(
    driver, image, nic, nothing_is_left, broken, error
):
    network_info = samples.nics(nic(samples.subnet("192.0.2.0/24", "192.0.2.10")))
    with pytest.raises(error):
        driver.spawn(
            samples.request_context(),
            samples.instance(),
            image(**broken),
            [],
            None,
            {},
            network_info,
        )
    assert driver.list_instances() == []


@pytest.mark.parametrize(
    "broken",
    [
        {"properties": {"os_command_line": "'"}},
        {"archive": b"not an archive" * 99},
    ],
)
def test_a_rebuild_with_a_broken_image_leaves_the_server_running(
    driver, boot, image, broken
):
    server = boot()
    before = server.inspect()["State"]
    with pytest.raises(exception.ImageUnacceptable):
        rebuild(driver, server, image(**broken))
    assert server.inspect()["State"] == before


def test_a_rebuild_fetches_the_image_before_nova_destroys_the_server(
    driver, boot, image, glance
):
    server, image_meta = boot(), image(files={"other": b""})
    with pytest.raises(NotImplementedError):
        rebuild(driver, server, image_meta)
    assert image_meta.id in glance.downloads


def rebuild(driver, server, image_meta):
    driver.rebuild(
        samples.request_context(),
        server.instance,
        image_meta,
        [],
        None,
        {},
        [],
        None,
        None,
        network_info=server.network_info,
    )


def test_an_image_is_downloaded_once_per_host(boot, image, glance):
    once = image(files={"once": b"once"})
    boot(once), boot(once)
    assert glance.downloads.count(once.id) == 1


def test_the_flavor_limits_the_server(boot, host_with_swap):
    flavor = samples.flavor(memory_mb=32, swap=16, vcpus=1)
    limits = boot(flavor=flavor).inspect()["HostConfig"]
    assert limits["Memory"] == 32 * 2**20
    assert limits["MemorySwap"] == 48 * 2**20
    assert limits["CpuQuota"] == limits["CpuPeriod"]
    assert 32 <= limits["PidsLimit"] <= 4096


# Numbers in linux/capability.h: AUDIT_WRITE, CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL,
# NET_BIND_SERVICE, SETGID, SETUID, SYS_CHROOT; SETPCAP, NET_RAW, SYS_BOOT, SETFCAP.
SHARED = {29, 0, 1, 3, 4, 5, 10, 6, 7, 18}
USER = SHARED | {8, 13, 22, 31}
NET_ADMIN = 12


@pytest.mark.parametrize(
    ("extra_specs", "capabilities", "no_new_privileges"),
    [
        ({}, USER | {NET_ADMIN}, "0"),
        ({"docker:net_admin": "false"}, USER, "0"),
        ({"docker:isolation": "shared"}, SHARED, "1"),
    ],
)
def test_root_in_a_server_has_these_capabilities(
    boot, extra_specs, capabilities, no_new_privileges
):
    server = boot(flavor=samples.flavor(extra_specs=extra_specs))
    status = dict(
        line.split(":\t", 1)
        for line in server.run("cat /proc/self/status").splitlines()
        if ":\t" in line
    )
    assert status["NoNewPrivs"] == no_new_privileges
    assert status["Seccomp"] == "2"
    assert int(status["CapBnd"], 16) == sum(1 << bit for bit in capabilities)


def test_the_console_log_is_limited_to_its_last_bytes(driver, boot, image):
    noise = bytes(range(128, 256))
    script = "cat /noise; for i in $(seq 20000); do echo line $i; done; cat"
    noisy = image(
        files={"noise": noise, "bin/seq": "busybox"},
        config={"Entrypoint": ["sh", "-c", script]},
    )
    server = boot(noisy)
    assert eventually(
        lambda: "line 20000" in driver.get_console_output(None, server.instance)
    )
    output = driver.get_console_output(None, server.instance)
    assert output.endswith("line 19999\r\nline 20000\r")
    assert len(output) <= 100 * 1024


def test_the_console_log_keeps_bytes_that_are_not_text(driver, boot, image):
    noise = bytes(range(128, 256))
    script = ["sh", "-c", "cat /noise; echo; cat"]
    server = boot(image(files={"noise": noise}, config={"Entrypoint": script}))
    assert eventually(lambda: driver.get_console_output(None, server.instance))
    output = driver.get_console_output(None, server.instance)
    assert output.encode("latin-1") == noise + b"\r"


def test_calls_about_a_deleted_server_raise_instance_not_found(driver):
    instance = samples.instance()
    for call in (
        lambda: driver.get_info(instance),
        lambda: driver.reboot(None, instance, samples.nics(), "HARD"),
        lambda: driver.get_console_output(None, instance),
    ):
        with pytest.raises(exception.InstanceNotFound):
            call()
    assert not driver.instance_exists(instance)
    # As in Nova's libvirt driver, it counts as stopped: a rebuild stops it first.
    driver.power_off(instance)
    driver.destroy(None, instance, samples.nics())


def test_in_bridge_mode_dockers_network_is_eth0(
    make_driver, image, nic, engine, nothing_is_left
):
    CONF.set_override("network_mode", "bridge", "docker")
    try:
        driver = make_driver()
        instance = samples.instance()
        network_info = samples.nics(nic(samples.subnet("192.0.2.0/24", "192.0.2.10")))
        driver.spawn(
            samples.request_context(), instance, image(), [], None, {}, network_info
        )
        server = Server(instance, network_info, engine)
        assert "198.51.100." in server.run("ip -o addr show dev eth0")
        assert "192.0.2.10/24" in server.run("ip -o addr show dev eth1")
        driver.reboot(None, instance, network_info, "HARD")
        assert "198.51.100." in server.run("ip -o addr show dev eth0")
        assert "192.0.2.10/24" in server.run("ip -o addr show dev eth1")
        driver.destroy(None, instance, network_info)
    finally:
        CONF.clear_override("network_mode", "docker")


def test_a_nic_that_disappears_during_a_listing_is_skipped(driver, boot, monkeypatch):
    server = boot()

    class Late(network.IPRoute):
        def get_links(self, *args, **kwargs):
            found = list(self.__getattr__("get_links")(*args, **kwargs))
            gone = {"index": 999999, "link": 999999}
            return [*found, gone] if kwargs.get("kind") == "veth" else found

    with monkeypatch.context() as late:
        late.setattr(network, "IPRoute", Late)
        driver.power_off(server.instance)
        assert len(network.describe(server.name)[1]) == 1
        network.unplug(server.name)
    driver.power_on(None, server.instance, server.network_info)
    assert "192.0.2.10/24" in server.run("ip -o addr show dev eth0")


def test_without_bridge_mode_there_is_no_docker_network(boot):
    networks = boot().inspect()["NetworkSettings"]["Networks"]
    assert list(networks) == ["none"]


def test_servers_start_again_after_a_host_boot(driver, boot, engine):
    server = boot()
    engine.stop()
    network.unplug(server.name)
    engine.start()
    driver.resume_state_on_host_boot(None, server.instance, server.network_info)
    assert state(driver, server) == power_state.RUNNING
    assert "192.0.2.10/24" in server.run("ip -o addr show dev eth0")
    driver.resume_state_on_host_boot(None, server.instance, server.network_info)
    assert state(driver, server) == power_state.RUNNING


def test_the_hosts_ip_stack_ignores_a_servers_traffic(boot):
    [vif] = boot().network_info

    def setting(name):
        path = pathlib.Path("/proc/sys/net", name.format(vif["devname"]))
        return path.read_text().strip()

    assert setting("ipv6/conf/{}/disable_ipv6") == "1"
    assert setting("ipv4/conf/{}/rp_filter") == "1"
    assert setting("ipv4/conf/{}/arp_ignore") == "8"
