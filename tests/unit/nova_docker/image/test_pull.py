# SPDX-License-Identifier: Apache-2.0
"""The size of an image in a registry."""

from __future__ import annotations

from typing import Any

import pytest

from docker_engine.registry import Descriptor
from docker_engine.registry import Image
from docker_engine.registry import Unreachable
from nova_docker.image import pull

DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture
def asked(monkeypatch):
    """Arguments of each registry, and what it was asked for."""
    asked: list[Any] = []
    layers = [Descriptor(f"sha256:{n * 64}", 100, "layer") for n in "121"]

    class Registry:
        def __init__(self, host: str, **options: Any) -> None:
            asked.append((host, options))

        def resolve(self, *args: str) -> Image:
            asked.append(args)
            if args[0] == "absent":
                raise Unreachable("no route")
            return Image(args[0], DIGEST, layers[0], tuple(layers))

    monkeypatch.setattr(pull, "Registry", Registry)
    return asked


def test_a_layer_that_occurs_twice_is_pulled_once(asked):
    size = pull.compressed_size(f"host:5000/a/b@{DIGEST}", ("me", "secret"), "arm64")
    assert size == 200
    assert asked == [
        ("host:5000", {"auth": ("me", "secret"), "ca_file": None}),
        ("a/b", DIGEST, "arm64"),
    ]


def test_the_authority_that_the_engine_trusts_is_trusted(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(pull, "_AUTHORITIES", tmp_path)
    (tmp_path / "host:5000").mkdir()
    (tmp_path / "host:5000" / "ca.crt").touch()
    pull.compressed_size(f"host:5000/a@{DIGEST}", None, None)
    assert asked[0][1]["ca_file"] == str(tmp_path / "host:5000" / "ca.crt")


@pytest.mark.parametrize(
    ("name", "repository"),
    [("debian", "library/debian"), ("me/app", "me/app"), ("docker.io/a/b", "a/b")],
)
def test_docker_hub_has_an_address_of_its_own(asked, name, repository):
    pull.compressed_size(f"{name}@{DIGEST}", None, "amd64")
    assert asked[0][0] == "registry-1.docker.io"
    assert asked[1][0] == repository


def test_a_registry_that_only_the_engine_reaches_tells_nothing(asked):
    assert pull.compressed_size(f"host:5000/absent@{DIGEST}", None, "amd64") is None
