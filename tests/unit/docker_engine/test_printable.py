# SPDX-License-Identifier: Apache-2.0
"""Text of others in messages."""

from __future__ import annotations

import pytest

from docker_engine import errors
from docker_engine.archive.errors import ArchiveError
from docker_engine.printable import printable
from docker_engine.registry.errors import RegistryError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("No such image: bücher/π:latest", "No such image: bücher/π:latest"),
        ("\x1b[2J\x9b2J", r"\x1b[2J\x9b2J"),
        ("a\r\nERROR forged\tline\0", r"a\r\nERROR forged\tline\x00"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udc80", r"\udc80"),
        (r"C:\n", r"C:\n"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


def test_long_text_is_cut():
    assert printable("x" * 10, 10) == "x" * 10
    cut = printable("x" * 11, 10)
    assert cut == "x" * 9 + "…"
    assert printable(cut, 10) == cut
    assert len(printable("\0" * 10**6)) < 5000


@pytest.mark.parametrize("error", [errors.EngineError, ArchiveError, RegistryError])
def test_errors_are_fit_for_a_log(error):
    raised = error("exec: \x1b[31mred\nforged")
    assert str(raised) == r"exec: \x1b[31mred\nforged"
