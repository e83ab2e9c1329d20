# SPDX-License-Identifier: Apache-2.0
"""Image names: their grammar, and the reserved repositories.

The grammar is that of the distribution project's reference package.
"""

from __future__ import annotations

import re

# For use in larger patterns.
HOST_PATTERN = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
REPOSITORY_PATTERN = rf"{_COMPONENT}(?:/{_COMPONENT})*"
TAG_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
DIGEST_PATTERN = r"sha256:[0-9a-f]{64}"

#: Registry: ``host`` or ``host:port``
HOST = re.compile(HOST_PATTERN)
#: Repository, without its registry
REPOSITORY = re.compile(rf"(?=.{{1,255}}\Z){REPOSITORY_PATTERN}")
TAG = re.compile(TAG_PATTERN)
DIGEST = re.compile(DIGEST_PATTERN)

# Repositories that nova-compute uses on the engine: for copies of Glance images, and
# for snapshots until they are uploaded to Glance.
GLANCE_REPOSITORY = "nova-glance"
SNAPSHOT_REPOSITORY = "nova-snapshot"
RESERVED_REPOSITORIES = (GLANCE_REPOSITORY, SNAPSHOT_REPOSITORY)


def is_reserved(name: str) -> bool:
    """Return whether a name, ``repository:tag``, is below a reserved repository."""
    return name.startswith(tuple(f"{each}/" for each in RESERVED_REPOSITORIES))
