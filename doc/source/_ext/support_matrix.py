# SPDX-License-Identifier: Apache-2.0
"""The ``support-matrix`` directive: an ini file in Nova's format as a table."""

from __future__ import annotations

import configparser
import pathlib
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from tables import table

WIDTHS = {"Operation": 25, "Status": 15, "Notes": 60}


class SupportMatrix(Directive):
    """``.. support-matrix:: FILE``, relative to the document."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        source = pathlib.Path(self.state.document["source"]).parent / self.arguments[0]
        self.state.document.settings.record_dependencies.add(str(source))
        matrix = configparser.ConfigParser(interpolation=None, delimiters=["="])
        matrix.read(source, encoding="utf-8")
        rows = [
            (row["title"], row["driver.docker"], row.get("driver-notes.docker", ""))
            for name, row in matrix.items()
            if "driver.docker" in row
        ]
        return [table(WIDTHS, rows)]


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("support-matrix", SupportMatrix)
    return {"parallel_read_safe": True}
