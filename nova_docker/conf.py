# SPDX-License-Identifier: Apache-2.0
"""The ``[docker]`` options of nova.conf."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

from docker_engine.options import connection_opts

docker_group = cfg.OptGroup(
    "docker",
    title="Docker driver options",
    help="""
Options of the Docker virt driver, which runs servers as containers of a
Docker engine on the same host. They apply if ``compute_driver`` is
``nova_docker.DockerDriver``.
""",
)

docker_opts = [
    *connection_opts(
        host_help="""
The engine must run on the same host as nova-compute, which plugs the ports of
the containers. For a unix socket, add nova-compute's user to the group that
owns the socket (``docker``).
"""
    ),
    cfg.StrOpt(
        "registry_auth_file",
        help="""
File with registry credentials, in the format of Docker's
``~/.docker/config.json``.

Used for images that Glance only references. Image properties cannot override
it. The engine itself verifies the certificates of registries (see
``/etc/docker/certs.d``).
""",
    ),
    cfg.StrOpt(
        "runtime",
        default="nova",
        help="""
Name under which the OCI runtime ``nova-docker-runtime`` is registered with
the engine.

The runtime puts a container into the network namespace that nova-compute has
created for it, before any of its processes runs. Register it in
``/etc/docker/daemon.json`` and restart the engine::

    {"runtimes": {"nova": {"path": "/usr/local/bin/nova-docker-runtime"}}}

nova-compute refuses to start if the engine does not have this runtime.
""",
    ),
    cfg.StrOpt(
        "gvisor_runtime",
        default="nova-gvisor",
        help="""
Name under which the OCI runtime ``nova-docker-gvisor`` is registered with the
engine, for servers with ``docker:isolation=gvisor``.

It is optional, and needs gVisor's program ``runsc``::

    {"runtimes": {"nova-gvisor": {"path": "/usr/local/bin/nova-docker-gvisor"}}}

With ``runtimeArgs``, an operator can give ``runsc`` options, for example
``["--platform=kvm"]``. A running engine reads the file again on SIGHUP.
""",
    ),
    cfg.StrOpt(
        "network_mode",
        default="none",
        choices=[
            ("none", "Servers only have Neutron's ports, starting with eth0."),
            (
                "bridge",
                "Servers also have an address on Docker's default bridge, as eth0; "
                "Neutron's ports start with eth1. All projects share this bridge, "
                "and security groups do not apply to it.",
            ),
        ],
        help="Whether servers are also connected to Docker's own network.",
    ),
    cfg.StrOpt(
        "isolation",
        default="user",
        choices=[
            (
                "user",
                "Each server has a user namespace: root in a server is an unprivileged "
                "user of the host, and another one for each server.",
            ),
            ("shared", "Root in a server is root of the host, with few capabilities."),
            (
                "gvisor",
                "Each server has a kernel of its own, which is gVisor's: its programs "
                "make no system call of the host.",
            ),
        ],
        help="""
Isolation of the servers whose flavor has no extra spec ``docker:isolation``.

It applies when a server is created or rebuilt. nova-compute refuses to start
if the host cannot give it; see "Isolation" in the security guide for what a
host needs.
""",
    ),
    cfg.StrOpt(
        "volume_mode",
        default="device",
        choices=[
            ("device", "A volume is a block device in the server's ``/dev``."),
            (
                "filesystem",
                "The host mounts the file system of a volume, which the server has in "
                "``/mnt``; it needs ``mount_volumes``.",
            ),
        ],
        help="""
What volumes and ephemeral disks are in the servers whose flavor has no extra spec
``docker:volume_mode`` and whose image has no property ``docker_volume_mode``.

It applies when a server is created or rebuilt.
""",
    ),
    cfg.BoolOpt(
        "mount_volumes",
        default=False,
        help="""
Whether this host mounts the file systems of volumes, for servers with
``docker:volume_mode=filesystem``.

It is off by default, because the kernel of the host then parses file systems that
a tenant may have written byte by byte, from another server or in an image of
Glance. The drivers of file systems are not made for that: an error in one of them
may crash the host or give a tenant control of it. Enable it only where you trust
the tenants who can write volumes. See "Mounted volumes" in the security guide.

A host with it has the trait ``CUSTOM_DOCKER_MOUNT_VOLUMES``. When it is turned off,
servers that have such volumes keep running, and do not start any more.
""",
    ),
    cfg.BoolOpt(
        "volume_use_multipath",
        default=False,
        help="""
Whether to connect to volumes over several paths (iSCSI, Fibre Channel and
NVMe-oF), which needs ``multipathd`` on the host.
""",
    ),
    cfg.BoolOpt(
        "volume_enforce_multipath",
        default=False,
        help="""
Whether volumes cannot be attached while ``multipathd`` does not run.
Otherwise, they are then connected over a single path.
""",
    ),
    cfg.IntOpt(
        "num_volume_scan_tries",
        default=5,
        min=1,
        help="How often to look for the device of a volume that was connected.",
    ),
    cfg.StrOpt(
        "volume_mount_point_base",
        default="$state_path/mnt",
        help="""
