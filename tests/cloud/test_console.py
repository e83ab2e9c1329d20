# SPDX-License-Identifier: Apache-2.0
"""Interactive serial consoles through nova-serialproxy."""

from __future__ import annotations

import contextlib
import http.server
import queue
import subprocess
import threading

import websocket

from cloud import images
from tests.cloud.conftest import SECONDS
from tests.cloud.conftest import eventually
from tests.cloud.conftest import shown

# A page like Horizon's, without a terminal emulator.
PAGE = """<!DOCTYPE html>
<title>Serial console</title>
<pre id="shown"></pre>
<script>
const shown = document.getElementById("shown");
const socket = new WebSocket("%s", ["binary", "base64"]);
socket.binaryType = "arraybuffer";
const typed = new TextEncoder().encode("echo from a page: $((40 + 2))\\n");
socket.onopen = () => socket.send(typed);
socket.onclose = () => fetch("/closed", {method: "POST"});
socket.onmessage = (event) => {
  shown.textContent += new TextDecoder().decode(event.data);
  if (shown.textContent.includes("from a page: 42"))
    fetch("/shown", {method: "POST", body: shown.textContent});
};
</script>
"""


def rest(viewer):
    """Return what a viewer sees until the session ends."""
    seen = b""
    with contextlib.suppress(websocket.WebSocketConnectionClosedException):
        while frame := viewer.recv():
            seen += frame
    return seen


def test_viewers_share_the_terminal_of_the_first_process(boot, view):
    server = boot()
    first, second = view(server), view(server)
    for viewer in (first, second):
        shown(viewer, b"\x1b[18t")
    # A terminal reports its size when it is asked.
    first.send_binary(b"\x1b[8;43;121techo pid $$; stty size\n")
    assert b"pid 1\r\n" in shown(first, b"43 121\r\n")
    assert b"pid 1\r\n" in shown(second, b"43 121\r\n")
    first.close()
    # Docker's detach keys.
    second.send_binary(b"\x10\x11")
    rest(second)
    again = view(server)
    again.send_binary(b"echo still $((40 + 2))\n")
    shown(again, b"still 42\r\n")
    assert server.status == "ACTIVE"


def test_a_server_that_runs_a_service_opens_a_shell(boot, view):
    server = boot(images.DEBIAN, flavor="docker.small")
    viewer = view(server)
    viewer.send_binary(b"echo $((40 + 2)) $(id -un)\n")
    shown(viewer, b"42 root\r\n")
    assert "bash -l" in server.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    viewer.close()
    assert eventually(
        lambda: "bash -l" not in server.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
        timeout=10,
    )
    assert server.status == "ACTIVE"


def test_the_console_reports_a_stopped_or_paused_server(boot, view):
    server = boot()
    viewer = view(server)
    shown(viewer, b"\x1b[18t")
    server.act("stop_server", until="SHUTOFF")
    rest(viewer)
    assert b"The server is not running" in rest(view(server))
    server.act("start_server", until="ACTIVE")
    server.act("pause_server", until="PAUSED")
    assert b"The server is paused" in rest(view(server))


def test_a_wrong_token_opens_no_console(boot, url_of):
    url = url_of(boot())
    viewer = websocket.create_connection(url[:-4] + "0000", timeout=SECONDS)
    with contextlib.closing(viewer):
        assert rest(viewer) == b""


def test_a_page_in_a_browser_can_use_the_console(boot, url_of, tmp_path):
    page = PAGE % url_of(boot())
    posted: queue.Queue[tuple[str, str]] = queue.Queue()

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def do_POST(self):
            size = int(self.headers["Content-Length"])
            posted.put((self.path, self.rfile.read(size).decode()))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        with subprocess.Popen(
            [
                "chromium",
                "--headless=new",
                # Chromium's sandbox does not work as root.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                f"--user-data-dir={tmp_path}",
                f"http://127.0.0.1:{pages.server_port}/",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as browser:
            try:
                path, text = posted.get(timeout=SECONDS)
            finally:
                browser.terminate()
        pages.shutdown()
    assert path == "/shown", text
    assert "from a page: 42" in text
