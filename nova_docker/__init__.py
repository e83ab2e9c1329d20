# SPDX-License-Identifier: Apache-2.0
"""A Nova virt driver whose servers are Docker containers.

Python imports this module whenever it starts (see :mod:`nova_docker.alias`), so it must
import nothing, not even ``typing`` or ``__future__``.
"""


def __getattr__(name: str) -> type:
    """Import ``nova_docker.DockerDriver`` on first use.

    The options can thus be imported quickly, and without Nova.
    """
    if name == "DockerDriver":
        from nova_docker.driver import DockerDriver

        return DockerDriver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
