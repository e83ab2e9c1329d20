# SPDX-License-Identifier: Apache-2.0
"""Let systemd run as the first process of a container, without more privileges.

systemd needs a control group whose subtree it may divide among its services, and some
directories in memory. Limits stay where they were: on the server's own control group,
whose files belong to root of the host.
"""

import os

CGROUPS = "/sys/fs/cgroup"
# With cgroup v1, the place of the v2 hierarchy, which has no controllers
HYBRID = "/sys/fs/cgroup/unified"
DELEGATE = "/sys/kernel/cgroup/delegate"
# Each control group costs the kernel memory, and the host time. A machine has about 50.
BOUNDS = {"cgroup.max.descendants": "1000", "cgroup.max.depth": "16"}

# systemd would mount them itself, if it could: options, and part of the memory
IN_MEMORY = {
    "/run": (("nosuid", "nodev", "mode=755"), 0.2),
    "/run/lock": (("nosuid", "nodev", "noexec", "mode=1777"), 0.02),
    "/tmp": (("nosuid", "nodev", "mode=1777"), 0.5),
}


def prepare(spec, is_kernels):
    """Add what systemd needs to the OCI spec of a server with a user namespace.

    :param is_kernels: tells whether a mount is one of the kernel's file systems
    :raises OSError: if the control group cannot be made
    :raises ValueError: if the host has no control group that can be delegated
    """
    env = [v for v in spec["process"]["env"] if not v.startswith("container=")]
    spec["process"]["env"] = [*env, "container=docker"]
    mount_in_memory(spec, is_kernels)
    linux = spec["linux"]
    kinds = [namespace["type"] for namespace in linux["namespaces"]]
    if "cgroup" not in kinds:
        linux["namespaces"].append({"type": "cgroup"})
    # Last, because it lasts
    delegate(spec, linux["uidMappings"][0]["hostID"])


def mount_in_memory(spec, is_kernels):
    """Mount the directories that an image leaves to its first process."""
    kernels, others = [], []
    for mount in spec["mounts"]:
        (kernels if is_kernels(mount) else others).append(mount)
    limits = spec["linux"].get("resources") or {}
    memory = (limits.get("memory") or {}).get("limit") or 0
    taken = {mount["destination"] for mount in others}
    made = [
        {
            "type": "tmpfs",
            "source": "tmpfs",
            "destination": path,
            # 0 means no limit but the server's own.
            "options": [*options, f"size={int(memory * part)}"],
        }
        for path, (options, part) in IN_MEMORY.items()
        if path not in taken
    ]
    # Others may be mounted below them.
    spec["mounts"] = [*kernels, *made, *others]


def delegate(spec, root):
    """Give a server the subtree of its control group.

    :param root: the host's id of its root
    """
    linux = spec["linux"]
    [mount] = [m for m in spec["mounts"] if m["destination"] == CGROUPS]
    path = linux["cgroupsPath"]
    if os.path.exists(f"{CGROUPS}/cgroup.controllers"):
        mount["options"] = [*(o for o in mount["options"] if o != "ro"), "rw"]
        # Where runc asks systemd for it, it also asks for this owner.
        if path.startswith("/"):
            make(CGROUPS + path, root)
        resources = linux.setdefault("resources", {})
        resources["unified"] = {**(resources.get("unified") or {}), **BOUNDS}
    elif os.path.exists(f"{HYBRID}/cgroup.controllers") and path.startswith("/"):
        # runc puts the server into this group as well, and removes it.
        own = HYBRID + path
        make(own, root)
        for name, limit in BOUNDS.items():
            with open(f"{own}/{name}", "w") as file:
                file.write(limit)
        mount.update(
            type="bind",
            source=own,
            options=["bind", "rw", "nosuid", "nodev", "noexec"],
        )
    else:
        raise ValueError(
            "systemd needs cgroup v2, or cgroup v1 with the v2 hierarchy mounted on "
            f"{HYBRID} and the engine's option native.cgroupdriver=cgroupfs"
        )


def make(path, owner):
    """Make a control group whose subtree belongs to a user."""
    os.makedirs(path, exist_ok=True)
    os.chown(path, owner, owner)
    with open(DELEGATE) as names:
        for name in names.read().split():
            # Some belong to controllers that the group does not have.
            if os.path.exists(f"{path}/{name}"):
                os.chown(f"{path}/{name}", owner, owner)
