# SPDX-License-Identifier: Apache-2.0
"""``./quickstart tempest``, with a few of Tempest's tests."""

from __future__ import annotations

import re
import subprocess

from tests.cloud import cloud


def tempest(tests):
    return subprocess.run(
        [cloud.QUICKSTART, "tempest", tests],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_tempest_tests_pass_and_are_counted():
    done = tempest(
        r"test_server_basic_ops|keypairs\.test_keypairs\.|diagnostics|"
        # These ping servers that are paused and suspended.
        r"test_server_connectivity_(pause_unpause|suspend_resume)"
    )
    assert done.returncode == 0, done.stdout
    [counts] = re.findall(r"(?m)^Tempest: (.*)$", done.stdout)
    passed, rest = counts.split(" ", 1)
    assert int(passed) > 7
    # cloud/tempest/skips.toml leaves out one of the tests of diagnostics.
    assert rest == "passed, 0 failed, 0 skipped, 1 left out"
    assert "Nova's own list of five" in done.stdout


def test_a_regex_that_matches_no_test_fails():
    done = tempest("no such test")
    assert done.returncode == 1
    assert "no test matches no such test" in done.stdout
