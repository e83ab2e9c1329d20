# SPDX-License-Identifier: Apache-2.0
"""What the cloud says about servers, and what its host has: read, never changed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import pathlib
import subprocess
import time
from typing import Any

import psutil
from openstack import exceptions
from ovsdbapp.backend.ovs_idl import connection as ovsdb
from ovsdbapp.schema.open_vswitch import impl_idl
from pyroute2 import IPRoute
from pyroute2 import netns

from cloud import databases
from cloud import open_vswitch
from cloud import settings
from cloud import supervisor
from cloud.services import services
from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.reference import SNAPSHOT_REPOSITORY
from nova_docker import rescue
from nova_docker.container import naming
from nova_docker.privsep import netns_admin
from nova_docker.privsep import network
from nova_docker.privsep import userns_admin
from tests.cloud import cloud
from tests.cloud import outages

OVSDB = f"unix:{open_vswitch.FIRST.socket}"
CONFIG_DRIVES = settings.DATA / "nova/docker-config-drives"
COUNT_SECONDS = 2.5  # in which a server counts on
PLACEMENT = {"OpenStack-API-Version": "placement 1.12"}
COMPUTE = {"OpenStack-API-Version": "compute 2.84"}


@dataclasses.dataclass(frozen=True)
class Server:
    """A server, as Nova shows it.

    :ivar power: its power state, of :mod:`nova.compute.power_state`
    """

    name: str
    status: str
    task: str | None = None
    power: int | None = None


@dataclasses.dataclass(frozen=True)
class Container:
    """A container of a server.

    :ivar status: the engine's
    :ivar uuid: of the server
    """

    status: str
    uuid: str


@dataclasses.dataclass
class Observation:
    """The state of the cloud and of its host at one time.

    :ivar servers: by UUID
    :ivar migrations: UUIDs of resizes that are not confirmed or reverted
    :ivar ended: UUIDs of all other resizes
    :ivar up: whether Nova considers nova-compute up
    :ivar containers: by name
    :ivar counting: UUIDs of servers whose first process has worked meanwhile
    :ivar answering: UUIDs of servers that answered a ping
    :ivar uncounted: UUIDs of servers that do not count
    :ivar namespaces: names of servers' network namespaces
    :ivar devices: names of the namespaces that host devices belong to, by device
    :ivar switch: UUID of the server of each port of the switch, by port
    :ivar broken: ports of the switch whose device is missing
    :ivar config_drives: UUIDs
    :ivar snapshots: tags of snapshots on the engine
    :ivar untagged: ids of images without a tag
    :ivar volumes: the engine's volumes that no container uses
    :ivar refused: those of them that the engine may refuse to remove until it restarts
    :ivar orphans: mounts, directories and shims of no container
    :ivar allocations: consumers of the host's resources in Placement
    :ivar ports: device ID of Neutron's ports of servers, by port
    :ivar daemons: the number of nova-compute's privileged daemons
    :ivar compute: memory (MiB), descriptors and threads of nova-compute, and ``pid``
    """

    servers: dict[str, Server] = dataclasses.field(default_factory=dict)
    migrations: set[str] = dataclasses.field(default_factory=set)
    ended: set[str] = dataclasses.field(default_factory=set)
    up: bool = True
    containers: dict[str, Container] = dataclasses.field(default_factory=dict)
    counting: set[str] = dataclasses.field(default_factory=set)
    answering: set[str] = dataclasses.field(default_factory=set)
    uncounted: set[str] = dataclasses.field(default_factory=set)
    namespaces: set[str] = dataclasses.field(default_factory=set)
    devices: dict[str, str] = dataclasses.field(default_factory=dict)
    switch: dict[str, str] = dataclasses.field(default_factory=dict)
    broken: set[str] = dataclasses.field(default_factory=set)
    config_drives: set[str] = dataclasses.field(default_factory=set)
    snapshots: set[str] = dataclasses.field(default_factory=set)
    untagged: set[str] = dataclasses.field(default_factory=set)
    volumes: set[str] = dataclasses.field(default_factory=set)
    refused: set[str] = dataclasses.field(default_factory=set)
    orphans: set[str] = dataclasses.field(default_factory=set)
    allocations: set[str] = dataclasses.field(default_factory=set)
    ports: dict[str, str] = dataclasses.field(default_factory=dict)
    daemons: int = 0
    compute: dict[str, int] = dataclasses.field(default_factory=dict)


class Observer:
    """Looks at the cloud as its operator can."""

    def __init__(self) -> None:
        # The program runs as root and needs no privsep daemon.
        for context in (netns_admin, userns_admin):
            context.set_client_mode(False)
        self._admin = cloud.connect("admin")
        self._host = cloud.environment()["DOCKER_HOST"]
        self.engine = DockerClient(self._host)
        self._root = pathlib.Path(self.engine.info()["DockerRootDir"])
        self._provider = self._admin.placement.get(
            f"/resource_providers?name={settings.HOST}", headers=PLACEMENT
        ).json()["resource_providers"][0]["uuid"]
        schema = ovsdb.OvsdbIdl.from_server(OVSDB, "Open_vSwitch")
        self._switch = impl_idl.OvsdbIdl(ovsdb.Connection(schema, timeout=20))
        private = self._admin.network.find_network("private").id
        self._inside = f"ovnmeta-{private}"

    def services_ready(self) -> bool:
        """Return whether all services of the cloud run and work."""
        states = {each["name"]: each["statename"] for each in supervisor.states()}
        return all(
            states.get(service.name) == "RUNNING" and service.ready()
            for service in services()
        )

    def look(self) -> Observation:
        """Return the present state, which takes a few seconds.

        :raises Exception: if a service does not answer
        """
        # Servers come last: what belongs to one that is being created or deleted just
        # now must not look like a leak.
        seen = Observation()
        self._look_at_host(seen)
        self._look_at_engine(seen)
        self._look_at_openstack(seen)
        return seen

    def _look_at_host(self, seen: Observation) -> None:
        for name in netns.listnetns():
            with contextlib.suppress(OSError):
                owner = network.describe(name)[0] or ""
                if str(self._root) in owner:
                    seen.namespaces.add(name)
        with IPRoute() as host:
            aliases = {
                # The name of the namespace, and perhaps more
                link.get("ifname"): (link.get("ifalias") or "").partition(" ")[0]
                for link in host.get_links()
            }
        # Other engines of the host have devices, too.
        others = set(netns.listnetns()) - seen.namespaces
        seen.devices = {
            device: alias
            for device, alias in aliases.items()
            if alias.startswith(naming.PREFIX) and alias.split()[0] not in others
        }
        columns = ("name", "external_ids", "error")
        for row in self._switch.db_list("Interface", columns=columns).execute(
            check_error=True
        ):
            if "vm-uuid" in row["external_ids"]:
                seen.switch[row["name"]] = row["external_ids"]["vm-uuid"]
                if row["error"]:
                    seen.broken.add(row["name"])
        if CONFIG_DRIVES.exists():
            seen.config_drives = {path.name for path in CONFIG_DRIVES.iterdir()}
        seen.daemons = len(outages.privsep_daemons())
        if process := cloud.nova_compute():
            with contextlib.suppress(psutil.NoSuchProcess):
                seen.compute = {
                    "pid": process.pid,
                    "rss_mib": process.memory_info().rss // 2**20,
                    "fds": process.num_fds(),
                    "threads": process.num_threads(),
                }

    def _look_at_engine(self, seen: Observation) -> None:
        found = {}
        for item in self.engine.list_containers(filters=naming.SERVERS):
            with contextlib.suppress(errors.ContainerNotFound):
                inspected = self.engine.inspect_container(item["Id"])
                found[inspected["Id"]] = inspected
        for item in found.values():
            uuid = item["Config"]["Labels"][naming.UUID_LABEL]
            seen.containers[item["Name"].lstrip("/")] = Container(
                item["State"]["Status"], uuid
            )
        seen.counting = _counting(found.values())
        for image in self.engine.list_images():
            tags = [tag for tag in image["RepoTags"] or () if tag != "<none>:<none>"]
            if not tags:
                seen.untagged.add(image["Id"])
            seen.snapshots |= {
                t for t in tags if t.startswith(f"{SNAPSHOT_REPOSITORY}/")
            }
        unused = self.engine.list_volumes({"dangling": ["true"]})
        seen.volumes = {volume["Name"] for volume in unused}
        seen.refused = {
            volume["Name"]
            for volume in unused
            if rescue.LABEL in (volume["Labels"] or {})
            and datetime.datetime.fromisoformat(volume["CreatedAt"])
            < self._engine_started()
        }
        seen.orphans = self._orphans(found)

    @staticmethod
    def _engine_started() -> datetime.datetime:
        """Return when the engine was started."""
        started = psutil.Process(supervisor.state("dockerd")["pid"]).create_time()
        return datetime.datetime.fromtimestamp(started, datetime.UTC)

    def _orphans(self, containers: dict[str, Any]) -> set[str]:
        """Return what the engine has left of containers that it no longer lists."""
        known = {found["Id"] for found in self.engine.list_containers()} | set(
            containers
        )
        layers = self._root / "image/overlay2/layerdb/mounts"
        found = {
            f"directory {path}"
            for directory in (self._root / "containers", layers)
            for path in directory.iterdir()
            if path.name not in known
        }
        merged = {
            item["GraphDriver"]["Data"]["MergedDir"]
            for item in containers.values()
            if item["State"]["Running"]
        }
        volumes = {
            mount["Source"]
            for item in containers.values()
            for mount in item["Mounts"]
            if mount["Type"] == "volume"
        }
        for part in pathlib.Path("/proc/self/mounts").read_text().splitlines():
            point = part.split()[1]
            if not point.startswith(f"{self._root}/"):
                continue
            of_container = any(f"/containers/{each}/" in point for each in known)
            if not (point in merged or point in volumes or of_container):
                found.add(f"mount {point}")
        found |= {f"shim of {shim}" for shim in set(outages.shims()) - known}
        return found

    def _look_at_openstack(self, seen: Observation) -> None:
        seen.ports = {
            port.id: port.device_id
            for port in self._admin.network.ports()
            if port.device_owner.startswith("compute:") or not port.device_owner
        }
        url = f"/resource_providers/{self._provider}/allocations"
        allocations = self._admin.placement.get(url, headers=PLACEMENT)
        allocations.raise_for_status()
        seen.allocations = set(allocations.json()["allocations"])
        migrations = self._admin.compute.get("/os-migrations", microversion="2.59")
        seen.migrations = {
            found["uuid"]
            for found in migrations.json()["migrations"]
            if found["status"]
            not in ("confirmed", "reverted", "error", "failed", "done")
        }
        # The API does not list those of deleted servers.
        seen.ended = set(databases.migrations()) - seen.migrations
        [compute] = self._admin.compute.services(
            binary="nova-compute", host=settings.HOST
        )
        seen.up = compute.state == "up"
        found = list(self._admin.compute.servers(all_projects=True))
        seen.servers = {
            server.id: Server(
                server.name, server.status, server.task_state, server.power_state
            )
            for server in found
        }
        seen.uncounted = {s.id for s in found if not s.name.startswith("soak")}
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for uuid in pool.map(self._answering, found):
                seen.answering.add(uuid)

    def _answering(self, server: Any) -> str:
        """Return a server's UUID if it answers a ping from its network, or nothing."""
        with contextlib.suppress(exceptions.SDKException, KeyError, IndexError):
            [address, *_] = (
                found["addr"]
                for found in server.addresses["private"]
                if found["version"] == 4 and found["OS-EXT-IPS:type"] == "fixed"
            )
            ping = ["ping", "-q", "-c", "2", "-i", "0.5", "-W", "1", address]
            done = subprocess.run(
                ["ip", "netns", "exec", self._inside, *ping],
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode > 1:  # 1: no answer
                raise RuntimeError(f"cannot ping: {done.stderr}")
            return server.id if done.returncode == 0 else ""
        return ""


def _counting(containers: Any) -> set[str]:
    """Return the UUIDs of the servers whose count goes on."""
    files = {
        item["Config"]["Labels"][naming.UUID_LABEL]: pathlib.Path(
            f"/proc/{item['State']['Pid']}/root/count"
        )
        for item in containers
        if item["State"]["Running"] and item["State"]["Pid"]
    }
    before = {uuid: _read(path) for uuid, path in files.items()}
    time.sleep(COUNT_SECONDS)
    return {
        uuid
        for uuid, path in files.items()
        if (now := _read(path)) is not None and now != before[uuid]
    }


def _read(path: pathlib.Path) -> int | None:
    for _ in range(3):
        try:
            # The file is empty for a moment whenever it is written.
            return int(path.read_text())
        except ValueError:
            time.sleep(0.01)
        except OSError:
            return None
    return None
