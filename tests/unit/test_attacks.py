# SPDX-License-Identifier: Apache-2.0
"""Every hostile test says what it attacks, so that the documentation can list it."""

from __future__ import annotations

import ast
import pathlib

import pytest

TESTS = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
    "module",
    sorted(TESTS.glob("*/hostile/test_*.py")),
    ids=lambda path: str(path.relative_to(TESTS)),
)
def test_every_hostile_test_is_marked_as_an_attack(module):
    tests = [
        node
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert tests
    for test in tests:
        assert any("attack(" in ast.unparse(mark) for mark in test.decorator_list), (
            f"mark {test.name} with tests.attacks.attack"
        )
