# SPDX-License-Identifier: Apache-2.0
"""reno's ``release-notes`` directive, which also works without git history.

reno takes the version of a note from git's tags. A source distribution has none, and
a shallow clone lacks commits: all notes are then listed under the installed version.
"""

from __future__ import annotations

import pathlib
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from dulwich.errors import NotGitRepository
from dulwich.repo import Repo
from reno import config
from reno import formatter
from reno.sphinxext import ReleaseNotesDirective
from sphinx.util.nodes import nested_parse_with_titles

ROOT = pathlib.Path(__file__).parents[3]


class Notes:
    """The notes of the tree, with the part of reno's loader that its formatter uses.

    :param version: the version under which all notes are listed
    """

    def __init__(self, version: str) -> None:
        self._version = version

    def __getitem__(self, version: str) -> list[tuple[str, str]]:
        notes = sorted((ROOT / "releasenotes" / "notes").glob("*.yaml"))
        return [(str(path), self._version) for path in notes]

    def parse_note_file(self, name: str, sha: str) -> dict[str, Any]:
        return yaml.safe_load(pathlib.Path(name).read_text(encoding="utf-8"))


class ReleaseNotes(ReleaseNotesDirective):
    """``.. release-notes::``"""

    def run(self) -> list[nodes.Node]:
        if _has_history():
            # reno would look for a repository from the working directory.
            self.options.setdefault("reporoot", str(ROOT))
            return super().run()
        version = self.state.document.settings.env.config.release
        settings = config.Config(str(ROOT))
        text = formatter.format_report(Notes(version), settings, [version])
        node = nodes.section()
        node.document = self.state.document
        lines = StringList(text.splitlines(), source="release notes")
        nested_parse_with_titles(self.state, lines, node)
        return node.children


def _has_history() -> bool:
    """Whether git has tags, and all commits that reno would look at."""
    try:
        with Repo(str(ROOT)) as repository:
            tags = repository.refs.as_dict(b"refs/tags")
            return bool(tags) and not repository.get_shallow()
    except NotGitRepository:
        return False


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("release-notes", ReleaseNotes)
    return {"parallel_read_safe": True}
