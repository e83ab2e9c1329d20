# SPDX-License-Identifier: Apache-2.0
"""OpenStack Nova servers as Docker containers.

Imported at every start of Python, by :mod:`nova_docker.alias`: it must import
nothing, ``typing`` and ``__future__`` included.
"""


def __getattr__(name: str) -> type:
    """Give Nova ``nova_docker.DockerDriver``, imported when it is asked for.

    The options stay importable, and quickly, where Nova is not installed.
    """
    if name == "DockerDriver":
        from nova_docker.driver import DockerDriver

        return DockerDriver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
