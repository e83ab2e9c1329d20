# SPDX-License-Identifier: Apache-2.0
"""The ``attacks`` directive: the tests that attack, as a table."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from tables import table

TESTS = pathlib.Path(__file__).parents[3] / "tests"
WIDTHS = {"Attack": 20, "What the test tries": 35, "What holds it": 35, "Test": 20}


class Attacks(Directive):
    """``.. attacks::`` lists the tests marked with ``tests.attacks.attack``."""

    def run(self) -> list[nodes.Node]:
        rows = []
        for source in sorted(TESTS.glob("*/hostile/test_*.py")):
            self.state.document.settings.record_dependencies.add(str(source))
            where = source.relative_to(TESTS.parent)
            rows += [
                (sentence(name), sentence(tried), sentence(held_by), f"{where}: {test}")
                for test, name, tried, held_by in attacks(source.read_text("utf-8"))
            ]
        return [table(WIDTHS, rows)]


def attacks(source: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield the name of each test of a module and the arguments of its mark."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "attack":
                    [name] = map(ast.literal_eval, mark.args)
                    found = {k.arg: ast.literal_eval(k.value) for k in mark.keywords}
                    yield node.name, name, found["tried"], found["held_by"]


def sentence(text: str) -> str:
    """Return a cell's text with a capital at its start and no full stop."""
    if not text.startswith("nova-"):  # a program's name stays as it is
        text = text[:1].upper() + text[1:]
    return text.removesuffix(".")


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("attacks", Attacks)
    return {"parallel_read_safe": True}
