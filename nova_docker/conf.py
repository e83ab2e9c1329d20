# SPDX-License-Identifier: Apache-2.0
"""The ``[docker]`` options of nova.conf."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

docker_group = cfg.OptGroup(
    "docker",
    title="Docker driver options",
    help="""
Options of the Docker virt driver, which runs servers as containers of a Docker
engine on the same host. They are read when ``compute_driver`` is
``nova_docker.DockerDriver``.
""",
)

docker_opts = [
    cfg.StrOpt(
        "host",
        default="unix:///var/run/docker.sock",
        help="""
Where the Docker engine listens: ``unix:///path/to/docker.sock`` or
``tcp://address:port``.

The engine must run on the same host as nova-compute, which plugs the NICs of
its containers. For the unix socket, put the user of nova-compute in the group
that owns the socket (``docker``). A ``tcp://`` engine is spoken to with TLS
unless ``tls`` is off.

Related options: ``tls``, ``ca_file``, ``cert_file``, ``key_file``.
""",
    ),
    cfg.BoolOpt(
        "tls",
        default=True,
        help="""
Speak TLS to a ``tcp://`` engine.

Whoever can speak to a Docker engine is root on its host: switch this off only
for an engine that listens on loopback on a host with no other users.
""",
    ),
    cfg.BoolOpt(
        "tls_verify",
        default=True,
        help="""
Refuse an engine whose certificate is not signed by ``ca_file`` (or, where that
is not set, by an authority that the system trusts) or is for another name.
""",
    ),
    cfg.StrOpt(
        "ca_file",
        help="Certificate authority that signed the engine's certificate (PEM).",
    ),
    cfg.StrOpt(
        "cert_file",
        help="Client certificate shown to the engine (PEM). Needs ``key_file``.",
    ),
    cfg.StrOpt("key_file", help="Private key of ``cert_file`` (PEM)."),
    cfg.IntOpt(
        "connect_timeout",
        default=5,
        min=1,
        help="Seconds to wait for a connection to the engine.",
    ),
    cfg.IntOpt(
        "read_timeout",
        default=120,
        min=1,
        help="""
Seconds of silence after which a call to the engine is given up. Raise it if
nova-compute reports time-outs while the engine removes large containers on
slow disks. Stopping a server waits for the grace period on top.
""",
    ),
    cfg.StrOpt(
        "registry_auth_file",
        help="""
Credentials for registries, in the form of Docker's ``~/.docker/config.json``: for
images that Glance has not itself but knows in a registry. Nothing of an image can
name other ones. Whom a registry's certificate must be signed by is the engine's
matter (``/etc/docker/certs.d``).
""",
    ),
    cfg.StrOpt(
        "runtime",
        default="nova",
        help="""
Name under which the OCI runtime ``nova-docker-runtime`` is registered with the
engine. It puts a container into the network namespace that nova-compute has
made for it, before any process of it runs. Register it in
``/etc/docker/daemon.json`` and restart the engine::

    {"runtimes": {"nova": {"path": "/usr/local/bin/nova-docker-runtime"}}}

nova-compute refuses to start when the engine does not list it.
""",
    ),
    cfg.StrOpt(
        "network_mode",
        default="none",
        choices=[
            ("none", "A server has the NICs that Neutron gives it, eth0 first."),
            (
                "bridge",
                "A server also has an address of Docker's default bridge, on "
                "eth0; Neutron's NICs follow from eth1. The engine's bridge is "
                "shared by all tenants and knows no security groups.",
            ),
        ],
        help="Whether Docker's own network is there beside Nova's.",
    ),
    cfg.IntOpt(
        "pids_limit",
        default=4096,
        min=0,
        help="""
How many processes and threads a server may have. 0 means no limit, which lets
one server use up the process table of the host.
""",
    ),
    cfg.BoolOpt(
        "inject_key",
        default=True,
        help="""
Put the SSH key of a new server into ``authorized_keys`` of the user that the
image property ``os_admin_user`` names, root by default, so that an image needs
an SSH server but no cloud-init.
""",
    ),
    cfg.BoolOpt(
        "inject_password",
        default=False,
        help="""
Set the administrator's password of a new server by its image's ``chpasswd``, as
soon as it runs. The password is in the config drive, if the server has one,
whatever this option says.
""",
    ),
    cfg.StrOpt(
        "crash_dump_signal",
        default="SIGQUIT",
        help="""
Signal that ``openstack server dump create`` sends to a server's first process.

Java, Go and others write the state of their threads to the console log on
SIGQUIT; a program that does not handle it is not reached, as the first process
of a container is shielded from signals that it has no handler for.
""",
    ),
    cfg.IntOpt(
        "console_log_size_mb",
        default=10,
        min=1,
        help="""
How much of what a server's first process writes is kept for
``openstack console log show``, in MiB; older output is dropped.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the group on ``conf``; more than once does no harm."""
    conf.register_group(docker_group)
    conf.register_opts(docker_opts, group=docker_group)


def list_opts() -> list[tuple[cfg.OptGroup, list[Any]]]:
    """What the ``oslo.config.opts`` entry point shows of this project."""
    return [(docker_group, docker_opts)]
