# SPDX-License-Identifier: Apache-2.0
"""The command glance-docker-sync."""

from __future__ import annotations

import pytest

from docker_engine import errors
from glance_docker import conf as options
from glance_docker import sync


class TestMain:
    @pytest.fixture
    def config(self, tmp_path, engine, server, monkeypatch):
        monkeypatch.setattr(options, "engine", lambda group: engine)
        monkeypatch.setattr(options, "glance", lambda conf: server.adapter())

        def write(text=""):
            path = tmp_path / "reconciler.conf"
            path.write_text(text)
            return ["--once", "--config-file", str(path)]

        return write

    def test_it_synchronizes_once(self, engine, server, config):
        engine.load("a:1")
        text = "[engine]\ndocker_engine = rack-1\n[sync]\nrule = a:* community\n"
        assert sync.main(config(text)) == 0
        image = server.named("a:1")
        assert (image["status"], image["visibility"]) == ("active", "community")
        assert server.locations[image["id"]][0].startswith("docker://rack-1/a:1?")

    def test_only_images_that_a_rule_names_are_listed(self, engine, server, config):
        engine.load("a:1", "b:1")
        assert sync.main(config("[sync]\nrule = b:* public\n")) == 0
        assert server.names == ["b:1"]

    @pytest.mark.parametrize("once", [True, False])
    def test_what_was_listed_is_removed_only_on_request(
        self, engine, server, config, once
    ):
        engine.load("a:1", "b:1")
        assert sync.main(config("[sync]\naccess = public\n")) == 0
        arguments = config("[sync]\nrule = b:* hidden\n")
        with pytest.raises(SystemExit) as caught:
            sync.main(arguments if once else arguments[1:])
        assert "[sync]access is not set" in str(caught.value.code)
        assert "1 of the engine's images from Glance, a:1" in str(caught.value.code)
        assert server.names == ["a:1", "b:1"]
        assert sync.main(config("[sync]\naccess = hidden\n")) == 0
        assert server.names == []
        # Nothing is listed any more that the default would remove.
        assert sync.main(config()) == 0

    def test_an_unusable_image_is_no_failure(self, engine, server, config):
        engine.broken.add(engine.load("a:1"))
        assert sync.main(config("[sync]\naccess = public\n")) == 0
        assert server.images == {}

    def test_it_fails_when_the_engine_is_away(self, engine, config):
        engine.away = errors.Unreachable("gone")
        assert sync.main(config()) == 1

    @pytest.mark.parametrize("part", ["images", "locations"])
    def test_it_fails_when_glance_fails(self, engine, server, config, part):
        server.fails = lambda method, path: 503 if path.endswith(part) else 0
        engine.load("a:1")
        assert sync.main(config("[sync]\naccess = public\n")) == 1

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("[sync]\nrule = nonsense\n", "invalid rule"),
            ("[sync]\naccess = nobody\n", "invalid access 'nobody': not one of public"),
            ("[sync]\nworkers = 0\n", "workers"),
            ("[engine]\ndocker_engine = a/b\n", "not a valid engine name"),
            ("nonsense", "reconciler.conf"),
        ],
    )
    def test_an_invalid_configuration_is_reported(self, config, text, why):
        with pytest.raises(SystemExit) as caught:
            sync.main(config(text))
        assert str(caught.value.code).startswith("glance-docker-sync: ")
        assert why in str(caught.value.code)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("[engine]\ndocker_host = http://there\n", "not an engine"),
            ("[glance]\nauth_type = nonsense\n", r"[glance]: "),
            ("", "[glance]"),
        ],
    )
    def test_an_incomplete_configuration_is_reported(self, tmp_path, text, why):
        path = tmp_path / "reconciler.conf"
        path.write_text(text)
        with pytest.raises(SystemExit) as caught:
            sync.main(["--once", "--config-file", str(path)])
        assert why in str(caught.value.code)

    def test_a_missing_configuration_file_is_reported(self):
        with pytest.raises(SystemExit) as caught:
            sync.main(["--config-file", "/no/such/file"])
        assert "/no/such/file" in str(caught.value.code)
