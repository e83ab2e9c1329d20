# SPDX-License-Identifier: Apache-2.0
"""The configuration of an image: what is refused, and its volumes."""

from __future__ import annotations

import pytest

from nova_docker.image import configuration


def problem(**config):
    return configuration.problem({"Config": config})


@pytest.mark.parametrize("image", [{}, {"Config": None}, {"Config": {"Env": None}}])
def test_an_image_needs_no_configuration(image):
    assert configuration.problem(image) is None
    assert configuration.volumes(image) == []


def test_an_ordinary_image_is_accepted():
    assert not problem(
        Env=[f"V{number}=value" for number in range(1000)],
        Entrypoint=["/init"],
        Cmd=["a"] * 1000,
        Labels={"io.buildpacks.lifecycle.metadata": "x" * 200_000},
        ExposedPorts={f"{port}/udp": {} for port in range(16384, 32768)},
        Volumes={f"/data/{number}": {} for number in range(64)},
    )


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"Env": ["A=b"] * 1001}, "1001 items in Env, the limit is 1000"),
        ({"Entrypoint": ["a"] * 1001}, "items in Entrypoint"),
        ({"Cmd": ["a"] * 1001}, "items in Cmd"),
        ({"Labels": {str(number): "" for number in range(1001)}}, "items in Labels"),
        ({"Env": ["A=" + "x" * 600_000]}, "bytes, the limit is 524288"),
        ({"Healthcheck": {"Test": ["x" * 600_000]}}, "bytes, the limit is 524288"),
        (
            {"Volumes": {f"/{number}": {} for number in range(2000)}},
            "declares 2000 volumes, the limit is 64",
        ),
    ],
)
def test_a_configuration_that_is_too_large_is_refused(config, reason):
    assert reason in problem(**config)


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "relative", "C:\\data", "/", "//", "/a/..", "/proc", "/a/../proc/"),
        *("/proc/self", "//proc", "/dev", "/sys", "/sys/."),
    ],
)
def test_a_volume_at_an_impossible_path_is_refused(path):
    assert "declares the volume" in problem(Volumes={path: {}})


def test_volumes_are_cleaned_as_the_engine_does():
    declared = ["/b/", "//a//b", "/x/../b", "/sys/fs/cgroup", "/../c d", "/a/./b"]
    image = {"Config": {"Volumes": {path: {} for path in declared}}}
    assert configuration.problem(image) is None
    assert configuration.volumes(image) == ["/a/b", "/b", "/c d", "/sys/fs/cgroup"]
