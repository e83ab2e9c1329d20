# SPDX-License-Identifier: Apache-2.0
"""Bind the shares of a server into its container.

nova-compute mounts them at <share>/<tag> in a directory of the server, which only root
of the host can read.
"""

import re

# Where a server finds them
TOP = "/mnt/shares"
TAG = re.compile(r"[a-zA-Z0-9-]+")


def add(spec, directory):
    """Add the shares of a server to an OCI spec.

    The path in the server may lead anywhere, by the image's symbolic links: runc and
    runsc follow them in the root of the container, and mount nothing on the files of
    the kernel.

    :param directory: below which they are mounted
    :raises ValueError: if a tag is not a name that Nova's API allows
    """
    for tag, source in sorted(of(directory)):
        if not TAG.fullmatch(tag):
            raise ValueError(f"{source} is not a share: unknown tag {tag!r}")
        spec.setdefault("mounts", []).append(
            {
                "type": "bind",
                "destination": f"{TOP}/{tag}",
                "source": source,
                "options": ["bind", "rprivate", "nosuid", "nodev"],
            }
        )


def of(directory):
    """Return tag and path of each mount in a directory, and ask no file system."""
    with open("/proc/self/mountinfo") as lines:
        points = (line.split(" ")[4] for line in lines)
        return [
            (p.rpartition("/")[2], p) for p in points if p.startswith(f"{directory}/")
        ]
