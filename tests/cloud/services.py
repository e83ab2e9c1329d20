# SPDX-License-Identifier: Apache-2.0
"""The processes of the cloud, started anew by tests."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

from cloud import services
from cloud import settings
from cloud import supervisor

NOVA_CONF = settings.ETC / "nova/nova.conf"


def restart(name: str) -> None:
    """Start a service anew, and wait until it is ready."""
    [service] = [each for each in services.services() if each.name == name]
    supervisor.stop(name)
    supervisor.start(service)


@contextlib.contextmanager
def configured(path: pathlib.Path, old: str, new: str, *names: str) -> Iterator[None]:
    """Change a configuration file in the block, for services that are restarted."""
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    try:
        for name in names:
            restart(name)
        yield
    finally:
        path.write_text(before)
        for name in names:
            restart(name)
