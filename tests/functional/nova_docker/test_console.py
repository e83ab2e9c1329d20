# SPDX-License-Identifier: Apache-2.0
"""Serial consoles on a real engine, used as nova-serialproxy uses them."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest
from nova import exception

from nova_docker import console
from nova_docker import terminal
from tests.functional.host import eventually

FOREVER = ["sh", "-c", "while :; do sleep 1; done"]
SECONDS = 20


@pytest.fixture
def open_console(driver):
    """Connects to a server's console; with a ``path``, returns the answer instead."""
    with contextlib.ExitStack() as viewers:

        def connect(server, path=None):
            found = driver.get_serial_console(None, server.instance)
            viewer = viewers.enter_context(
                socket.create_connection((found.host, found.port), SECONDS)
            )
            wanted = path or found.internal_access_path
            viewer.sendall(f"CONNECT {wanted} HTTP/1.1\r\n\r\n".encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += viewer.recv(1)
            if path is None:
                assert answer.split()[1] == b"200"
            return viewer if path is None else answer

        yield connect


@pytest.fixture
def shell(boot, image):
    """A server whose first process is a shell."""
    return boot(image(config={"Cmd": ["sh"]}))


@pytest.fixture
def service(boot, image):
    """A server whose first process is not interactive."""
    return boot(image(config={"Entrypoint": FOREVER}))


def shown(viewer, expected):
    """Return what a viewer sees up to ``expected``."""
    seen = bytearray()
    last = 0
    while seen.find(expected, last) < 0:
        last = max(len(seen) - len(expected), 0)
        chunk = viewer.recv(65536)
        assert chunk, seen
        seen += chunk
    return seen


def read_all(viewer):
    """Read until nothing more comes: Docker hangs up a shell with unread output."""
    viewer.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while viewer.recv(4096):
            pass


def rest(viewer):
    """Return what a viewer sees until the session ends."""
    return b"".join(iter(lambda: viewer.recv(4096), b""))


def shells(server):
    return server.run("ps -o args").count("sh -l")


def test_a_shell_as_first_process_is_used_at_its_own_terminal(shell, open_console):
    viewer = open_console(shell)
    viewer.sendall(b"echo pid $$\n")
    shown(viewer, b"pid 1\r\n")


def test_a_server_that_runs_a_service_opens_a_shell(service, open_console):
    viewer = open_console(service)
    viewer.sendall(b"echo $((40 + 2)); id -u; grep Seccomp: /proc/self/status\n")
    seen = shown(viewer, b"Seccomp:\t2")
    assert b"\r\n42\r\n0\r\n" in seen
    # The first process does not receive the input.
    assert b"42" not in service.engine.client.container_logs(service.name)


def test_the_image_label_chooses_a_shell(boot, image, open_console):
    label = {terminal.CONSOLE_LABEL: "shell"}
    server = boot(image(config={"Cmd": ["sh"], "Labels": label}))
    viewer = open_console(server)
    viewer.sendall(b"echo pid $$ $((40 + 2))\n")
    assert b"pid 1 42" not in shown(viewer, b" 42\r\n")


def test_an_image_without_a_shell_shows_the_first_process(boot, image, open_console):
    script = "rm /bin/sh; exec cat"
    server = boot(image(config={"Entrypoint": ["sh", "-c", script]}))
    assert eventually(lambda: b"cat" in ps(server))
    viewer = open_console(server)
    viewer.sendall(b"hello\n")
    shown(viewer, b"hello\r\nhello\r\n")


def ps(server):
    found = server.engine.client.inspect_container(server.name)
    with open(f"/proc/{found['State']['Pid']}/cmdline", "rb") as file:
        return file.read()


def test_viewers_of_the_first_process_share_its_terminal(shell, open_console):
    first, second = open_console(shell), open_console(shell)
    first.sendall(b"echo to $((1 + 1))\n")
    shown(second, b"to 2\r\n")
    second.sendall(b"echo from $((1 + 1))\n")
    shown(first, b"from 2\r\n")


def test_the_terminal_gets_the_size_of_the_viewers_terminal(
    shell, service, open_console
):
    for server in (shell, service):
        viewer = open_console(server)
        # The console asks for the size; the answer comes in two pieces.
        shown(viewer, b"\x1b[18t")
        viewer.sendall(b"\x1b[8;4")
        viewer.sendall(b"3;121tstty size\n")
        shown(viewer, b"43 121\r\n")


@pytest.mark.parametrize("leave", ["close", "keys"])
def test_the_first_process_keeps_running_when_its_viewer_leaves(
    shell, open_console, leave
):
    before = shell.inspect()["State"]["Pid"]
    viewer = open_console(shell)
    shown(viewer, b"\x1b[18t")
    if leave == "keys":
        viewer.sendall(b"\x10\x11")
        rest(viewer)
    viewer.close()
    again = open_console(shell)
    again.sendall(b"echo still $((1 + 1))\n")
    shown(again, b"still 2\r\n")
    assert shell.inspect()["State"]["Pid"] == before


@pytest.mark.parametrize("leave", ["close", "keys", "stop"])
def test_a_shell_ends_with_its_viewer(driver, service, open_console, leave):
    before = service.inspect()["State"]["Pid"]
    viewer = open_console(service)
    viewer.sendall(b"trap '' HUP; echo $((1 + 1)); sleep 1000\n")
    shown(viewer, b"\r\n2\r\n")
    assert shells(service) == 1
    if leave == "keys":
        # First end the sleep: the keys are only noticed when they are read.
        viewer.sendall(b"\x03\x10\x11")
        rest(viewer)
    elif leave == "stop":
        driver._consoles.stop()
    viewer.close()
    assert eventually(lambda: shells(service) == 0)
    assert service.inspect()["State"]["Pid"] == before


def test_a_shell_left_by_a_killed_nova_compute_ends(service, open_console, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr("nova_docker.terminal._Shell._hang_up", lambda *args: None)
        viewer = open_console(service)
        shown(viewer, b"#")
        read_all(viewer)
        viewer.close()
        time.sleep(0.5)
        assert shells(service) == 1
    viewer = open_console(service)
    shown(viewer, b"#")
    assert eventually(lambda: shells(service) == 1)


def test_a_viewer_who_does_not_read_does_not_block_the_server(shell, open_console):
    viewer = open_console(shell)
    viewer.sendall(b"yes 0123456789abcdef | head -c 8000000; touch /done\n")
    assert eventually(lambda: shell.run("ls /done || true"))


def test_a_shell_waits_for_its_viewer(service, open_console):
    viewer = open_console(service)
    viewer.sendall(b"head -c 4000000 /dev/zero | tr '\\0' x; echo; echo $((6 * 7))\n")
    time.sleep(1)
    seen = shown(viewer, b"\r\n42\r\n")
    assert seen.count(b"x") >= 4000000


@pytest.mark.parametrize("path", ["/", "/{uuid}", "/{uuid}/", "/{uuid}/{wrong}"])
def test_a_wrong_path_is_forbidden(shell, open_console, path):
    made = path.format(uuid=shell.instance.uuid, wrong="0" * 64)
    assert b"403" in open_console(shell, made)


def test_one_servers_path_does_not_open_another(driver, boot, open_console):
    first, second = boot(), boot()
    theirs = driver.get_serial_console(None, first.instance).internal_access_path
    mixed = theirs.replace(first.instance.uuid, second.instance.uuid)
    assert b"403" in open_console(second, mixed)


def test_the_address_of_a_console_does_not_change(driver, shell):
    """Nova compares the port before it admits a viewer."""
    found = [driver.get_serial_console(None, shell.instance) for _ in range(2)]
    assert vars(found[0]) == vars(found[1])


def test_the_viewer_is_told_that_the_server_is_not_running(driver, shell, open_console):
    driver.pause(shell.instance)
    assert b"The server is paused" in rest(open_console(shell))
    driver.unpause(shell.instance)
    driver.power_off(shell.instance)
    assert b"The server is not running" in rest(open_console(shell))


def test_a_reboot_ends_the_session_and_a_new_one_works(driver, shell, open_console):
    viewer = open_console(shell)
    shown(viewer, b"\x1b[18t")
    driver.reboot(None, shell.instance, shell.network_info, "HARD")
    rest(viewer)
    viewer = open_console(shell)
    viewer.sendall(b"echo pid $$\n")
    shown(viewer, b"pid 1\r\n")


def test_a_deleted_server_has_no_console(driver, shell):
    driver.destroy(None, shell.instance, shell.network_info)
    with pytest.raises(exception.InstanceNotFound):
        driver.get_serial_console(None, shell.instance)


def test_the_number_of_viewers_per_server_is_limited(shell, open_console):
    viewers = [open_console(shell) for _ in range(console.MAX_VIEWERS)]
    for viewer in viewers:
        shown(viewer, b"\x1b[18t")
    assert b"too many viewers" in rest(open_console(shell))
    viewers.pop().close()
    assert eventually(lambda: open_console(shell).recv(100).startswith(b"\x1b"))
