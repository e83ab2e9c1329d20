# SPDX-License-Identifier: Apache-2.0
"""The privileged functions in their daemons, with no more capabilities than these."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from nova_docker import id_ranges
from nova_docker.privsep import network
from nova_docker.privsep import userns
from tests import samples

START = 1 << 30

# A nova-compute that starts its daemons with the command in its first argument, and
# plugs a server's NIC.
PROGRAM = """
import json, sys
from oslo_config import cfg
from nova_docker.privsep import contexts, network, shares, userns
cfg.CONF([], project="nova", default_config_files=[])
cfg.CONF.set_override("helper_command", sys.argv[1], "nova_docker_privileged")
contexts.configure()
name, device = sys.argv[2:]
nic = {
    "name": "eth0", "host_dev": device, "mac": "fa:16:3e:00:00:01", "mtu": 1400,
    "tx_checksum": False, "addresses": [("192.0.2.5", 24)],
    "routes": [("0.0.0.0/0", "192.0.2.1", 0)],
}
seen = {}
seen["cut short"] = network.describe(name)
userns.probe("/var", 1 << 30)
seen["base"] = userns.pin(name, "test", 1 << 30, 65536)
for renew in (False, True):
    network.plug(name, "test", [nic], isolated=True, renew=renew)
seen["names"] = network.names(name)
network.cut(name)
network.reconnect(name)
seen["owner"] = network.describe(name)[0]
seen["owned"] = userns.owned_by("test")
try:
    userns.pin(name + "-other", "test", 1 << 30, 65536)
except Exception as error:
    seen["full"] = type(error).__name__
userns.release(name + "-other")
network.remove(name, device)
seen["left"] = network.names(name)
network.unplug(name)
userns.release(name)
network.plug(name, "test", [nic])
seen["shared"] = network.describe(name)
network.unplug(name)
share = name, "share", "data"
shares.mount(*share, "tmpfs", "none", "size=1m", 20)
shares.ask(*share, 20)
with open("/proc/self/mounts") as mounts:
    seen["shares"] = [line.split()[2] for line in mounts if f"/{name}/share/" in line]
shares.unmount(*share, 20)
try:
    shares.mount(*share, "tmpfs", "none", "size=nonsense", 20)
except OSError as error:
    seen["wrong share"] = "nonsense" in str(error) or "option" in str(error)
print(json.dumps(seen))
"""

# Gives a block device to a process and takes it away, and makes one of a file.
DEVICES_PROGRAM = """
import json, sys
from oslo_config import cfg
from nova_docker.privsep import contexts, devices, loops
cfg.CONF([], project="nova", default_config_files=[])
cfg.CONF.set_override("helper_command", sys.argv[1], "nova_docker_privileged")
contexts.configure()
name, file, pid, container = sys.argv[2:]
pid = int(pid)
seen = {}
path = loops.attach(file)
seen["again"] = loops.attach(file) == path
devices.record(name, "vdb", path)
number = devices.number_of(path)
seen["recorded"] = devices.recorded(name) == {"vdb": number}
seen["owners"] = name in devices.owners(number)
seen["any"] = devices.has_any(name)
for _ in range(2):
    devices.insert(name, "vdb", pid, container, {"BlkioDeviceReadIOps": 7})
seen["users"] = devices.users(number, container)
with open(f"/proc/{pid}/root/dev/vdb", "rb"):
    try:
        devices.remove(name, "vdb", number, pid, container)
    except OSError as error:
        seen["open"] = error.strerror
for _ in range(2):
    devices.remove(name, "vdb", number, pid, container)
try:
    devices.insert(name, "vdb", pid, "0" * 64, {})
except ProcessLookupError as error:
    seen["other"] = type(error).__name__
devices.copy(path, path)
devices.forget(name, "vdb")
seen["left"] = devices.has_any(name)
loops.refresh(file)
loops.detach(file)
seen["loop"] = loops.of(file)
print(json.dumps(seen))
"""


@pytest.fixture
def name(configuration):
    name = f"nova-{samples.uuid()}"
    yield name
    network.unplug(name)
    userns.release(name)


def run(program, *arguments):
    """Run a nova-compute, which starts its daemons by privsep-helper."""
    helper = pathlib.Path(sys.executable).parent / "privsep-helper"
    result = subprocess.run(
        [sys.executable, "-c", program, str(helper), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"OS_NOVA_DISABLE_EVENTLET_PATCHING": "1"},
        cwd=pathlib.Path(__file__).parents[3],
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_daemons_have_the_capabilities_that_they_need(name):
    # A daemon that is killed while it makes a namespace leaves a name without one.
    pathlib.Path("/run/netns", name).touch(mode=0)
    device = "nd" + samples.uuid()[:8]
    assert run(PROGRAM, name, device) == {
        "cut short": [None, []],
        "base": START,
        "names": {device: "eth0"},
        "owner": "test",
        "owned": [name],
        "full": id_ranges.NoneLeft.__name__,
        "left": {},
        "shared": ["test", [device]],
        "shares": ["tmpfs"],
        "wrong share": True,
    }


@pytest.fixture
def process():
    """A process with a /dev and control groups of its own, as of a container.

    Yields its ID and that of the container.
    """
    container = samples.uuid().replace("-", "") * 2
    groups = [
        pathlib.Path("/sys/fs/cgroup", kind, container) for kind in ("devices", "blkio")
    ]
    for group in groups:
        group.mkdir()
    # As the OCI runtime leaves the root file system
    script = (
        "mount -t tmpfs -o mode=755 none /dev && mount -o remount,bind,nodev / && "
        "echo && exec sleep 1000"
    )
    started = subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", script],
        stdout=subprocess.PIPE,
    )
    started.stdout.readline()
    for group in groups:
        (group / "cgroup.procs").write_text(str(started.pid))
    yield started.pid, container
    started.kill()
    started.communicate()
    for group in groups:
        group.rmdir()


def test_the_daemon_for_devices_has_the_capabilities_that_it_needs(process, tmp_path):
    file = tmp_path / "volume"
    file.write_bytes(bytes(1 << 20))
    # Of another user, as on a share
    file.chmod(0o600)
    os.chown(file, 12345, 12345)
    assert run(DEVICES_PROGRAM, f"nova-{samples.uuid()}", file, *process) == {
        "again": True,
        "recorded": True,
        "owners": True,
        "any": True,
        "users": [],
        "open": "umount vdb: Device or resource busy",
        "other": "ProcessLookupError",
        "left": False,
        "loop": None,
    }
