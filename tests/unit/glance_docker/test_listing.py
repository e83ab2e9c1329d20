# SPDX-License-Identifier: Apache-2.0
"""How an engine's images appear in Glance."""

from __future__ import annotations

import json
import uuid

import pytest
from nova.objects import fields

from docker_engine import reference
from glance_docker import listing
from glance_docker.listing import Access
from glance_docker.listing import Key

ID = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
ALL = listing.Rules([], "public")


def image(*tags, image_id=ID, **values):
    return {"Id": image_id, "RepoTags": list(tags), **values}


class TestWanted:
    def test_two_tags_are_two_images(self):
        found = listing.wanted([image("a:1", "a:2")], ALL)
        assert found.keys() == {Key("a:1", ID), Key("a:2", ID)}

    def test_a_moved_tag_is_another_image(self):
        before = listing.wanted([image("a:1")], ALL)
        after = listing.wanted([image("a:1", image_id=OTHER)], ALL)
        assert not before.keys() & after.keys()

    @pytest.mark.parametrize("tags", [None, [], ["<none>:<none>"]])
    def test_untagged_images_are_not_listed(self, tags):
        assert listing.wanted([{"Id": ID, "RepoTags": tags}], ALL) == {}

    @pytest.mark.parametrize("repository", reference.RESERVED_REPOSITORIES)
    def test_images_of_nova_compute_are_not_listed(self, repository):
        own = f"{repository}/8f6d1c9e:latest"
        found = listing.wanted([image(own, "a:1")], ALL)
        assert found.keys() == {Key("a:1", ID)}

    def test_similar_names_are_listed(self):
        found = listing.wanted([image("nova-glance:1", "team/nova-glance/a:1")], ALL)
        assert len(found) == 2

    def test_hidden_images_are_not_listed(self):
        rules = listing.Rules(["*:scratch hidden"], "public")
        found = listing.wanted([image("a:scratch", "a:1")], rules)
        assert found.keys() == {Key("a:1", ID)}

    def test_the_digest_in_a_registry_is_included(self):
        place = f"a@{OTHER}"
        [found] = listing.wanted([image("a:1", RepoDigests=[place])], ALL).values()
        assert found == (Access("public"), place)
        [found] = listing.wanted([image("a:1", RepoDigests=None)], ALL).values()
        assert found.digest is None


class TestRules:
    def test_the_first_rule_that_matches_applies(self):
        rules = listing.Rules(
            ["team/secret* hidden", "team/* project:p1,p2", "team/open* public"],
            "private",
        )
        assert rules.access("team/secret:1") is None
        assert rules.access("team/open:1") == Access("shared", ("p1", "p2"))
        assert rules.access("other:1") == Access("private")

    def test_patterns_are_shell_patterns(self):
        rules = listing.Rules(["[ab]?:1 community"], "private")
        assert rules.access("ax:1").visibility == "community"
        assert rules.access("AX:1").visibility == "private"
        assert rules.access("xax:1").visibility == "private"

    @pytest.mark.parametrize(
        "rule",
        [
            "",
            "*",
            "a public b",
            "* Public",
            "* shared",
            "* project:",
            "* project:,",
            "* project",
            "* everybody",
        ],
    )
    def test_a_malformed_rule_is_rejected(self, rule):
        with pytest.raises(ValueError, match=r"invalid (rule|access)"):
            listing.Rules([rule], "public")

    @pytest.mark.parametrize("default", ["", "shared", "project:", "nobody"])
    def test_a_malformed_default_is_rejected(self, default):
        with pytest.raises(ValueError, match="not one of public"):
            listing.Rules([], default)

    def test_everything_can_be_hidden(self):
        assert listing.Rules([], "hidden").access("a:1") is None


class TestGlanceId:
    def test_it_never_changes(self):
        """Every process and version finds its images in Glance by these IDs."""
        found = listing.glance_id("local", Key("debian:12", ID))
        assert found == listing.glance_id("local", Key("debian:12", ID), "")
        assert str(uuid.UUID(found)) == found
        assert found == "58273152-2950-5cb5-94ea-5ecb1f7a8962"

    def test_it_differs_for_each_argument(self):
        ids = {
            listing.glance_id(engine, Key(name, image_id), serial)
            for engine in ("local", "rack-1")
            for name in ("a:1", "a:2")
            for image_id in (ID, OTHER)
            for serial in ("", "0a", "0b")
        }
        assert len(ids) == 24


class TestProperties:
    def of(self, serial="", **values):
        return listing.properties("local", Key("a:1", ID), values, serial)

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
        assert set(listing._ARCHITECTURES.values()) <= set(fields.Architecture.ALL)

    def test_values_are_json_in_ascii(self):
        found = self.of(
            Created="2026-01-01T00:00:00Z",
            Config={
                "Entrypoint": None,
                "Cmd": ["echo", "grüße 🐳"],
                "Labels": {"b": "🐳", "a": ""},
            },
        )
        assert "docker_entrypoint" not in found
        assert json.loads(found["docker_cmd"]) == ["echo", "grüße 🐳"]
        assert found["docker_labels"] == r'{"a": "", "b": "\ud83d\udc33"}'
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
        assert not listing.described({"Config": config, "Created": None})

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
        assert listing.digest(name, digests) == best


@pytest.mark.parametrize(
    ("length", "shown"), [(1, 1), (254, 254), (255, 255), (256, 255), (400, 255)]
)
def test_a_name_is_shortened_to_glances_limit(length, shown):
    name = "".join(chr(ord("a") + i % 26) for i in range(length))
    found = listing.shown_name(name)
    assert len(found) == shown
    # The end is kept: it tells tags apart.
    assert name.endswith(found.lstrip("…"))
    assert ("…" in found) == (length > 255)
