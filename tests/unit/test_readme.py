# SPDX-License-Identifier: Apache-2.0
"""The map of modules in the README agrees with the tree."""

from __future__ import annotations

import itertools
import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = (
    "cloud",
    "docker_engine",
    "glance_docker",
    "nova_docker",
    "nova_docker_dashboard",
)


def named() -> Iterator[str]:
    """Paths in the first column of the map, with their braces expanded."""
    section = (ROOT / "README.md").read_text().split("\n## Where things are\n")[1]
    for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE):
        for pattern in re.findall(r"`(.*?)`", row):
            parts = re.split(r"{(.*?)}", pattern)
            # What was in braces is at odd positions.
            choices = [p.split(",") if n % 2 else [p] for n, p in enumerate(parts)]
            yield from map("".join, itertools.product(*choices))


def modules() -> Iterator[str]:
    """Paths of all modules. A package's ``__init__`` goes with its modules."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "__init__.py":
                yield str(path.relative_to(ROOT))


def test_the_map_names_every_module():
    folders = tuple(name for name in named() if name.endswith("/"))
    missing = {name for name in modules() if not name.startswith(folders)}
    missing -= set(named())
    assert not missing, f"add to the map in README.md: {sorted(missing)}"


def test_everything_on_the_map_exists():
    gone = [name for name in named() if not (ROOT / name).exists()]
    assert not gone, f"remove from the map in README.md: {sorted(gone)}"


def test_the_map_names_everything_once():
    names = sorted(named())
    assert names == sorted(set(names))


def test_links_in_the_readme_lead_somewhere():
    targets = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert targets
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert not missing, f"links in README.md to missing files: {sorted(missing)}"
