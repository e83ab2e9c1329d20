# SPDX-License-Identifier: Apache-2.0
"""State that outlives a run of the quickstart, and the lock on its directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

from cloud import settings
from cloud.errors import QuickstartError


class State:
    """A dictionary in a JSON file, safe to use from several threads."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def _load(self) -> dict[str, Any]:
        try:
            return json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}

    def get(self, key: str, default: Any = None) -> Any:
        return self._load().get(key, default)

    def set(self, key: str, value: Any) -> None:
        with self._lock:
            values = self._load()
            values[key] = value
            temporary = self._path.with_suffix(".new")
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps(values, indent=1) + "\n")
            temporary.rename(self._path)


# The passwords, the engine in use, what has been created outside the state
# directory (a purge removes it), and which steps need not run again. The file's name
# and keys must not change: a cloud that is up keeps them across an upgrade.
state = State(settings.STATE / "memory.json")


@contextlib.contextmanager
def state_lock() -> Iterator[None]:
    """Create the state directory if necessary, and lock it.

    :raises QuickstartError: when another quickstart holds the lock
    """
    while True:
        settings.STATE.mkdir(parents=True, exist_ok=True)
        fd = os.open(settings.STATE, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise QuickstartError(
                    f"another quickstart is using {settings.STATE}; "
                    "try again when it has finished"
                ) from None
            # A purge may have removed the directory between open and flock.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(settings.STATE)):
                    yield
                    return
        finally:
            os.close(fd)
