# SPDX-License-Identifier: Apache-2.0
"""The OCI runtime as engines run it: the real scripts with a fake runc."""

import contextlib
import json
import os
import pathlib
import subprocess

import pytest
from oslo_utils import uuidutils
from pyroute2 import netns

RUNTIME = pathlib.Path(__file__).parents[3] / "bin" / "nova-docker-runtime"
SETKEY = {"path": "/proc/1/exe", "args": ["libnetwork-setkey", "-exec-root=/x"]}
OTHER = {"path": "/usr/bin/other", "args": ["other"]}


@pytest.fixture
def runtime(tmp_path):
    """Runs the runtime on a bundle; returns (exit code, stderr, calls of runc)."""
    bundle, log = tmp_path / "bundle", tmp_path / "runc.log"
    bundle.mkdir()
    runc = tmp_path / "runc"
    runc.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    runc.chmod(0o755)

    def call(*argv, spec=None):
        if spec is not None:
            (bundle / "config.json").write_text(json.dumps(spec))
        result = subprocess.run(
            [RUNTIME, *argv],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        calls = log.read_text().splitlines() if log.exists() else []
        return result.returncode, result.stderr, calls

    call.bundle = bundle
    return call


@pytest.fixture
def namespace():
    name = f"nova-{uuidutils.generate_uuid()}"
    netns.create(name)
    yield name
    with contextlib.suppress(FileNotFoundError):
        netns.remove(name)


def spec(*env):
    return {
        "process": {"env": ["PATH=/bin", *env]},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]},
        "hooks": {"prestart": [SETKEY, OTHER]},
    }


def created(runtime):
    return json.loads((runtime.bundle / "config.json").read_text())


def test_create_joins_the_servers_namespace(runtime, namespace):
    argv = ("--root", "/r", "create", "--bundle", str(runtime.bundle), "c1")

    code, _, calls = runtime(*argv, spec=spec(f"NOVA_NETNS={namespace}"))

    assert code == 0
    assert calls == [" ".join(argv)]
    assert created(runtime)["linux"]["namespaces"] == [
        {"type": "pid"},
        {"type": "network", "path": f"/run/netns/{namespace}"},
    ]


@pytest.mark.parametrize("engine_network", [False, True])
def test_dockers_network_hook_runs_only_if_its_network_is_used(
    runtime, namespace, engine_network
):
    env = [f"NOVA_NETNS={namespace}"]
    if engine_network:
        env.append("NOVA_ENGINE_NETWORK=1")

    runtime("create", "--bundle", str(runtime.bundle), "c1", spec=spec(*env))

    hooks = created(runtime)["hooks"]["prestart"]
    assert hooks == ([SETKEY, OTHER] if engine_network else [OTHER])


def test_other_commands_are_passed_to_runc_unchanged(runtime):
    code, _, calls = runtime("--log", "/l", "delete", "--force", "c1")
    assert code == 0
    assert calls == ["--log /l delete --force c1"]


@pytest.mark.parametrize(
    "env",
    [
        (),
        ("NOVA_NETNS=",),
        ("NOVA_NETNS=../../proc/1/ns/net",),
        ("NOVA_NETNS=nova-../../../proc/1/ns/net",),
        ("NOVA_NETNS=other",),
    ],
)
def test_a_container_that_is_not_a_server_is_refused(runtime, env):
    code, error, calls = runtime(
        "create", "--bundle", str(runtime.bundle), "c1", spec=spec(*env)
    )
    assert code != 0 and calls == []
    assert "not a Nova server" in error


def test_a_server_without_a_network_namespace_is_refused(runtime, namespace):
    netns.remove(namespace)
    code, error, calls = runtime(
        "create",
        "--bundle",
        str(runtime.bundle),
        "c1",
        spec=spec(f"NOVA_NETNS={namespace}"),
    )
    assert code != 0 and calls == []
    assert f"/run/netns/{namespace} does not exist" in error


def test_the_reason_is_in_runcs_log(runtime, tmp_path):
    log = tmp_path / "log.json"
    runtime(
        *("--log", str(log), "create", "--bundle", str(runtime.bundle), "c1"),
        spec=spec(),
    )
    entry = json.loads(log.read_text())
    assert entry["level"] == "error"
    assert "not a Nova server" in entry["msg"]


def test_a_plain_file_instead_of_a_namespace_is_refused(runtime):
    name = f"nova-{uuidutils.generate_uuid()}"
    place = pathlib.Path("/run/netns", name)
    place.parent.mkdir(exist_ok=True)
    place.touch()
    try:
        code, _, calls = runtime(
            "create",
            "--bundle",
            str(runtime.bundle),
            "c1",
            spec=spec(f"NOVA_NETNS={name}"),
        )
    finally:
        place.unlink()
    assert code != 0 and calls == []
