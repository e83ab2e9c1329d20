# SPDX-License-Identifier: Apache-2.0
"""Tables for the directives of this documentation."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from docutils import nodes


def table(
    widths: Mapping[str, int], rows: Iterable[Sequence[str]], *, literal: int = 0
) -> nodes.table:
    """Return a table of plain text.

    :param widths: relative width of each column, by its title
    :param literal: how many of the first columns are set as code
    """
    group = nodes.tgroup(cols=len(widths))
    group += [nodes.colspec(colwidth=width) for width in widths.values()]
    head, body = nodes.thead(), nodes.tbody()
    head += _row(list(widths), 0)
    body += [_row(row, literal) for row in rows]
    group += [head, body]
    result = nodes.table()
    result += group
    return result


def _row(texts: Sequence[str], literal: int) -> nodes.row:
    row = nodes.row()
    for index, text in enumerate(texts):
        paragraph = nodes.paragraph()
        paragraph += nodes.literal(text=text) if index < literal else nodes.Text(text)
        entry = nodes.entry()
        entry += paragraph
        row += entry
    return row
