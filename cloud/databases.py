# SPDX-License-Identifier: Apache-2.0
"""MariaDB and the schemas in it."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable

from cloud import commands
from cloud import packages
from cloud import settings
from cloud.settings import BIN
from cloud.settings import DATA
from cloud.settings import ETC
from cloud.settings import memory

SOCKET = settings.RUN / "mariadb/mariadb.sock"

NAMES = (
    "keystone",
    "placement",
    "glance",
    "neutron",
    "nova_api",
    "nova_cell0",
    "nova_cell1",
)


def url(name: str) -> str:
    """Return SQLAlchemy's URL of a database; there is one account for all."""
    password = settings.secrets()["database"]
    return (
        f"mysql+pymysql://openstack:{password}@localhost/{name}"
        f"?unix_socket={SOCKET}&charset=utf8mb4"
    )


def prepare() -> None:
    """Make MariaDB's data directory, once."""
    if memory.get("mariadb_data"):
        return
    commands.run(
        "/usr/bin/mariadb-install-db",
        f"--defaults-file={ETC}/mariadb.cnf",
        "--auth-root-authentication-method=socket",
        "--skip-test-db",
        "--skip-name-resolve",
    )
    memory.set("mariadb_data", True)


def make() -> None:
    """Make the databases and their account."""
    sql(
        *(f"CREATE DATABASE IF NOT EXISTS {name}" for name in NAMES),
        "CREATE USER IF NOT EXISTS openstack@localhost"
        f" IDENTIFIED BY '{settings.secrets()['database']}'",
        "GRANT ALL ON *.* TO openstack@localhost",
    )


def sql(*statements: str) -> list[list[str]]:
    """Run statements as MariaDB's root; return the rows that they print."""
    printed = commands.output(
        "/usr/bin/mariadb",
        f"--defaults-file={ETC}/mariadb.cnf",
        "--user=root",
        "--batch",
        "--skip-column-names",
        f"--execute={';'.join(statements)}",
    )
    return [line.split("\t") for line in printed.splitlines()]


def sync_keystone() -> None:
    _once("keystone", _keystone)


def sync_placement() -> None:
    _once("placement", lambda: _manage("placement", "db", "sync"))


def sync_glance() -> None:
    _once("glance", lambda: _manage("glance", "db_sync"))


def load_metadefs() -> None:
    """Have Glance describe the properties that this project gives a meaning."""
    revision = packages.project_revision()
    if memory.get("metadefs") != revision:
        packages_of = (settings.VENV / "lib").glob("python3*/site-packages")
        path = next(packages_of) / "glance_docker/metadefs"
        # PATH, MERGE, PREFER_NEW, OVERWRITE
        _manage("glance", "db_load_metadefs", str(path), "yes", "", "yes")
        memory.set("metadefs", revision)


def sync_neutron() -> None:
    _once(
        "neutron",
        lambda: _as_nova(
            BIN / "neutron-db-manage",
            f"--config-file={ETC}/neutron/neutron.conf",
            "upgrade",
            "heads",
        ),
    )


def sync_nova_api() -> None:
    _once("nova_api", lambda: _manage("nova", "api_db", "sync"))


def sync_nova() -> None:
    _once("nova", _nova)


def map_hosts() -> None:
    """Map hosts that Nova's scheduler has not, having seen them under a name before."""
    _manage("nova", "cell_v2", "discover_hosts", "--by-service")


def instances() -> list[str]:
    """Return the uuids of the servers that Nova knows."""
    rows = sql("SELECT uuid FROM nova_cell1.instances WHERE deleted = 0")
    return [uuid for (uuid,) in rows]


def images() -> list[str]:
    """Return the ids of Glance's images, deleted ones included."""
    return [image for (image,) in sql("SELECT id FROM glance.images")]


def _manage(service: str, *arguments: str, **env: str) -> None:
    """Run keystone-manage, placement-manage, and so on."""
    files = {
        "glance": ["glance-api.conf"],
        "nova": ["nova.conf", "databases.conf"],
    }.get(service, [f"{service}.conf"])
    _as_nova(
        BIN / f"{service}-manage",
        *(f"--config-file={ETC}/{service}/{name}" for name in files),
        *arguments,
        **env,
    )


def _as_nova(*command: str | pathlib.Path, **env: str) -> None:
    env = commands.clean_env(**env)
    commands.run(*command, env=env, user=settings.USER)


def _once(name: str, action: Callable[[], None]) -> None:
    key = f"schema_{name}"
    revision = packages.openstack_revision()
    if memory.get(key) != revision:
        action()
        memory.set(key, revision)


def _keystone() -> None:
    _manage("keystone", "db_sync")
    _manage("keystone", "fernet_setup")
    _manage(
        "keystone",
        "bootstrap",
        f"--bootstrap-region-id={settings.REGION}",
        f"--bootstrap-admin-url={settings.AUTH_URL}",
        f"--bootstrap-internal-url={settings.AUTH_URL}",
        f"--bootstrap-public-url={settings.AUTH_URL}",
        OS_BOOTSTRAP_PASSWORD=settings.secrets()["admin"],
    )


def _nova() -> None:
    """Fill cell1's schema, copy it for cell0, and map both cells."""
    if memory.get("schema_nova"):
        # Another release: the cells are there, and are not to be filled anew.
        _manage("nova", "db", "sync")
        return
    _manage("nova", "db", "sync", "--local_cell")
    # Both have the same schema, and the second migration would take as long.
    with tempfile.TemporaryFile(dir=DATA) as dump:
        commands.run(
            "/usr/bin/mariadb-dump",
            f"--defaults-file={ETC}/mariadb.cnf",
            "--user=root",
            "nova_cell1",
            stdout=dump,
        )
        dump.seek(0)
        commands.run(
            "/usr/bin/mariadb",
            f"--defaults-file={ETC}/mariadb.cnf",
            "--user=root",
            "nova_cell0",
            stdin=dump,
        )
    cell0 = f"--database_connection={url('nova_cell0')}"
    _manage("nova", "cell_v2", "map_cell0", cell0)
    _manage("nova", "cell_v2", "create_cell", "--name=cell1")
