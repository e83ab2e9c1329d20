# SPDX-License-Identifier: Apache-2.0
"""Compare the documented support matrix with the driver and the cloud tests."""

import ast
import configparser
import pathlib

import pytest
from nova.virt.driver import ComputeDriver

from nova_docker.driver import DockerDriver

ROOT = pathlib.Path(__file__).parents[2]
MATRIX = configparser.ConfigParser(interpolation=None, delimiters=["="])
MATRIX.read(ROOT / "doc/source/user/support-matrix.ini", encoding="utf-8")
ROWS = [MATRIX[name] for name in MATRIX.sections() if not name.startswith("driver.")]

# Whether the driver overrides a row's methods; it may do so only to refuse.
IMPLEMENTED = {
    "complete": {True},
    "partial": {True},
    "missing": {False},
    "not-meaningful": {True, False},
}


def words(row, key):
    return row.get(f"driver-{key}.docker", "").split()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(row):
    status = row["driver.docker"]
    found = {
        # Nova 33 does not have them all.
        getattr(DockerDriver, method) is not getattr(ComputeDriver, method, None)
        for method in words(row, "methods")
    }
    assert found <= IMPLEMENTED[status]
    assert row["title"]
    assert words(row, "tests") if status == "complete" else words(row, "notes")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_tests_that_a_row_names_are_of_the_cloud_and_exist(row):
    for test in words(row, "tests"):
        path, name = test.split("::")
        assert path.startswith(("tests/cloud/test_", "tests/cloud/hostile/test_"))
        assert name in functions(ROOT / path)


def functions(path):
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_method_of_the_driver_has_a_row():
    listed = {method for row in ROWS for method in words(row, "methods")}
    own = {
        name
        for name, value in vars(DockerDriver).items()
        if callable(value) and not name.startswith("_") and hasattr(ComputeDriver, name)
    }
    assert own - listed == {"cleanup_host", "init_host"}
