# SPDX-License-Identifier: Apache-2.0
"""How OpenStack's constraints and our requirements become one constraints file."""

from __future__ import annotations

import pathlib
import sys

import pytest

from tools import make_constraints

UPPER = """\
# A comment
oslo.config===10.3.0
Foo_Bar===1.0  # why
setuptools===80.0
old===1.0;python_version=='3.10'
old===2.0;python_version>='3.11'
"""

TOX_INI = """\
[testenv]
deps =
    -c {tox_root}/constraints.txt
    -r {tox_root}/requirements.txt
[testenv:other]
deps =
    -c {tox_root}/constraints-other.txt
    nova==33.*
[testenv:style]
deps =
    -c {tox_root}/constraints.txt
    ruff
[testenv:none]
deps = mypy
"""


def test_openstack_decides_what_we_leave_open():
    kept = make_constraints.overlay(UPPER, ["oslo.config>=8.6.0", "ours==1.0"])
    assert "oslo.config===10.3.0" in kept
    assert not any(line.startswith("ours") for line in kept)


@pytest.mark.parametrize("ours", ["oslo.config==10.7.0", "Oslo_Config>=10.4"])
def test_our_requirement_replaces_a_constraint_that_contradicts_it(ours, capsys):
    kept = make_constraints.overlay(UPPER, [ours])
    assert "oslo.config===10.3.0" not in kept
    assert "Foo_Bar===1.0" in kept
    assert "oslo-config: OpenStack has ===10.3.0" in capsys.readouterr().out


def test_names_are_compared_in_their_canonical_form():
    assert "Foo_Bar===1.0" in make_constraints.overlay(UPPER, ["foo.bar>=0.5"])
    assert "Foo_Bar===1.0" not in make_constraints.overlay(UPPER, ["foo.bar>=2"])


def test_all_our_requirements_on_a_name_count():
    assert not make_constraints.overlay("a===1.0", ["a", "a==2.*", "a>=0.5"])


def test_markers_are_left_for_pip_to_evaluate():
    kept = make_constraints.overlay(UPPER, [])
    assert "old===1.0;python_version=='3.10'" in kept
    assert "old===2.0;python_version>='3.11'" in kept


def test_the_parts_of_an_environment_itself_are_not_constrained():
    kept = make_constraints.overlay(UPPER, [])
    assert not any(line.startswith("setuptools") for line in kept)
    assert "pip==" not in make_constraints.render({"pip": "26.0", "a": "1"}, "x")


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        ("constraints.txt", ["-r {tox_root}/requirements.txt", "ruff"]),
        ("constraints-other.txt", ["nova==33.*"]),
    ],
)
def test_requirements_are_those_of_environments_with_that_file(file, lines):
    assert list(make_constraints.tox_requirements(TOX_INI, file)) == lines


def test_files_of_requirements_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(make_constraints, "ROOT", tmp_path)
    (tmp_path / "a.txt").write_text("# why\n-r b.txt\na>=1  # because\n\n")
    (tmp_path / "b.txt").write_text("b\n")
    lines = ["-r {tox_root}/a.txt", "c"]
    assert list(make_constraints.expand(lines)) == ["b", "a>=1", "c"]


def test_the_file_is_sorted_and_says_where_it_is_from():
    text = make_constraints.render({"b": "2", "B.a": "1", "A": "3"}, "https://x/y")
    assert text.splitlines()[-4:] == [
        "# from this project's requirements and https://x/y",
        "A==3",
        "b==2",
        "B.a==1",
    ]


def test_the_file_names_no_directory_of_the_machine_it_was_made_on():
    text = make_constraints.render({}, "/home/me/upper-constraints.txt")
    assert text.endswith("requirements and upper-constraints.txt\n")


def test_an_unreachable_source_is_reported(monkeypatch):
    missing = str(pathlib.Path(__file__).with_name("missing"))
    monkeypatch.setenv("UPPER_CONSTRAINTS_FILE", missing)
    monkeypatch.setattr(sys, "argv", ["make_constraints.py", "constraints.txt", "1"])
    with pytest.raises(
        SystemExit, match=r"(?s)cannot read .*missing.*TOX_CONSTRAINTS_FILE"
    ):
        make_constraints.main()
