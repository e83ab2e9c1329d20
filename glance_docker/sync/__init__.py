# SPDX-License-Identifier: Apache-2.0
"""glance-docker-sync keeps Glance's images equal to the tags on one engine.

It compares states and does not replay events: an event only means that it is time
to compare. So it misses nothing that happened while it, Glance or the engine was
down.
"""

from glance_docker.sync.cli import main

__all__ = ["main"]
