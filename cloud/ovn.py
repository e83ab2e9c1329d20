# SPDX-License-Identifier: Apache-2.0
"""OVN: its databases and its chassis."""

from __future__ import annotations

from cloud import commands
from cloud import settings
from cloud.settings import DATA
from cloud.settings import RUN

NORTH = RUN / "ovn/north.sock"
SOUTH = RUN / "ovn/south.sock"

_SBCTL = ("ovn-sbctl", f"--db=unix:{SOUTH}", "--timeout=10")


def make_databases() -> None:
    """Create OVN's databases, once: they contain Neutron's networks."""
    for name, schema in (("north", "ovn-nb"), ("south", "ovn-sb")):
        path = DATA / f"ovn/{name}.db"
        if not path.exists():
            source = f"/usr/share/ovn/{schema}.ovsschema"
            commands.run("ovsdb-tool", "create", path, source, user=settings.USER)


def has_chassis(host: str) -> bool:
    """Tell whether the ovn-controller of a host has registered it as a chassis."""
    found = commands.output(
        *_SBCTL,
        "--bare",
        "--columns=name",
        "find",
        "Chassis",
        f"hostname={host}",
        check=False,
    )
    return bool(found.strip())


def add_chassis(name: str) -> None:
    """Register a host without a switch, so that Neutron binds ports to it."""
    commands.run(
        *_SBCTL,
        *("--may-exist", "chassis-add", name, "geneve", "127.0.0.2"),
        *("--", "set", "Chassis", name, f"hostname={name}"),
    )


def remove_chassis(name: str) -> None:
    """Forget a host, which has no ports any more."""
    commands.run(*_SBCTL, "--if-exists", "chassis-del", name)


def metadata_namespaces() -> list[str]:
    """Return the network namespaces that serve metadata, one per network."""
    files = (RUN / "metadata/ovn-metadata-proxy").glob("*.conf")
    return [f"ovnmeta-{file.stem}" for file in files]
