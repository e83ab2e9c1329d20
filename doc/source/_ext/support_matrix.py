# SPDX-License-Identifier: Apache-2.0
"""The directive ``support-matrix``: an ini file in the form of Nova's, as a table."""

from __future__ import annotations

import configparser
import pathlib
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

WIDTHS = {"Operation": 25, "Status": 15, "Notes": 60}


class SupportMatrix(Directive):
    """``.. support-matrix:: file``, in the directory of the document."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        source = pathlib.Path(self.state.document["source"]).parent / self.arguments[0]
        self.state.document.settings.record_dependencies.add(str(source))
        matrix = configparser.ConfigParser(interpolation=None, delimiters=["="])
        matrix.read(source, encoding="utf-8")
        group = nodes.tgroup(cols=len(WIDTHS))
        group += [nodes.colspec(colwidth=width) for width in WIDTHS.values()]
        head, body = nodes.thead(), nodes.tbody()
        head += _row(*WIDTHS)
        for name in matrix.sections():
            if not name.startswith("driver."):
                row = matrix[name]
                notes = row.get("driver-notes.docker", "")
                body += _row(row["title"], row["driver.docker"], notes)
        group += [head, body]
        table = nodes.table()
        table += group
        return [table]


def _row(*texts: str) -> nodes.row:
    row = nodes.row()
    for text in texts:
        entry = nodes.entry()
        entry += nodes.paragraph(text=text)
        row += entry
    return row


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("support-matrix", SupportMatrix)
    return {"parallel_read_safe": True}
