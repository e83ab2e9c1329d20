# SPDX-License-Identifier: Apache-2.0
"""The command line of ./quickstart; tests/cloud tests what its verbs do."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

from cloud import __main__ as quickstart
from cloud import operating
from cloud import parts
from cloud import settings
from cloud import state
from cloud.hosts import host as hosts

ROOT = pathlib.Path(__file__).parents[3]

NO_OPTIONS = {"number": None, **dict.fromkeys(parts.ALL, False)}
VERBS = (
    "up",
    "status",
    "logs",
    "restart",
    "host",
    "env",
    "systemd",
    "tempest",
    "down",
    "completion",
)


@pytest.fixture(autouse=True)
def no_action(monkeypatch, tmp_path):
    """Let no test get as far as running a verb, or see the cloud of this machine."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(state.state, "_path", tmp_path / "memory.json")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["env", "nobody"], "no user 'nobody'; the users are admin and demo"),
        (["env", "demo", "demo"], "unexpected arguments: demo"),
        (["status", "now"], "unexpected arguments: now"),
        (["down", "--prge"], "unexpected arguments: --prge"),
        # What removes data is spelled out.
        (["down", "--pur"], "unexpected arguments: --pur"),
        (["down", "--purge", "now"], "unexpected arguments: now"),
        (["--purge"], "unexpected arguments: --purge"),
        (["tempest", "("], "'(' is not a regular expression"),
        (["logs"], "the following arguments are required: NAME"),
        (["start"], "invalid choice: 'start'"),
        (["up", "--hosts", "two"], "argument --hosts: invalid int value: 'two'"),
        (["host", "stop", "docker-host-2"], "invalid choice: 'stop'"),
        (["host", "kill"], "the following arguments are required: NAME"),
    ],
)
def test_unexpected_words_are_refused(capsys, words, error):
    with pytest.raises(SystemExit) as exit_:
        quickstart.main(words)
    assert exit_.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("usage: ./quickstart ")
    assert error in printed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"action": quickstart.up}),
        (
            ["up"],
            {"action": quickstart.up, **NO_OPTIONS},
        ),
        *(
            (
                ["up", f"--{part}"],
                {"action": quickstart.up, **NO_OPTIONS, part: True},
            )
            for part in parts.ALL
        ),
        (
            ["up", "--hosts", "3"],
            {"action": quickstart.up, **NO_OPTIONS, "number": 3},
        ),
        (
            ["host", "kill", "docker-host-2"],
            {"action": quickstart.host, "verb": "kill", "name": "docker-host-2"},
        ),
        (["status"], {"action": operating.status, "as_json": False}),
        (["status", "--json"], {"action": operating.status, "as_json": True}),
        (
            ["logs", "glance"],
            {"action": operating.logs, "name": "glance", "follow": False},
        ),
        (["restart", "glance"], {"action": operating.restart, "name": "glance"}),
        (["env"], {"action": quickstart.env, "user": "admin"}),
        (["env", "demo"], {"action": quickstart.env, "user": "demo"}),
        (["tempest"], {"action": quickstart.tempest, "regex": None}),
        (["tempest", "a|b"], {"action": quickstart.tempest, "regex": "a|b"}),
        (["down"], {"action": quickstart.take_down, "purge": False}),
        (["down", "--purge"], {"action": quickstart.take_down, "purge": True}),
        (["fake-compute"], {"action": quickstart.fake_compute}),
    ],
)
def test_a_verb_is_parsed_with_its_arguments(words, expected):
    parsed = vars(quickstart.parser().parse_args(words))
    del parsed["parser"]
    assert parsed == expected


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_lists_the_verbs(capsys, words):
    with pytest.raises(SystemExit) as exit_:
        quickstart.main(words)
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    assert re.findall(r"(?m)^    ([a-z]+)\b", printed) == list(VERBS)
    # Only the benchmark uses it.
    assert "fake-compute" not in printed


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_help_page(capsys, verb):
    with pytest.raises(SystemExit) as exit_:
        quickstart.main([verb, "--help"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: ./quickstart {verb} ")


def test_verbs_need_root():
    with pytest.raises(SystemExit, match="must be run as root"):
        quickstart.main(["status"])


def test_env_without_a_cloud_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(settings, "CLOUDS_YAML", tmp_path / "clouds.yaml")
    with pytest.raises(SystemExit, match="there is no cloud in "):
        quickstart.main(["env"])


@pytest.mark.parametrize("verb", ["logs", "restart"])
def test_an_unknown_service_is_refused_with_those_that_exist(monkeypatch, verb):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(SystemExit, match=r"no service 'glanse'.* are .*glance"):
        quickstart.main([verb, "glanse"])


@pytest.fixture
def root(monkeypatch, tmp_path):
    """Lets verbs run, in a state directory of their own."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(quickstart, "state_lock", contextlib.nullcontext)
    monkeypatch.setattr(settings, "LOG", tmp_path)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("number", ["0", "9"])
def test_an_impossible_number_of_hosts_is_refused(number):
    with pytest.raises(SystemExit, match=f"1 to 8 hosts, not {number}$"):
        quickstart.main(["up", "--hosts", number])
    assert hosts.count() == 1


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("verb", ["kill", "start"])
def test_only_hosts_beside_the_first_one_have_power_to_cut(verb):
    with pytest.raises(SystemExit, match="docker-host is this machine itself"):
        quickstart.main(["host", verb, "docker-host"])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["./quickstart", "st"], ["status"]),
        (["./quickstart", "logs", "glance-"], ["glance-docker-sync"]),
        (["./quickstart", "env", "d"], ["demo"]),
        (
            ["./quickstart", "up", ""],
            ["--hosts", *(f"--{part}" for part in parts.ALL)],
        ),
        (["./quickstart", "host", "k"], ["kill"]),
        (["./quickstart", "host", "kill", "d"], ["docker-host-2", "docker-host-3"]),
        (["./quickstart", "up", "--g"], ["--gvisor"]),
        (["./quickstart", "up", "--hor"], ["--horizon"]),
    ],
)
def test_bash_completes_verbs_and_their_arguments(monkeypatch, capsys, line, expected):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    hosts.set_count(3)
    quickstart.main(["completion"])
    program = (
        f"{capsys.readouterr().out}\nCOMP_WORDS=({' '.join(map(repr, line))})\n"
        f"COMP_CWORD={len(line) - 1}\n_nova_docker_quickstart\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == expected


def test_all_verbs_are_completed(monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    quickstart.main(["completion"])
    assert f'words="{" ".join(VERBS)}"' in capsys.readouterr().out


@pytest.mark.skipif(not os.access("/usr/bin/python3", os.X_OK), reason="not Debian")
def test_the_script_passes_its_arguments_on():
    done = subprocess.run(
        [ROOT / "quickstart", "env", "nobody"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "there is no user 'nobody'" in done.stderr


def test_the_command_line_needs_only_the_standard_library():
    command = [sys.executable, "-BS", "-m", "cloud", "--help"]
    subprocess.run(command, cwd=ROOT, env={}, check=True, capture_output=True)
