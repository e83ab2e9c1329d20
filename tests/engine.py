# SPDX-License-Identifier: Apache-2.0
"""A private Docker engine with the driver's OCI runtimes, for tests.

Its data, sockets and process ids are in a temporary directory, so it can run beside
other engines on the host, and it does not change the host's firewall.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from collections.abc import Sequence

import psutil
from oslo_utils import uuidutils
from pyroute2 import IPRoute

from docker_engine import errors
from docker_engine.client import DockerClient

BIN = pathlib.Path(__file__).parents[1] / "bin"
RUNTIME = BIN / "nova-docker-runtime"
GVISOR_RUNTIME = BIN / "nova-docker-gvisor"
START_TIMEOUT = 60  # seconds
STOP_TIMEOUT = 60
# Address of the bridge for containers that use the engine's own network.
BRIDGE_ADDRESS = ("198.51.100.1", 24)


class Engine:
    """A private engine.

    :ivar host: its address, a value of ``[docker]host``
    """

    def __init__(self, directory: pathlib.Path, options: Sequence[str] = ()) -> None:
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.host = f"unix://{directory}/docker.sock"
        # On its PATH, for programs that a test adds.
        self.programs = directory / "bin"
        self.programs.mkdir()
        self.client = DockerClient(self.host)
        self.bridge = "nd-" + uuidutils.generate_uuid()[:8]
        with IPRoute() as host:
            host.link("add", ifname=self.bridge, kind="bridge")
            [index] = host.link_lookup(ifname=self.bridge)
            address, prefix = BRIDGE_ADDRESS
            host.addr("add", index=index, address=address, prefixlen=prefix)
            host.link("set", index=index, state="up")

    def start(self) -> None:
        arguments = [
            "--experimental",
            f"--bridge={self.bridge}",
            "--iptables=false",
            "--ip-forward=false",
            f"--add-runtime=nova={RUNTIME}",
            f"--add-runtime=nova-gvisor={GVISOR_RUNTIME}",
            f"--host={self.host}",
            f"--data-root={self._directory}/data",
            f"--exec-root={self._directory}/exec",
            f"--pidfile={self._directory}/pid",
            *self._options,
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["dockerd", *arguments],
                stdout=log,
                stderr=log,
                env=os.environ | {"PATH": f"{self.programs}:{os.environ['PATH']}"},
            )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                return self.client.ping()
            except errors.DockerError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log_file = self._directory / "log"
                    raise RuntimeError(log_file.read_text()[-4000:]) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop the engine and its containers gracefully."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise
            finally:
                self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def destroy(self) -> None:
        """Remove every trace of the engine, whatever state it is in."""
        try:
            with contextlib.suppress(errors.DockerError):
                for found in self.client.list_containers():
                    self.client.remove_container(found["Id"])
            self.stop()
        finally:
            # Shims and their containers, if the engine could not stop them itself.
            left = set()
            for process in psutil.process_iter(["cmdline"]):
                if self._owns(process):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        left |= {process, *process.children(recursive=True)}
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, STOP_TIMEOUT)
            for mount in reversed(psutil.disk_partitions(all=True)):
                if mount.mountpoint.startswith(f"{self._directory}/"):
                    subprocess.run(["umount", "--lazy", mount.mountpoint], check=True)
            with IPRoute() as host:
                host.link("del", ifname=self.bridge)
            shutil.rmtree(self._directory)

    def _owns(self, process: psutil.Process) -> bool:
        return f"{self._directory}/" in " ".join(process.info["cmdline"] or [])


@contextlib.contextmanager
def running(options: Sequence[str] = ()) -> Iterator[Engine]:
    """Run an engine for the duration of the block.

    :param options: more options of dockerd
    """
    if shutil.which("dockerd") is None:
        raise RuntimeError("dockerd is not installed; ./run_tests.sh installs it")
    # A socket path has at most 108 bytes; pytest's directories are longer.
    engine = Engine(pathlib.Path(tempfile.mkdtemp(prefix="nd-", dir="/tmp")), options)
    os.chmod(engine._directory, 0o711)
    try:
        engine.start()
        yield engine
    finally:
        engine.destroy()
