# SPDX-License-Identifier: Apache-2.0
"""Which init a server has, and what is refused."""

from __future__ import annotations

import pytest
from nova import exception

from nova_docker.container import init
from nova_docker.container import spec
from tests import samples

REBOOTED = {init.LABEL: init.SYSTEMD}


@pytest.mark.parametrize(
    ("config", "command", "requested", "expected"),
    [
        ({"Cmd": ["/sbin/init"]}, None, None, "systemd"),
        ({"Cmd": ["/lib/systemd/systemd", "--log-level=info"]}, None, None, "systemd"),
        ({"Entrypoint": ["/usr/lib/systemd/systemd"]}, None, None, "systemd"),
        ({"Cmd": ["sh"]}, ["/sbin/init"], None, "systemd"),
        ({"Cmd": ["/sbin/init"]}, ["sh"], None, "none"),
        ({"Entrypoint": ["/entry"], "Cmd": ["/sbin/init"]}, None, None, "none"),
        ({"Entrypoint": ["/entry"]}, ["/sbin/init"], None, "none"),
        ({"Cmd": ["sh", "-c", "/sbin/init"]}, None, None, "none"),
        ({"Entrypoint": None, "Cmd": None}, None, None, "none"),
        ({}, None, None, "none"),
        ({"Entrypoint": ["/entry"]}, None, "systemd", "systemd"),
        ({"Cmd": ["/sbin/init"]}, None, "none", "none"),
        ({"Cmd": ["/sbin/init"]}, None, "docker-init", "docker-init"),
    ],
)
def test_systemd_is_recognised_unless_the_image_says_otherwise(
    config, command, requested, expected
):
    assert init.of_image(config, command, requested) == expected


def test_what_is_not_to_be_recognised_can_still_be_requested():
    config = {"Cmd": ["/sbin/init"]}
    for requested, expected in (None, "none"), ("systemd", "systemd"):
        assert init.of_image(config, None, requested, recognise=False) == expected


def test_systemd_needs_a_user_namespace():
    init.refuse("systemd", "user", {})
    for level in ("shared", "another"):
        with pytest.raises(exception.InvalidInput, match=f"{level}.*docker:isolation"):
            init.refuse("systemd", level, {})
        init.refuse("docker-init", level, {})
        init.refuse("none", level, {})


def test_an_init_that_the_host_does_not_have_is_refused_with_the_reason():
    missing = {"docker-init": "no such program", "systemd": "no control group"}
    for name, reason in missing.items():
        with pytest.raises(exception.InvalidInput, match=reason):
            init.refuse(name, "user", missing)
    init.refuse("none", "user", missing)


def body(name):
    return spec.specification(
        samples.instance(),
        samples.image_meta(),
        "sha256:1",
        nameservers=[],
        address=None,
        level="user",
        init=name,
        limits={},
        runtime="nova",
        network_mode="none",
        log_size_mb=1,
    )


@pytest.mark.parametrize(
    ("name", "variable", "signal", "engines"),
    [
        ("systemd", "systemd", "SIGRTMIN+3", False),
        ("docker-init", "", None, True),
        # The engine's own default applies.
        ("none", "", None, None),
    ],
)
def test_a_container_is_created_for_its_init(name, variable, signal, engines):
    made = body(name)
    assert f"NOVA_INIT={variable}" in made["Env"]
    assert made["Labels"][init.LABEL] == name
    assert made.get("StopSignal") == signal
    assert made["HostConfig"].get("Init") is engines


def test_no_init_has_more_privileges():
    confined = ("Privileged", "CapAdd", "CapDrop", "SecurityOpt")
    without, *others = (body(name)["HostConfig"] for name in ("none", *init.INITS))
    for found in others:
        assert [found[k] for k in confined] == [without[k] for k in confined]


@pytest.mark.parametrize(
    ("labels", "code", "expected"),
    [
        (REBOOTED, "129", True),
        (REBOOTED, 129, True),
        (REBOOTED, 130, False),
        (REBOOTED, None, False),
        ({init.LABEL: "none"}, 129, False),
        ({}, 129, False),
    ],
)
def test_only_systemd_reboots_a_server(labels, code, expected):
    assert init.has_rebooted(labels, code) is expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Exited (129) 2 hours ago", True),
        ("Exited (1290) 2 hours ago", False),
        ("Exited (0) Less than a second ago", False),
        ("Up 129 seconds", False),
        ("Created", False),
    ],
)
def test_a_list_shows_that_a_server_has_rebooted(status, expected):
    item = {"Labels": REBOOTED, "Status": status}
    assert init.is_listed_as_rebooted(item) is expected
