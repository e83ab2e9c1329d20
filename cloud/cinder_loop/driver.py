# SPDX-License-Identifier: Apache-2.0
"""A Cinder volume driver for the host on which all servers run.

Each volume and each snapshot is a sparse file. os-brick's connector ``local`` gives a
server the loop device of a volume. This is for a trial: cinder-volume and nova-compute
must run on one host, and the volumes are lost with it.
"""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Any

from cinder.image import image_utils
from cinder.volume import configuration
from cinder.volume import driver
from cinder.volume import volume_utils
from oslo_config import cfg

from cloud.cinder_loop import devices

GIB = 1 << 30

# Two names for one directory, so that volumes can be migrated on a single host.
POOLS = ("first", "second")

OPTIONS = [
    cfg.StrOpt("loop_files", help="Directory of the volumes' and snapshots' files."),
    cfg.StrOpt("loop_links", help="Directory of links to the volumes' devices."),
]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)


class LoopDriver(driver.VolumeDriver):
    """Volumes in sparse files."""

    VERSION = "1.0"

    def __init__(self, *arguments: Any, **values: Any) -> None:
        super().__init__(*arguments, **values)
        self.configuration.append_config_values(OPTIONS)
        self._files = pathlib.Path(self.configuration.loop_files)
        self._links = pathlib.Path(self.configuration.loop_links)

    @staticmethod
    def get_driver_options() -> list[Any]:
        return OPTIONS

    def check_for_setup_error(self) -> None:
        """Fail if the directories cannot be used."""
        for directory in (self._files, self._links):
            os.listdir(directory)

    # Volumes and snapshots

    def create_volume(self, volume: Any) -> None:
        file = self._file(volume)
        file.touch(mode=0o600)
        os.truncate(file, volume.size * GIB)

    def delete_volume(self, volume: Any) -> None:
        devices.detach(self._losetup, self._file(volume), self._link(volume))
        self._file(volume).unlink(missing_ok=True)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Extend a volume, and its device if it is attached."""
        os.truncate(self._file(volume), new_size * GIB)
        devices.resize(self._losetup, self._file(volume))

    def create_snapshot(self, snapshot: Any) -> None:
        self._copy(self._file(snapshot.volume), self._file(snapshot))

    def delete_snapshot(self, snapshot: Any) -> None:
        self._file(snapshot).unlink(missing_ok=True)

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> None:
        self._create_copy(self._file(snapshot), volume)

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        self._create_copy(self._file(src_vref), volume)

    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> None:
        self._create_copy(self._file(snapshot), volume)

    def retype(
        self, context: Any, volume: Any, new_type: Any, diff: Any, host: Any
    ) -> bool:
        """Change the type of a volume: nothing depends on it here."""
        return True

    def migrate_volume(self, context: Any, volume: Any, host: Any) -> tuple[bool, None]:
        """Move a volume to another pool, which has the same directory.

        Cinder lets Nova copy a volume that a server uses.
        """
        there = volume_utils.extract_host(host["host"])
        here = volume_utils.extract_host(volume.host)
        return there == here and not volume.volume_attachment, None

    # Images

    def copy_image_to_volume(
        self,
        context: Any,
        volume: Any,
        image_service: Any,
        image_id: str,
        disable_sparse: bool = False,
    ) -> None:
        file = self._file(volume)
        image_utils.fetch_to_raw(
            context,
            image_service,
            image_id,
            str(file),
            self.configuration.volume_dd_blocksize,
            size=volume.size,
            run_as_root=False,
            disable_sparse=disable_sparse,
        )
        # The file has the size of the image now.
        os.truncate(file, volume.size * GIB)

    def copy_volume_to_image(
        self, context: Any, volume: Any, image_service: Any, image_meta: Any
    ) -> None:
        volume_utils.upload_volume(
            context,
            image_service,
            image_meta,
            str(self._file(volume)),
            volume,
            run_as_root=False,
        )

    # Connections

    def create_export(
        self, context: Any, volume: Any, connector: Any = None
    ) -> dict[str, Any]:
        devices.attach(self._losetup, self._file(volume), self._link(volume))
        return {}

    def ensure_export(self, context: Any, volume: Any) -> dict[str, Any]:
        """Export an attached volume again, when cinder-volume starts."""
        return self.create_export(context, volume)

    def remove_export(self, context: Any, volume: Any) -> None:
        devices.detach(self._losetup, self._file(volume), self._link(volume))

    def initialize_connection(
        self, volume: Any, connector: Any, **values: Any
    ) -> dict[str, Any]:
        return {
            "driver_volume_type": "local",
            "data": {"device_path": str(self._link(volume))},
        }

    def terminate_connection(self, volume: Any, connector: Any, **values: Any) -> bool:
        """Return whether other servers still use the device."""
        return sum(bool(each.connector) for each in volume.volume_attachment) > 1

    # Capacity

    def _update_volume_stats(self) -> None:
        usage = shutil.disk_usage(self._files)
        files = list(self._files.iterdir())
        pool = {
            "total_capacity_gb": usage.total / GIB,
            "free_capacity_gb": usage.free / GIB,
            "provisioned_capacity_gb": sum(f.stat().st_size for f in files) / GIB,
            "max_over_subscription_ratio": (
                self.configuration.max_over_subscription_ratio
            ),
            "reserved_percentage": self.configuration.reserved_percentage,
            "thin_provisioning_support": True,
            "thick_provisioning_support": False,
            "sparse_copy_volume": True,
            "multiattach": True,
            "online_extend_support": True,
            "clone_across_pools": True,
            "QoS_support": False,
        }
        self._stats = {
            "volume_backend_name": self.configuration.volume_backend_name,
            "vendor_name": "nova-docker",
            "driver_version": self.VERSION,
            "storage_protocol": "local",
            "pools": [pool | {"pool_name": name} for name in POOLS],
        }

    def _file(self, resource: Any) -> pathlib.Path:
        """Return the file of a volume or snapshot."""
        return self._files / resource.name

    def _link(self, volume: Any) -> pathlib.Path:
        return self._links / volume.name

    def _create_copy(self, source: pathlib.Path, volume: Any) -> None:
        self._copy(source, self._file(volume))
        os.truncate(self._file(volume), volume.size * GIB)

    def _copy(self, source: pathlib.Path, target: pathlib.Path) -> None:
        """Copy a file with its holes, without its data where the file system can."""
        self._execute("cp", "--reflink=auto", "--sparse=auto", str(source), str(target))

    def _losetup(self, *arguments: str) -> str:
        output, _ = self._execute("losetup", *arguments, run_as_root=True)
        return output
