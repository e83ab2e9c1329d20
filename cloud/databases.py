# SPDX-License-Identifier: Apache-2.0
"""MariaDB, and the databases of OpenStack's services in it."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable

from cloud import commands
from cloud import credentials
from cloud import settings
from cloud.install import python_packages
from cloud.settings import BIN
from cloud.settings import DATA
from cloud.settings import ETC
from cloud.state import state

SOCKET = settings.RUN / "mariadb/mariadb.sock"

NAMES = (
    "cinder",
    "keystone",
    "placement",
    "glance",
    "heat",
    "neutron",
    "nova_api",
    "nova_cell0",
    "nova_cell1",
)


def url(name: str) -> str:
    """Return the SQLAlchemy URL of a database; all services share one account."""
    password = credentials.passwords()["database"]
    return (
        f"mysql+pymysql://openstack:{password}@localhost/{name}"
        f"?unix_socket={SOCKET}&charset=utf8mb4"
    )


def make_data_directory() -> None:
    """Create MariaDB's data directory, once."""
    if state.get("mariadb_data"):
        return
    commands.run(
        "/usr/bin/mariadb-install-db",
        f"--defaults-file={ETC}/mariadb.cnf",
        "--auth-root-authentication-method=socket",
        "--skip-test-db",
        "--skip-name-resolve",
    )
    state.set("mariadb_data", True)


def make_databases() -> None:
    """Create the databases and the account of the services."""
    sql(
        *(f"CREATE DATABASE IF NOT EXISTS {name}" for name in NAMES),
        "CREATE USER IF NOT EXISTS openstack@localhost"
        f" IDENTIFIED BY '{credentials.passwords()['database']}'",
        "GRANT ALL ON *.* TO openstack@localhost",
    )


def sql(*statements: str) -> list[list[str]]:
    """Run SQL statements as MariaDB's root, and return the rows of their results."""
    # On standard input: all users of the machine can read command lines.
    printed = commands.output(
        "/usr/bin/mariadb",
        f"--defaults-file={ETC}/mariadb.cnf",
        "--user=root",
        "--batch",
        "--skip-column-names",
        stdin=";\n".join(statements),
    )
    return [line.split("\t") for line in printed.splitlines()]


def sync_keystone() -> None:
    _once_per_release("keystone", _keystone)


def sync_placement() -> None:
    _once_per_release("placement", lambda: _manage("placement", "db", "sync"))


def sync_glance() -> None:
    _once_per_release("glance", lambda: _manage("glance", "db_sync"))


def sync_heat() -> None:
    _once_per_release("heat", lambda: _manage("heat", "db_sync"))


def load_metadefs() -> None:
    """Load this project's metadata definitions into Glance."""
    revision = python_packages.project_revision()
    if state.get("metadefs") != revision:
        site_packages = (settings.VENV / "lib").glob("python3*/site-packages")
        path = next(site_packages) / "glance_docker/metadefs"
        # PATH, MERGE, PREFER_NEW, OVERWRITE
        _manage("glance", "db_load_metadefs", str(path), "yes", "", "yes")
        state.set("metadefs", revision)


def sync_neutron() -> None:
    _once_per_release(
        "neutron",
        lambda: _as_nova(
            BIN / "neutron-db-manage",
            f"--config-file={ETC}/neutron/neutron.conf",
            "upgrade",
            "heads",
        ),
    )


def sync_cinder() -> None:
    _once_per_release("cinder", lambda: _manage("cinder", "db", "sync"))


def sync_nova_api() -> None:
    _once_per_release("nova_api", lambda: _manage("nova", "api_db", "sync"))


def sync_nova() -> None:
    _once_per_release("nova", _nova)


def map_hosts() -> None:
    """Map compute hosts to their cell.

    Nova's scheduler does this by itself, but not for a host that has come back under
    a name that it has seen before.
    """
    _manage("nova", "cell_v2", "discover_hosts", "--by-service")


def audit_placement() -> None:
    """Remove the allocations that neither a server nor a migration has any more."""
    # Its exit status tells what it has found.
    _manage("nova", "placement", "audit", "--delete", check=False)


def instances() -> list[str]:
    """Return the UUIDs of the servers in Nova's database."""
    rows = sql("SELECT uuid FROM nova_cell1.instances WHERE deleted = 0")
    return [uuid for (uuid,) in rows]


def forget_services(host: str) -> None:
    """Remove the records of a host's deleted services.

    Nova deletes none for good, and looks at the state of the oldest one: a new host of
    the same name would count as down.
    """
    sql(f"DELETE FROM nova_cell1.services WHERE deleted != 0 AND host = '{host}'")


def migrations() -> list[str]:
    """Return the UUIDs of all resizes and moves, also of servers that are deleted."""
    rows = sql("SELECT uuid FROM nova_cell1.migrations")
    return [uuid for (uuid,) in rows]


def images() -> list[str]:
    """Return the ids of Glance's images, including deleted ones."""
    return [image for (image,) in sql("SELECT id FROM glance.images")]


def _manage(service: str, *arguments: str, check: bool = True, **env: str) -> None:
    """Run the ``-manage`` command of a service, such as keystone-manage.

    :raises QuickstartError: if it fails, unless ``check`` is False
    """
    files = {
        "glance": ["glance-api.conf"],
        "nova": ["nova.conf", "databases.conf"],
    }.get(service, [f"{service}.conf"])
    _as_nova(
        BIN / f"{service}-manage",
        *(f"--config-file={ETC}/{service}/{name}" for name in files),
        *arguments,
        check=check,
        **env,
    )


def _as_nova(*command: str | pathlib.Path, check: bool = True, **env: str) -> None:
    env = commands.clean_env(**env)
    commands.run(*command, env=env, user=settings.USER, check=check)


def _once_per_release(name: str, action: Callable[[], None]) -> None:
    """Run ``action`` unless it has run with the installed release of OpenStack."""
    key = f"schema_{name}"
    revision = python_packages.openstack_revision()
    if state.get(key) != revision:
        action()
        state.set(key, revision)


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
        OS_BOOTSTRAP_PASSWORD=credentials.passwords()["admin"],
    )


def _nova() -> None:
    """Create the schema of cell1, copy it to cell0, and map both cells."""
    if state.get("schema_nova"):
        # The cells exist, from another release: migrate both.
        _manage("nova", "db", "sync")
        return
    _manage("nova", "db", "sync", "--local_cell")
    # Both have the same schema, and a copy is faster than a second migration.
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
    # Nova fills the braces in from its configuration, which has the password.
    cell0 = "{scheme}://{username}:{password}@{hostname}/nova_cell0?{query}"
    _manage("nova", "cell_v2", "map_cell0", f"--database_connection={cell0}")
    _manage("nova", "cell_v2", "create_cell", "--name=cell1")
