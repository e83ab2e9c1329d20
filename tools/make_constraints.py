# SPDX-License-Identifier: Apache-2.0
"""Make a constraints file from OpenStack's upper constraints and our requirements.

Pip resolves the requirements of every tox environment that uses the file. OpenStack's
constraints decide the version of what they name, unless a requirement of ours excludes
it. Of everything else, pip chooses the newest version that fits.
`tox -e constraints` and `tox -e constraints-nova33` run this.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parents[1]
URL = "https://releases.openstack.org/constraints/upper/{}"

# OpenStack's names for "use this file, or URL, instead of the published one".
VARIABLES = ("TOX_CONSTRAINTS_FILE", "UPPER_CONSTRAINTS_FILE")

# Parts of a virtual environment itself, which each environment chooses.
NOT_CONSTRAINED = {"pip", "setuptools", "wheel"}

HEADER = """\
# One set of releases that works together, so that tests give the same result on
# every machine. Do not edit it: tools/make_constraints.py made it on Python {python}
# from this project's requirements and {source}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", help="constraints file to write, as tox.ini names it")
    parser.add_argument("series", help="OpenStack series, such as 2026.2")
    parser.add_argument(
        "requirements",
        nargs="*",
        help="requirements beside those in tox.ini; a name that ends in .txt is a file",
    )
    arguments = parser.parse_args()

    source = next(filter(None, map(os.environ.get, VARIABLES)), "")
    source = source or URL.format(arguments.series)
    extra = (f"-r {n}" if n.endswith(".txt") else n for n in arguments.requirements)
    lines = [*tox_requirements((ROOT / "tox.ini").read_text(), arguments.file), *extra]
    requirements = sorted(set(expand(lines)))
    upper = overlay(read(source), requirements)
    chosen = resolve(requirements, upper)
    (ROOT / arguments.file).write_text(render(chosen, source))


def read(source: str) -> str:
    """Return the text at a URL or path; exit with a message if that fails."""
    try:
        if "://" not in source:
            return pathlib.Path(source).read_text()
        with urllib.request.urlopen(source, timeout=60) as response:
            return response.read().decode()
    except (OSError, urllib.error.URLError) as error:
        sys.exit(
            f"make_constraints.py: cannot read {source}: {error}\n"
            f"Set {VARIABLES[0]} to another URL of OpenStack's upper constraints, or "
            "to the path of a copy."
        )


def tox_requirements(tox_ini: str, file: str) -> Iterator[str]:
    """Yield the deps of the environments in tox.ini that ``file`` constrains."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(tox_ini)
    for name in parser.sections():
        deps = parser.get(name, "deps", fallback="").split("\n")
        if f"-c {{tox_root}}/{file}" in deps:
            yield from (line for line in deps if line and not line.startswith("-c"))


def expand(lines: Iterable[str]) -> Iterator[str]:
    """Yield requirements, with those of a file in place of ``-r FILE``."""
    for line in lines:
        text = line.partition("#")[0].strip().replace("{tox_root}/", "")
        if text.startswith("-r"):
            yield from expand((ROOT / text[2:].strip()).read_text().splitlines())
        elif text:
            yield text


def overlay(upper: str, requirements: Iterable[str]) -> list[str]:
    """Return OpenStack's constraints without those that contradict our requirements.

    Environment markers stay: pip evaluates them.
    """
    ours: dict[str, SpecifierSet] = {}
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        ours[name] = ours.get(name, SpecifierSet()) & requirement.specifier
    kept = []
    for line in upper.splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        constraint = Requirement(text)
        name = canonicalize_name(constraint.name)
        allowed = ours.get(name, SpecifierSet())
        versions = [part.version for part in constraint.specifier]
        if not all(allowed.contains(v, prereleases=True) for v in versions):
            print(f"{name}: OpenStack has {constraint.specifier}, we need {allowed}")
        elif name not in NOT_CONSTRAINED:
            kept.append(text)
    return kept


def resolve(requirements: Iterable[str], upper: Iterable[str]) -> dict[str, str]:
    """Return the version of each distribution that pip would install."""
    with tempfile.TemporaryDirectory() as directory:
        wanted = pathlib.Path(directory, "requirements.txt")
        wanted.write_text("\n".join(requirements))
        constraints = pathlib.Path(directory, "constraints.txt")
        constraints.write_text("\n".join(upper))
        report = pathlib.Path(directory, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", f"--report={report}"]
        command += [f"--requirement={wanted}", f"--constraint={constraints}"]
        if subprocess.run(command, check=False).returncode:
            sys.exit("make_constraints.py: pip found no set of releases; see above")
        found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return {item["name"]: item["version"] for item in found}


def render(chosen: Mapping[str, str], source: str) -> str:
    """Return the text of a constraints file.

    :param source: URL or path of OpenStack's constraints; the file names the URL, or
        the last part of the path
    """
    if "://" not in source:
        source = pathlib.Path(source).name
    header = HEADER.format(python=platform.python_version(), source=source)
    names = sorted(chosen, key=canonicalize_name)
    return header + "".join(
        f"{name}=={chosen[name]}\n"
        for name in names
        if canonicalize_name(name) not in NOT_CONSTRAINED
    )


if __name__ == "__main__":
    main()
