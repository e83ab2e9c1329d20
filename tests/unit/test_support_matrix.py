# SPDX-License-Identifier: Apache-2.0
"""The documented support matrix says what the driver's code says."""

import csv
import pathlib

import pytest
from nova.virt.driver import ComputeDriver

from nova_docker.driver import DockerDriver

MATRIX = pathlib.Path(__file__).parents[2] / "doc/source/support-matrix.csv"
ROWS = list(csv.DictReader(MATRIX.open()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["Operation"])
def test_row(row):
    implemented = {
        getattr(DockerDriver, method) is not getattr(ComputeDriver, method)
        for method in row["Driver methods"].split()
    }
    expected = {"complete": {True}, "partial": {True}, "missing": {False}}
    assert implemented == expected[row["Status"]]


def test_every_method_of_the_driver_has_a_row():
    listed = {method for row in ROWS for method in row["Driver methods"].split()}
    own = {
        name
        for name, value in vars(DockerDriver).items()
        if callable(value) and not name.startswith("_") and hasattr(ComputeDriver, name)
    }
    assert own - listed == {"cleanup_host", "init_host"}
