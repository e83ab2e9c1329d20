# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ: whether a service consumes its messages."""

from __future__ import annotations

import amqp  # type: ignore

from cloud import credentials
from cloud.settings import PORTS


def consumes(queue: str) -> bool:
    """Tell whether a service consumes a queue; before it has, messages may get lost."""
    with amqp.Connection(
        host=f"127.0.0.1:{PORTS['rabbitmq']}",
        userid="openstack",
        password=credentials.passwords()["rabbitmq"],
    ) as connection:
        try:
            found = connection.channel().queue_declare(queue, passive=True)
        except amqp.exceptions.NotFound:
            return False
        return found.consumer_count > 0
