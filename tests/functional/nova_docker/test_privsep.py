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


@pytest.fixture
def name(configuration):
    name = f"nova-{samples.uuid()}"
    yield name
    network.unplug(name)
    userns.release(name)


def test_the_daemons_have_the_capabilities_that_they_need(name):
    # A daemon that is killed while it makes a namespace leaves a name without one.
    pathlib.Path("/run/netns", name).touch(mode=0)
    helper = pathlib.Path(sys.executable).parent / "privsep-helper"
    device = "nd" + samples.uuid()[:8]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(helper), name, device],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"OS_NOVA_DISABLE_EVENTLET_PATCHING": "1"},
        cwd=pathlib.Path(__file__).parents[3],
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
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
