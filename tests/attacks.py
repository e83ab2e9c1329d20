# SPDX-License-Identifier: Apache-2.0
"""Marks a test as an attack by a hostile tenant.

Such tests are in ``tests/functional/hostile`` (on a real engine) and
``tests/cloud/hostile`` (through the APIs of a real cloud). Each carries out one attack
and asserts that it does no harm. The security page of the documentation lists them.
"""

from __future__ import annotations

import pytest


def attack(name: str, *, tried: str, held_by: str) -> pytest.MarkDecorator:
    """Describe the attack that a test carries out.

    The arguments are literals: the documentation is built without running the tests.

    :param name: what the attacker is after, in a few words
    :param tried: what the test does, with a tenant's means only
    :param held_by: what keeps it from doing harm
    """
    return pytest.mark.attack(name=name, tried=tried, held_by=held_by)
