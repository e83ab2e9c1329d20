# SPDX-License-Identifier: Apache-2.0
"""The image "debian" for an engine that is not the quickstart's."""

from __future__ import annotations

from cloud import debian_image
from cloud import images


def test_the_image_is_imported_once_under_each_name(tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$*" >> {calls}\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(images, "make_debian_archive", lambda path: path.touch())
    debian_image.main("debian:latest", "debian:alt")
    imported, tagged = calls.read_text().splitlines()
    assert imported.startswith("import --change=ENTRYPOINT ")
    assert imported.endswith("/debian.tar debian:latest")
    assert tagged == "tag debian:latest debian:alt"
