# SPDX-License-Identifier: Apache-2.0
"""The driver in fake mode: on the mock engine, with nothing plugged on the host."""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator
from unittest import mock

from docker_engine.mock.client import MockDockerClient
from tests import archives
from tests.unit.nova_docker import fake_volumes


@contextlib.contextmanager
def engine() -> Iterator[MockDockerClient]:
    """Let drivers use a mock engine, whose only image all servers get."""
    client = MockDockerClient()
    client.load_image([archives.busybox_archive(tags=["busybox:latest"])])
    image = client.inspect_image("busybox:latest")
    devices = fake_volumes.Devices()
    with contextlib.ExitStack() as patches:
        directory = patches.enter_context(tempfile.TemporaryDirectory())
        sockets = patches.enter_context(tempfile.TemporaryDirectory())
        for name, replacement in {
            "docker_engine.options.client": lambda group: client,
            # Nova's fake images are those of virtual machines.
            "nova_docker.image.store.ImageStore.check": lambda *args: None,
            "nova_docker.image.store.ImageStore.ensure": lambda *args: image,
            "nova_docker.frozen._DIRECTORY": directory,
            "nova_docker.migration.transport.socket_path": (
                lambda: pathlib.Path(sockets, "socket")
            ),
            "nova_docker.host.isolation._why_not_user": lambda *args: None,
            "nova_docker.privsep.shares.mount": mock.Mock(),
            "nova_docker.privsep.shares.unmount": mock.Mock(),
            "nova_docker.privsep.userns.pin": mock.Mock(),
            "nova_docker.privsep.userns.release": mock.Mock(),
            "nova_docker.privsep.userns.owned_by": lambda owner: [],
            "nova_docker.privsep.network.warm_up": mock.Mock(),
            "nova_docker.privsep.network.plug": mock.Mock(),
            "nova_docker.privsep.network.shape": mock.Mock(),
            "nova_docker.privsep.network.cut": mock.Mock(),
            "nova_docker.privsep.network.reconnect": mock.Mock(),
            "nova_docker.privsep.network.names": lambda netns: {},
            "nova_docker.privsep.network.remove": mock.Mock(),
            "nova_docker.privsep.network.unplug": mock.Mock(),
            "nova_docker.privsep.network.describe": lambda netns: (None, []),
            "nova_docker.host.host.Host.why_no_hot_devices": lambda host: None,
            # Nova's flavors have swap.
            "nova_docker.host.host.Host.refuse_swap": lambda *args: None,
            "nova_docker.volume.mode.devices": devices,
            "nova_docker.volume.volumes.devices": devices,
            "os_brick.initiator.connector.InitiatorConnector.factory": (
                fake_volumes.Connector().factory
            ),
            "os_brick.initiator.connector.get_connector_properties": (
                lambda root_helper, ip, multipath, **more: {
                    "ip": ip,
                    "host": more["host"],
                    "initiator": "iqn.2004-10.org.example:1",
                }
            ),
            "pyroute2.netns.listnetns": list,
            # Nova would read these from its database.
            "nova.objects.Instance.get_network_info": lambda instance: [],
            "nova.objects.BlockDeviceMappingList.get_by_instance_uuid": (
                lambda *args: []
            ),
            "nova.objects.ShareMappingList.get_by_instance_uuid": lambda *args: [],
            "nova.objects.VirtualInterfaceList.get_by_instance_uuid": lambda *args: [],
            "os_vif.plug": mock.Mock(),
            "os_vif.unplug": mock.Mock(),
        }.items():
            patches.enter_context(mock.patch(name, replacement))
        yield client
