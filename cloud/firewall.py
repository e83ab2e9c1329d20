# SPDX-License-Identifier: Apache-2.0
"""The netfilter rules that keep servers away from the services of the host."""

from __future__ import annotations

import shutil

from cloud import commands
from cloud import settings

RULES = settings.ETC / "nftables.conf"


def apply() -> None:
    """Replace the cloud's table of rules, in one transaction.

    The host's other tables stay as they are: each of them can still reject a packet.
    """
    commands.run("nft", "--file", RULES)


def remove() -> None:
    """Remove the table, if it exists."""
    # A cloud of an earlier version did not need nft.
    if shutil.which("nft", path=settings.PATH):
        commands.run("nft", "delete", "table", "inet", settings.FIREWALL, check=False)
