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
Options of the Docker virt driver, which runs servers as containers of a Docker
engine on the same host. They are read when ``compute_driver`` is
``nova_docker.DockerDriver``.
""",
)

docker_opts = [
    *connection_opts(
        host_help="""
The engine must run on the same host as nova-compute, which plugs the ports of its
containers. For the unix socket, add the user of nova-compute to the group that owns the
socket (``docker``).
"""
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
