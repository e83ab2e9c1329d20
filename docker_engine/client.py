# SPDX-License-Identifier: Apache-2.0
"""The client for one Docker engine: all parts of the API on one transport."""

from __future__ import annotations

from docker_engine.api.checkpoints import CheckpointsAPI
from docker_engine.api.containers import ContainersAPI
from docker_engine.api.exec import ExecAPI
from docker_engine.api.images import ImagesAPI
from docker_engine.api.system import SystemAPI
from docker_engine.api.volumes import VolumesAPI
from docker_engine.transport.http import Transport
from docker_engine.transport.tls import TLSConfig


class DockerClient(
    SystemAPI, ContainersAPI, ExecAPI, CheckpointsAPI, ImagesAPI, VolumesAPI
):
    """One engine. May be used from several threads.

    Every method raises :class:`docker_engine.errors.DockerError` or a subclass.
    """

    def __init__(
        self,
        host: str = "unix:///var/run/docker.sock",
        *,
        tls: TLSConfig | None = None,
        connect_timeout: float = 5,
        read_timeout: float = 60,
    ) -> None:
        """
        :param host: ``unix:///path`` or ``tcp://address:port``
        :param tls: for ``tcp://``; None for plain HTTP
        :param connect_timeout: seconds
        :param read_timeout: seconds of silence
        :raises ValueError: if ``host`` is malformed
        """
        self.host = host
        self._transport = Transport(
            host, tls=tls, connect_timeout=connect_timeout, read_timeout=read_timeout
        )
