# SPDX-License-Identifier: Apache-2.0
"""The compute host: the abilities of its engine, and its resources for Nova."""

from __future__ import annotations

import functools
import os
import shutil
import time
from typing import Any

import os_resource_classes as orc
import psutil
from nova import conf as nova_conf
from nova import exception
from nova.objects import fields
from oslo_log import log as logging
from oslo_serialization import jsonutils
from oslo_utils import units
from oslo_utils import versionutils

from docker_engine import errors
from docker_engine.api.checkpoints import restores
from docker_engine.client import DockerClient
from nova_docker.container import init
from nova_docker.container import isolation
from nova_docker.container import limits
from nova_docker.container import pinning
from nova_docker.container import settings
from nova_docker.container import volume_mode
from nova_docker.host import cgroup
from nova_docker.host import cpu
from nova_docker.host import disk
from nova_docker.host import kernel
from nova_docker.host import numa
from nova_docker.host.isolation import Isolation
from nova_docker.host.lxcfs import Lxcfs
from nova_docker.storage.space import DiskSpace

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# Storage drivers that can limit a container's size on any file system.
_QUOTA_DRIVERS = ("btrfs", "zfs")

# Where the engine looks for programs; this process's PATH may lack some of them.
_SBIN = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin")


class Host:
    """The host of one engine. Call :meth:`connect` before anything else."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self._info: dict[str, Any] = {}
        self._memory_ratio: float = (
            CONF.ram_allocation_ratio or CONF.initial_ram_allocation_ratio
        )
        #: The levels of isolation that the host has
        self.isolation = Isolation()
        #: The free space of the file system with the engine's data
        self.space = DiskSpace(lambda: self.data_root)
        #: What shows servers their own CPUs, memory and uptime
        self.lxcfs = Lxcfs(client)

    def connect(self, runtime: str) -> None:
        """Check that servers can run on the engine, and log what it cannot do.

        Engine call: GET /info

        :param runtime: name of the OCI runtime that must be registered
        :raises NovaException: if the engine is unreachable, denies access, is too old
            or does not have the runtime, or if the host cannot isolate servers, or
            divide its CPUs, as configured
        """
        try:
            self._info = self._client.info()
        except errors.DockerError as error:
            raise exception.NovaException(
                f"Cannot use the Docker engine: {error}"
            ) from error
        if runtime not in self._info.get("Runtimes", {}):
            raise exception.NovaException(
                f"The Docker engine has no OCI runtime {runtime!r}: register "
                "nova-docker-runtime under this name in the engine's daemon.json, or "
                "set [docker]runtime to the name under which it is registered"
            )
        self.isolation.connect(self._info, self._info["Runtimes"][runtime])
        numa.cpu_sets()
        if not self.disk_quota:
            LOG.warning(
                "The Docker engine's storage driver %s cannot limit the size of root "
                "disks: Nova accounts for root_gb of flavors, but nothing enforces it. "
                "Use btrfs, zfs, or overlay2 on xfs mounted with pquota",
                self._info.get("Driver"),
            )
        if low := kernel.too_low(kernel.read()):
            LOG.warning(
                "A single server can use up limits of the kernel that all servers "
                "share with this host: %s. Install etc/sysctl.d/60-nova-docker.conf: "
                'see "Limits of the kernel" in the installation guide',
                kernel.describe(low),
            )
        if reason := self._cannot_save_memory:
            LOG.info("Servers will be suspended in memory, not to disk: %s", reason)
        else:
            LOG.info(
                "Servers without a user namespace (docker:isolation=shared) will be "
                "suspended to disk with %s, others in memory",
                _criu(),
            )

    @property
    def engine_id(self) -> str:
        """An identifier that is unique among the engines of this host.

        The engine's own ID is not: before Docker 23, all engines of a host read it
        from the same file in /etc.
        """
        return f"{self._info['ID']} {self._info['DockerRootDir']}"

    @property
    def data_root(self) -> str:
        """The directory in which the engine keeps images and containers."""
        return str(self._info["DockerRootDir"])

    @property
    def disk_quota(self) -> bool:
        """Whether the storage driver can limit the size of a container."""
        driver = self._info.get("Driver")
        return driver in _QUOTA_DRIVERS or (
            driver == "overlay2" and _has_project_quota(self._info["DockerRootDir"])
        )

    @functools.cached_property
    def disk_device(self) -> str | None:
        """The block device below the engine's data, None if its I/O has no limits."""
        return disk.device_of(self.data_root) if cgroup.limits_io() else None

    @property
    def checkpoints(self) -> bool:
        """Whether the engine has the checkpoint API; creating one also needs CRIU."""
        return bool(self._info.get("ExperimentalBuild"))

    @property
    def missing_inits(self) -> dict[str, str]:
        """Why servers cannot have an init, by :mod:`nova_docker.container.init`."""
        missing = {}
        if reason := cgroup.why_not_delegated(self._info):
            missing[init.SYSTEMD] = reason
        # It is the engine's own name, or a path. Some engines look for it in more
        # directories, but then they know its version.
        program = self._info.get("InitBinary") or init.DOCKER_INIT
        commit = (self._info.get("InitCommit") or {}).get("ID")
        if commit in (None, "N/A") and _program(program) is None:
            missing[init.DOCKER_INIT] = (
                f"the Docker engine does not find {program}; install it (it is tini), "
                "or set init-path in the engine's daemon.json"
            )
        return missing

    def why_no_hot_devices(self) -> str | None:
        """Return why no server that runs can get or lose a block device, or None."""
        return cgroup.why_no_hot_devices(self._info)

    def why_no_moves(self) -> str | None:
        """Return why no server can move from this host or to it, or None.

        The files of a server are in one directory with overlay2 only.
        """
        driver = self._info.get("Driver")
        if driver != "overlay2":
            return (
                f"the Docker engine's storage driver is {driver}, and servers can move "
                "only between hosts with overlay2"
            )
        return None

    @property
    def saves_memory(self) -> bool:
        """Whether servers can be suspended to disk."""
        return self._cannot_save_memory is None

    @property
    def _cannot_save_memory(self) -> str | None:
        if not self.checkpoints:
            return "experimental features of the Docker engine are not enabled"
        version = self._info["ServerVersion"]
        if not restores(version):
            return f"Docker {version} writes checkpoints that it cannot restore"
        return "criu is not installed" if _criu() is None else None

    @property
    def architecture(self) -> str:
        """One of nova.objects.fields.Architecture."""
        return fields.Architecture.canonicalize(self._info["Architecture"])

    @property
    def _memory_mb(self) -> int:
        memory: int = self._info["MemTotal"] // units.Mi
        return memory

    @functools.cached_property
    def _cpus(self) -> dict[str, Any]:
        return cpu.describe(self.architecture)

    def resources(self) -> dict[str, Any]:
        """Return what ComputeDriver.get_available_resource does, in MiB and GiB."""
        memory = psutil.virtual_memory()
        disk = self._disk()
        sets = numa.cpu_sets()
        return {
            "vcpus": len(sets.shared) if sets.configured else self._info["NCPU"],
            "memory_mb": self._memory_mb,
            "local_gb": disk.total // units.Gi,
            # Nova's resource tracker adds up what servers use.
            "vcpus_used": 0,
            "memory_mb_used": (memory.total - memory.available) // units.Mi,
            "local_gb_used": disk.used // units.Gi,
            "disk_available_least": disk.free // units.Gi,
            "hypervisor_type": fields.HVType.DOCKER,
            "hypervisor_version": versionutils.convert_version_to_int(
                self._info["ServerVersion"].partition("+")[0].partition("-")[0]
            ),
            "hypervisor_hostname": CONF.host,
            "cpu_info": jsonutils.dumps(self._cpus),
            "supported_instances": [
                (self.architecture, fields.HVType.DOCKER, fields.VMMode.EXE)
            ],
            "numa_topology": numa.topology(sets)._to_json(),
        }

    def limits(self, flavor: Any, level: str, topology: Any = None) -> dict[str, Any]:
        """Return a flavor's limits on this host, except that of the root disk.

        :param level: the server's, of :mod:`nova_docker.container.isolation`
        :param topology: what Nova has chosen for a server with dedicated CPUs
        :returns: as :func:`nova_docker.container.limits.limits` returns them, with the
            CPUs on which the server runs if the configuration divides them
        """
        pids = limits.pids(
            flavor.memory_mb,
            budget=kernel.processes_of_servers(),
            servers_memory_mb=self._memory_mb * self._memory_ratio,
            most=settings.pids(flavor, CONF.docker.pids_limit),
            gvisor=level == isolation.GVISOR,
        )
        return limits.limits(flavor, pids=pids) | self._cpuset(topology)

    def refuse_swap(self, flavor: Any) -> None:
        """Refuse a flavor with swap that servers of this host would not get.

        :raises InvalidInput: as :func:`nova_docker.container.limits.refuse_swap` does
        """
        limits.refuse_swap(
            flavor,
            accounted=bool(self._info.get("SwapLimit")),
            host_mb=psutil.swap_memory().total // units.Mi,
        )

    def _cpuset(self, topology: Any) -> dict[str, str]:
        sets = numa.cpu_sets()
        if not sets.configured:
            return {}
        shared = {cell.id: cell.cpuset for cell in numa.topology(sets).cells}
        return pinning.pinned(topology, shared) or pinning.floating(sets.shared, shared)

    def inventory(self, ratios: dict[str, float], disk_reserved: int) -> dict[str, Any]:
        """Return the host's inventory for Placement, by resource class.

        :meth:`limits` uses the ratio of memory from then on.

        :param ratios: allocation ratio by resource class
        :param disk_reserved: GiB that are not available to servers
        """
        self._memory_ratio = ratios[orc.MEMORY_MB]
        sets = numa.cpu_sets()
        vcpus = len(sets.shared) if sets.configured else self._info["NCPU"]
        amounts = {
            orc.VCPU: (vcpus, CONF.reserved_host_cpus),
            orc.PCPU: (len(sets.dedicated), 0),
            orc.MEMORY_MB: (self._memory_mb, CONF.reserved_host_memory_mb),
            orc.DISK_GB: (self._disk().total // units.Gi, disk_reserved),
        }
        return {
            resource: {
                "total": total,
                "min_unit": 1,
                "max_unit": total,
                "step_size": 1,
                # Nobody shares a dedicated CPU.
                "allocation_ratio": ratios.get(resource, 1.0),
                "reserved": reserved,
            }
            for resource, (total, reserved) in amounts.items()
            # Placement rejects an inventory with a total of 0.
            if total
        }

    def cpu_stats(self) -> dict[str, int]:
        """Return what ComputeDriver.get_host_cpu_stats does, in ns and MHz."""
        spent = psutil.cpu_times()
        frequency = psutil.cpu_freq()
        return {
            name: int(seconds * 10**9)
            for name, seconds in {
                "kernel": spent.system + spent.irq + spent.softirq,
                "idle": spent.idle,
                "user": spent.user + spent.nice,
                "iowait": spent.iowait,
            }.items()
        } | {"frequency": int(frequency.current) if frequency else 0}

    @staticmethod
    def nic_counters() -> dict[str, Any]:
        """Return the traffic counters of the host's network devices, by name."""
        return psutil.net_io_counters(pernic=True)

    def traits(self) -> dict[str, bool]:
        """Return the traits that the driver manages, each with whether the host has it.

        Nova itself reports the traits of ComputeDriver.capabilities.
        """
        return {
            **cpu.traits(self._cpus),
            **self.isolation.traits(),
            **volume_mode.traits(mounts=CONF.docker.mount_volumes),
        }

    def uptime(self) -> str:
        """Return the uptime in the format of uptime(1), which API users parse."""
        up = int(time.time() - psutil.boot_time())
        days, minutes = up // 86400, up // 60 % 1440
        load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
        return (
            f"{time.strftime('%H:%M:%S')} up {days} days, "
            f"{minutes // 60:2}:{minutes % 60:02},  {len(psutil.users())} users,  "
            f"load average: {load}"
        )

    def _disk(self) -> Any:
        return psutil.disk_usage(self._info["DockerRootDir"])


def _criu() -> str | None:
    """Return the path of CRIU's program, if it is installed."""
    return _program("criu")


def _program(name: str) -> str | None:
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN])
    return shutil.which(name, path=path)


def _has_project_quota(path: str) -> bool:
    """Return whether a directory is on a file system mounted with project quota."""
    mount = disk.mount_of(path)
    options = mount.opts.split(",") if mount else ()
    return "prjquota" in options or "pquota" in options
