# SPDX-License-Identifier: Apache-2.0
"""The ``metadefs`` directive: a Glance metadata definition file as a table."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from tables import table

PACKAGE = pathlib.Path(__file__).parents[3] / "glance_docker" / "metadefs"
WIDTHS = {"Property": 25, "Type": 15, "Meaning": 60}


class Metadefs(Directive):
    """``.. metadefs:: NAME`` documents ``glance_docker/metadefs/NAME.json``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        source = PACKAGE / f"{self.arguments[0]}.json"
        self.state.document.settings.record_dependencies.add(str(source))
        namespace = json.loads(source.read_text(encoding="utf-8"))
        where = ", ".join(
            _resource(**found) for found in namespace["resource_type_associations"]
        )
        summary = nodes.paragraph()
        summary += nodes.literal(text=namespace["namespace"])
        summary += nodes.Text(f", for {where}. {namespace['description']}")
        rows = [
            (name, _type(found), found["description"])
            for name, found in sorted(namespace["properties"].items())
        ]
        return [summary, table(WIDTHS, rows, literal=1)]


def _resource(name: str, prefix: str = "") -> str:
    return f"{name} (prefix {prefix})" if prefix else name


def _type(found: dict[str, Any]) -> str:
    return " | ".join(found.get("enum", [found["type"]]))


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("metadefs", Metadefs)
    return {"parallel_read_safe": True}
