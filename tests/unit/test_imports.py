# SPDX-License-Identifier: Apache-2.0
"""Imports run one way: docker_engine imports neither Nova nor Glance nor its users."""

from __future__ import annotations

import ast
import graphlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

import docker_engine

ROOT = pathlib.Path(docker_engine.__file__).parent.parent

USERS = ("glance_docker", "nova_docker")

# Packages that a package must not import, at the top of a module or in a function.
FORBIDDEN = {
    "docker_engine": {"nova", "glance", "glance_store", *USERS},
    "glance_docker": {"nova", "nova_docker", "nova_docker_dashboard"},
    "nova_docker": {"glance", "glance_store", "glance_docker", "nova_docker_dashboard"},
    "nova_docker_dashboard": {"nova", "glance", "docker_engine", *USERS},
}


def modules(package: str) -> dict[str, pathlib.Path]:
    """Return the files of a package's modules, by dotted name, with sub-packages."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imported(path: pathlib.Path) -> Iterator[str]:
    """Yield the dotted names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            assert not node.level, f"{path} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in OWN else node.module


OWN = {name for package in FORBIDDEN for name in modules(package)}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_the_modules_of_each_package_are_found(package):
    assert len(modules(package)) > 4


@pytest.mark.parametrize(
    ("name", "path"),
    [found for package in FORBIDDEN for found in modules(package).items()],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_module_imports_a_forbidden_package(name, path):
    package = name.partition(".")[0]
    top_level = {found.partition(".")[0] for found in imported(path)}
    assert not top_level & FORBIDDEN[package]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_are_not_circular(package):
    own = modules(package)
    graph = {
        name: {i for i in imported(path) if i in own} for name, path in own.items()
    }
    # A module's implicit import of its parent package does not count.
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("package", ["docker_engine", "glance_docker"])
def test_all_modules_can_be_imported_without_nova(package):
    blocked = FORBIDDEN[package] - {"glance_store"}
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
    code += "\n".join(f"import {name}" for name in modules(package))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
