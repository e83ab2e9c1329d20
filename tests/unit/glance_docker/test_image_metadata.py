# SPDX-License-Identifier: Apache-2.0
"""How an engine's images appear in Glance."""

from __future__ import annotations

import json
import uuid

import pytest
from nova.objects import fields

from glance_docker import image_metadata
from glance_docker.image_metadata import Key

ID = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64


class TestGlanceId:
    def test_it_never_changes(self):
        """Every process and version finds its images in Glance by these IDs."""
        found = image_metadata.glance_id("local", Key("debian:12", ID))
        assert found == image_metadata.glance_id("local", Key("debian:12", ID), "")
        assert str(uuid.UUID(found)) == found
        assert found == "58273152-2950-5cb5-94ea-5ecb1f7a8962"

    def test_it_differs_for_each_argument(self):
        ids = {
            image_metadata.glance_id(engine, Key(name, image_id), serial)
            for engine in ("local", "rack-1")
            for name in ("a:1", "a:2")
            for image_id in (ID, OTHER)
            for serial in ("", "0a", "0b")
        }
        assert len(ids) == 24


class TestProperties:
    def of(self, serial="", **values):
        return image_metadata.properties("local", Key("a:1", ID), values, serial)

    def test_they_identify_the_image(self):
        known = {
            "docker_engine": "local",
            "docker_tag": "a:1",
            "docker_image_id": ID,
        }
        assert self.of() == known
        assert self.of("0a") == known | {"docker_serial": "0a"}

    @pytest.mark.parametrize(
        ("go", "nova"),
        [
            ("amd64", "x86_64"),
            ("arm64", "aarch64"),
            ("arm", "armv7l"),
            ("386", "i686"),
            ("mips", None),
            ("riscv64", None),
            ("", None),
        ],
    )
    def test_architectures_have_novas_names(self, go, nova):
        assert self.of(Architecture=go).get("architecture") == nova

    def test_nova_knows_all_architectures(self):
        assert set(image_metadata._ARCHITECTURES.values()) <= set(
            fields.Architecture.ALL
        )

    def test_values_are_json_in_ascii(self):
        found = self.of(
            Created="2026-01-01T00:00:00Z",
            Config={
                "Entrypoint": None,
                "Cmd": ["echo", "grüße 🐳"],
                "Labels": {"b": "🐳", "a": ""},
                "Volumes": {"/b": {}, "/a": {}},
            },
        )
        assert "docker_entrypoint" not in found
        assert json.loads(found["docker_cmd"]) == ["echo", "grüße 🐳"]
        assert found["docker_labels"] == r'{"a": "", "b": "\ud83d\udc33"}'
        assert found["docker_volumes"] == '["/a", "/b"]'
        assert found["docker_created"] == "2026-01-01T00:00:00Z"
        assert all(value.isascii() for value in found.values())

    def test_properties_too_large_for_glance_are_left_out(self):
        label = "x" * (60_000 - len('{"a": ""}'))
        found = self.of(Config={"Labels": {"a": label}, "Cmd": ["sh"]})
        assert len(found["docker_labels"]) == 60_000
        found = self.of(Config={"Labels": {"a": label + "x"}, "Cmd": ["sh"]})
        assert "docker_labels" not in found and "docker_cmd" in found

    @pytest.mark.parametrize("config", [None, {}, {"Labels": None, "Cmd": []}])
    def test_an_empty_configuration_gives_no_properties(self, config):
        assert not image_metadata.described({"Config": config, "Created": None})

    @pytest.mark.parametrize(
        ("name", "digests", "best"),
        [
            ("a:1", [], None),
            ("a:1", [f"b@{ID}", f"a@{OTHER}"], f"a@{OTHER}"),
            ("a:1", [f"b@{ID}", f"c@{OTHER}"], f"b@{ID}"),
            ("a:1", [f"<none>@{ID}"], None),
            ("a:1", [f"<none>@{ID}", f"b@{OTHER}"], f"b@{OTHER}"),
            ("h:5000/a:1", [f"a@{ID}", f"h:5000/a@{ID}"], f"h:5000/a@{ID}"),
        ],
    )
    def test_the_digest_of_its_own_repository_is_preferred(self, name, digests, best):
        assert image_metadata.digest(name, digests) == best


@pytest.mark.parametrize(
    ("length", "shown"), [(1, 1), (254, 254), (255, 255), (256, 255), (400, 255)]
)
def test_a_name_is_shortened_to_glances_limit(length, shown):
    name = "".join(chr(ord("a") + i % 26) for i in range(length))
    found = image_metadata.shown_name(name)
    assert len(found) == shown
    # The end is kept: it tells tags apart.
    assert name.endswith(found.lstrip("…"))
    assert ("…" in found) == (length > 255)
