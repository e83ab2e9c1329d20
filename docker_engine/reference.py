# SPDX-License-Identifier: Apache-2.0
"""Names of images: their grammar, and the repositories that are reserved.

The grammar is that of the distribution project's reference package, without
registries and tags that the rest of this package has no use for.
"""

from __future__ import annotations

import re

# Parts of patterns, for composing others.
HOST_PATTERN = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
REPOSITORY_PATTERN = rf"{_COMPONENT}(?:/{_COMPONENT})*"
TAG_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
DIGEST_PATTERN = r"sha256:[0-9a-f]{64}"

#: ``host`` or ``host:port`` of a registry
HOST = re.compile(HOST_PATTERN)
#: a repository's name, without its registry
REPOSITORY = re.compile(rf"(?=.{{1,255}}\Z){REPOSITORY_PATTERN}")
TAG = re.compile(TAG_PATTERN)
DIGEST = re.compile(DIGEST_PATTERN)

# Repositories of images that nova-compute keeps on the engine for its own use: copies
# of Glance images, and snapshots that are on their way to Glance.
GLANCE_REPOSITORY = "nova-glance"
SNAPSHOT_REPOSITORY = "nova-snapshot"
RESERVED_REPOSITORIES = (GLANCE_REPOSITORY, SNAPSHOT_REPOSITORY)