Directory below which the shares are mounted that contain volumes as files,
for example with NFS.
""",
    ),
    cfg.StrOpt(
        "ssh_config",
        help="""
Configuration file of ssh(1), by which servers move to other hosts; by default
those of nova-compute's user and of the host.
""",
    ),
    cfg.IntOpt(
        "subid_start",
        default=1879048192,
        min=65536,
        max=4294901760,
        help="""
First of the user and group ids of the host that servers have.

Each server with a user namespace has 65,536 ids of its own, which nothing else
on the host should have. The default range is one that systemd leaves unused:
it is above those that ``useradd`` writes to ``/etc/subuid`` (100000 to
600100000), those of Incus (1000000 to 1001000000) and of systemd-nspawn (524288
to 1879048191), and ends below systemd's range of foreign ids (2147352576).
nova-compute warns if ids are in use. The ids appear on no disk, and may be
changed at any time: a server has its new ones after the next start of the host.
""",
    ),
    cfg.IntOpt(
        "subid_count",
        default=268304384,
        min=65536,
        help="""
Number of the user and group ids for all servers together: 65,536 for each. The
default is enough for 4,094 servers.
""",
    ),
    cfg.StrOpt(
        "nfs_mount_options",
        help="""
Options of mount(8) with which Manila's NFS shares are mounted, comma-separated,
for example ``vers=4.2,softerr``. ``nosuid`` and ``nodev`` are always added.
""",
    ),
    cfg.StrOpt(
        "ceph_mount_options",
        help="""
Options of mount(8) with which Manila's CephFS shares are mounted, comma-separated.
``nosuid`` and ``nodev`` are always added.
""",
    ),
    cfg.IntOpt(
        "share_timeout",
        default=30,
        min=1,
        help="""
For how many seconds nova-compute waits for a share to be mounted or unmounted.

A server whose share cannot be mounted does not start. For the same time
afterwards, no other share of this storage server is mounted.
""",
    ),
    cfg.IntOpt(
        "pids_limit",
        default=4096,
        min=0,
        help="""
Maximum number of processes and threads in a server, whatever its flavor.

A server's own limit follows the memory of its flavor: all servers of a host
together get half of the processes that its kernel allows (the smaller one of the
sysctls ``kernel.pid_max`` and ``kernel.threads-max``), and each server gets the
part of them that its memory is of the memory that Placement gives to servers. A
limit below 32 has no effect. With 0, only the flavor's limit applies.
""",
    ),
    cfg.StrOpt(
        "lxcfs",
        help="""
Mount point of lxcfs on the host, for example ``/var/lib/lxcfs``, so that files in
``/proc`` of servers show their own CPUs, memory, load and uptime. Without it, they show
those of the host.

The path must be that in ``/proc/self/mountinfo``, without symbolic links. It applies
to servers that are created or rebuilt from now on, except those in gVisor, which have
their own files. A server that starts while lxcfs does not answer has the host's files.
When lxcfs was restarted, nova-compute gives running servers its new files, within a
minute; until then, they cannot read these files. See "lxcfs" in the installation guide.
""",
    ),
    cfg.BoolOpt(
        "image_healthcheck",
        default=False,
        help="""
Run the ``HEALTHCHECK`` that an image declares, in servers created from now on.

Nothing in Nova reads the result; ``docker ps`` on the host displays it. The
image, and so the tenant, determines how often it runs, up to once per
millisecond. Each run is work of the engine and of its OCI runtime on the host,
which the server's CPU quota does not limit: one server can keep several CPUs of
the host busy. Enable it only if you trust all images.
""",
    ),
    cfg.BoolOpt(
        "inject_key",
        default=True,
        help="""
Add a new server's SSH key to the ``authorized_keys`` of its administrator:
the user that the image property ``os_admin_user`` names, by default root.

With this, an image needs an SSH server but no cloud-init.
""",
    ),
    cfg.BoolOpt(
        "inject_password",
        default=False,
        help="""
Set the administrator's password in a new server, with the image's
``chpasswd``, as soon as the server is running.

A config drive contains the password regardless of this option.
""",
    ),
    cfg.StrOpt(
        "crash_dump_signal",
        default="SIGQUIT",
        help="""
Signal that ``openstack server dump create`` sends to a server's first process.

On SIGQUIT, programs in Java, Go and some other languages write the state of
their threads to the console log. The signal has no effect on a program that
does not handle it: the kernel shields the first process of a container from
such signals.
""",
    ),
    cfg.IntOpt(
        "console_log_size_mb",
        default=10,
        min=1,
        help="""
Size of a server's console log, in MiB. When it is full, older output is dropped.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options; calling it again has no effect."""
    conf.register_group(docker_group)
    conf.register_opts(docker_opts, group=docker_group)


def list_opts() -> list[tuple[cfg.OptGroup, list[Any]]]:
    """Return the options, for the entry point ``oslo.config.opts``."""
    return [(docker_group, docker_opts)]
