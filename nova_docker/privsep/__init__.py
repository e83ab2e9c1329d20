# SPDX-License-Identifier: Apache-2.0
"""The operations that need root.

nova-compute runs unprivileged. oslo.privsep runs the functions of each context in a
daemon that has the capabilities of that context and no others.

The daemon imports this package with all of root's capabilities, and drops them before
the first call. Later it could not read modules that only nova-compute's user may read,
for example below a home directory: all modules with privileged functions are imported
here.
"""

from nova_docker.privsep import child
from nova_docker.privsep import devices
from nova_docker.privsep import filesystems
from nova_docker.privsep import layers
from nova_docker.privsep import loops
from nova_docker.privsep import lxcfs
from nova_docker.privsep import mount_api
from nova_docker.privsep import netns_names
from nova_docker.privsep import network
from nova_docker.privsep import programs
from nova_docker.privsep import shares
from nova_docker.privsep import userns
from nova_docker.privsep.contexts import devices_admin
from nova_docker.privsep.contexts import filesystems_admin
from nova_docker.privsep.contexts import layers_admin
from nova_docker.privsep.contexts import netns_admin
from nova_docker.privsep.contexts import shares_admin
from nova_docker.privsep.contexts import userns_admin

__all__ = [
    "child",
    "devices",
    "devices_admin",
    "filesystems",
    "filesystems_admin",
    "layers",
    "layers_admin",
    "loops",
    "lxcfs",
    "mount_api",
    "netns_admin",
    "netns_names",
    "network",
    "programs",
    "shares",
    "shares_admin",
    "userns",
    "userns_admin",
]
