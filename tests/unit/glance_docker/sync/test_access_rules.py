# SPDX-License-Identifier: Apache-2.0
"""Which of the engine's images Glance should list, and for whom."""

from __future__ import annotations

import pytest

from docker_engine import reference
from glance_docker.image_metadata import Key
from glance_docker.sync.access_rules import Access
from glance_docker.sync.access_rules import Rules
from glance_docker.sync.access_rules import wanted

ID = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
ALL = Rules([], "public")


def image(*tags, image_id=ID, **values):
    return {"Id": image_id, "RepoTags": list(tags), **values}


class TestWanted:
    def test_two_tags_are_two_images(self):
        found = wanted([image("a:1", "a:2")], ALL)
        assert found.keys() == {Key("a:1", ID), Key("a:2", ID)}

    def test_a_moved_tag_is_another_image(self):
        before = wanted([image("a:1")], ALL)
        after = wanted([image("a:1", image_id=OTHER)], ALL)
        assert not before.keys() & after.keys()

    @pytest.mark.parametrize("tags", [None, [], ["<none>:<none>"]])
    def test_untagged_images_are_not_listed(self, tags):
        assert wanted([{"Id": ID, "RepoTags": tags}], ALL) == {}

    @pytest.mark.parametrize("repository", reference.RESERVED_REPOSITORIES)
    def test_images_of_nova_compute_are_not_listed(self, repository):
        own = f"{repository}/8f6d1c9e:latest"
        found = wanted([image(own, "a:1")], ALL)
        assert found.keys() == {Key("a:1", ID)}

    def test_similar_names_are_listed(self):
        found = wanted([image("nova-glance:1", "team/nova-glance/a:1")], ALL)
        assert len(found) == 2

    def test_hidden_images_are_not_listed(self):
        rules = Rules(["*:scratch hidden"], "public")
        found = wanted([image("a:scratch", "a:1")], rules)
        assert found.keys() == {Key("a:1", ID)}

    def test_the_digest_in_a_registry_is_included(self):
        place = f"a@{OTHER}"
        [found] = wanted([image("a:1", RepoDigests=[place])], ALL).values()
        assert found == (Access("public"), place)
        [found] = wanted([image("a:1", RepoDigests=None)], ALL).values()
        assert found.digest is None


class TestRules:
    def test_the_first_rule_that_matches_applies(self):
        rules = Rules(
            ["team/secret* hidden", "team/* project:p1,p2", "team/open* public"],
            "private",
        )
        assert rules.access("team/secret:1") is None
        assert rules.access("team/open:1") == Access("shared", ("p1", "p2"))
        assert rules.access("other:1") == Access("private")

    def test_patterns_are_shell_patterns(self):
        rules = Rules(["[ab]?:1 community"], "private")
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
            Rules([rule], "public")

    @pytest.mark.parametrize("default", ["", "shared", "project:", "nobody"])
    def test_a_malformed_default_is_rejected(self, default):
        with pytest.raises(ValueError, match="not one of public"):
            Rules([], default)

    def test_everything_can_be_hidden(self):
        assert Rules([], "hidden").access("a:1") is None
