# SPDX-License-Identifier: Apache-2.0
"""Put a container into the user namespace of its server.

The files on the engine's disk keep the ids of the image: 0, 1, … Inside of the user
namespace, these are other ids of the host. So everything that the container mounts from
the host is mounted a second time, with its ids shifted.
"""

import fcntl
import os
import struct

import idmap

SIZE = 65536  # ids of a server, as nova-compute has mapped them
NS_GET_OWNER_UID = 0xB704  # of ioctl_ns(2)
PING = "net.ipv4.ping_group_range"
# The engine writes them anew at each start. A server could fill the host's disk with
# the engine's own ones, to which no quota applies.
ENGINE_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")


def join(spec, path):
    """Add a user namespace to an OCI spec, and shift the ids of its mounts.

    :param path: of the namespace
    :returns: the stage on which these mounts are
    :raises ValueError: if it is not a server's
    :raises OSError: if something cannot be mounted
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        # nova-compute creates it as the first of the server's ids.
        [base] = struct.unpack("I", fcntl.ioctl(fd, NS_GET_OWNER_UID, b"\0" * 4))
        if base == 0:
            raise ValueError(f"{path} is not a server's: it was created by root")
        linux = spec["linux"]
        linux["namespaces"].append({"type": "user", "path": path})
        mapping = {"containerID": 0, "hostID": base, "size": SIZE}
        linux["uidMappings"] = linux["gidMappings"] = [mapping]
        limit_ping_groups(linux)
        stage = idmap.Stage(fd, base)
        spec["root"]["path"] = stage.shift_root(spec["root"]["path"])
        for mount in spec.get("mounts", []):
            if mount["destination"] in ENGINE_FILES:
                mount["source"] = stage.copy(mount["source"])
            elif is_bind(mount):
                shift(mount, stage)
        return stage
    finally:
        os.close(fd)


def shift(mount, stage):
    """Let a mount of the OCI spec take its files from the stage.

    The stage forbids devices. If runc before 1.2 makes the mount read-only, it removes
    the flags that it does not know of, which the kernel refuses in a user namespace.
    """
    mount["source"] = stage.shift(mount["source"])
    flags = idmap.mount_at(mount["source"])[0].split(",")
    kept = [flag for flag in ("ro", *idmap.MS_FLAGS) if flag in flags]
    mount["options"] = [*mount.get("options", ()), *kept]


def limit_ping_groups(linux):
    """Leave out the groups that a server does not have, which the kernel rejects."""
    sysctl = linux.get("sysctl") or {}
    if PING in sysctl:
        sysctl[PING] = f"0 {SIZE - 1}"


def is_bind(mount):
    """Tell whether a mount of the OCI spec is of a file or directory of the host."""
    options = mount.get("options", ())
    return mount.get("type") == "bind" or "bind" in options or "rbind" in options
