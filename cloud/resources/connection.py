# SPDX-License-Identifier: Apache-2.0
"""Connections to the cloud's APIs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openstack
from openstack.connection import Connection

from cloud import credentials
from cloud.settings import REGION


def connect(user: str = "admin") -> Connection:
    return openstack.connection.Connection(
        auth=credentials.of_user(user), region_name=REGION
    )


def find_or_create(
    find: Callable[..., Any], create: Callable[..., Any], name: str, **values: Any
) -> Any:
    return find(name) or create(name=name, **values)
