# SPDX-License-Identifier: Apache-2.0
"""One server as the container that it is on the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from nova import exception
from nova import objects
from nova.virt.hardware import InstanceInfo

from nova_docker import container
from nova_docker import errors
from nova_docker.client import DockerClient

# As much as Nova's other drivers return.
MAX_CONSOLE_BYTES = 100 * 1024


class Guest:
    """What can be done with one server's container.

    :raises InstanceNotFound: from each method, when the engine has none
    :raises NovaException: from each, when the engine fails, with its message
    """

    def __init__(self, client: DockerClient, instance: objects.Instance) -> None:
        self._client = client
        self._instance = instance
        self._name = container.name_of(instance.uuid)

    def exists(self) -> bool:
        try:
            self.info()
        except exception.InstanceNotFound:
            return False
        return True

    def info(self) -> InstanceInfo:
        """Power state and container id, as ComputeDriver.get_info returns."""
        with self._engine():
            found = self._client.inspect_container(self._name)
        return InstanceInfo(
            state=container.power_state_of(found["State"]["Status"]),
            internal_id=found["Id"],
        )

    def create(self, config: dict[str, Any]) -> None:
        """Create the container, stopped.

        :param config: what :func:`nova_docker.container.config` returned
        :raises InstanceExists: when there is one
        :raises ImageNotFound: when its image has gone from the engine
        :raises InvalidInput: when the engine takes no such container
        """
        with self._engine():
            try:
                self._client.create_container(self._name, config)
            except errors.Conflict as error:
                raise exception.InstanceExists(name=self._instance.name) from error
            except errors.NotFound as error:
                raise exception.ImageNotFound(image_id=config["Image"]) from error

    def start(self) -> None:
        """Run the container's command.

        :raises InvalidInput: when there is no such command in the image
        :raises InstancePowerOnFailure: when it cannot be run for another reason
        """
        try:
            with self._engine():
                self._client.start_container(self._name)
        except (exception.InstanceNotFound, exception.InvalidInput):
            raise
        except exception.NovaException as error:
            raise exception.InstancePowerOnFailure(reason=str(error)) from error

    def stop(self, timeout: int) -> None:
        """Send the image's stop signal, and kill what runs after ``timeout`` s.

        :raises InstancePowerOffFailure: when it cannot be stopped
        """
        try:
            with self._engine():
                self._client.stop_container(self._name, timeout)
        except exception.InstanceNotFound:
            raise
        except exception.NovaException as error:
            raise exception.InstancePowerOffFailure(reason=str(error)) from error

    def remove(self) -> None:
        """Kill and remove the container with its anonymous volumes, if it is."""
        with contextlib.suppress(exception.InstanceNotFound), self._engine():
            self._client.remove_container(self._name, force=True, volumes=True)

    def console_output(self) -> str:
        """The last of what the first process wrote, a character for each byte.

        Nova turns a str into bytes by Latin-1 again.
        """
        with self._engine():
            # No line is shorter than its line feed, so these hold the bytes.
            output = self._client.container_logs(self._name, tail=MAX_CONSOLE_BYTES)
        # Nova counts what follows the last line feed as a line.
        return output.removesuffix(b"\n")[-MAX_CONSOLE_BYTES:].decode("latin-1")

    @contextlib.contextmanager
    def _engine(self) -> Iterator[None]:
        try:
            yield
        except errors.NotFound as error:
            raise exception.InstanceNotFound(instance_id=self._instance.uuid) from error
        except errors.BadRequest as error:
            raise exception.InvalidInput(reason=str(error)) from error
        except errors.DockerError as error:
            raise exception.NovaException(f"The Docker engine: {error}") from error
