# SPDX-License-Identifier: Apache-2.0
"""A location has exactly one spelling; everything else is rejected."""

from __future__ import annotations

import time

import pytest

from docker_engine import location
from docker_engine.location import EngineImage
from docker_engine.location import RegistryImage

DIGEST = "sha256:" + "0123456789abcdef" * 4
ENGINE = f"docker://local/debian:12?id={DIGEST}&size=5"
REGISTRY = f"docker://ghcr.io/team/app@{DIGEST}"


@pytest.mark.parametrize(
    ("image", "url"),
    [
        (EngineImage("local", "debian:12", DIGEST, 5), ENGINE),
        (
            EngineImage("local", "debian:12", DIGEST, 5, f"debian@{DIGEST}"),
            f"{ENGINE}&digest=debian@{DIGEST}",
        ),
        (
            EngineImage("Rack-1.a_b", "host:5000/a/b__c.d---e:V_1.0-x", DIGEST, 10),
            f"docker://Rack-1.a_b/host:5000/a/b__c.d---e:V_1.0-x?id={DIGEST}&size=10",
        ),
        (
            EngineImage("local", "[::1]:5000/a:1", DIGEST, 10**18 - 1),
            f"docker://local/[::1]:5000/a:1?id={DIGEST}&size={10**18 - 1}",
        ),
        (RegistryImage("ghcr.io", "team/app", DIGEST), REGISTRY),
        (
            RegistryImage("localhost:5000", "a", DIGEST),
            f"docker://localhost:5000/a@{DIGEST}",
        ),
        (
            RegistryImage("[fd00::1]:5000", "a/b/c", DIGEST),
            f"docker://[fd00::1]:5000/a/b/c@{DIGEST}",
        ),
    ],
)
def test_a_location_is_parsed_as_it_was_written(image, url):
    assert image.url == url
    assert location.parse(url) == image


@pytest.mark.parametrize(
    "url",
    [
        "",
        "docker://",
        "docker://local",
        "docker://local/",
        "docker://local/debian:12",
        "https://glance/debian",
        "file:///etc/passwd",
        ENGINE.replace("docker:", "DOCKER:"),
        ENGINE.replace("docker:", "http:"),
        ENGINE.replace("docker://", "docker:/"),
        ENGINE.replace("docker://", "docker:///"),
        ENGINE.replace("docker://", "docker:"),
        # Other encodings
        ENGINE.replace("debian", "%64ebian"),
        ENGINE.replace("debian", "%2e%2e/debian"),
        ENGINE.replace("debian:12", "debian%3A12"),
        ENGINE.replace("debian", "debian%00"),
        ENGINE.replace("sha256:", "sha256%3A"),
        REGISTRY.replace("@", "%40"),
        REGISTRY.replace("sha256:", "sha256%3a"),
        ENGINE.replace("debian", "debian\0"),
        ENGINE.replace("debian", "debi\\an"),
        ENGINE.replace("debian", "Debian"),
        # Additional parts
        ENGINE.replace("local", "user@local"),
        ENGINE.replace("local", "user:password@local"),
        ENGINE.replace("local", "local:80"),
        REGISTRY.replace("ghcr.io", "user@ghcr.io"),
        REGISTRY.replace("ghcr.io", "user:password@ghcr.io"),
        f"{ENGINE}#",
        f"{ENGINE}#fragment",
        f"{REGISTRY}#fragment",
        f"{REGISTRY}?",
        f"{REGISTRY}?size=5",
        f"{ENGINE}&",
        f"{ENGINE}&x=1",
        f"{ENGINE};x=1",
        f"{ENGINE}&digest=",
        f"{ENGINE}&digest={DIGEST}",
        f"{ENGINE}&digest=debian:12@{DIGEST}",
        f"{ENGINE}&digest=debian@{DIGEST}&digest=debian@{DIGEST}",
        f"{ENGINE}\n",
        f"{REGISTRY}\n",
        f" {ENGINE}",
        f"{ENGINE} ",
        f"\n{REGISTRY}",
        ENGINE.replace("debian", "deb ian"),
        ENGINE.replace("&", " &"),
        # Paths that point elsewhere
        ENGINE.replace("debian", "../debian"),
        ENGINE.replace("debian", "a/../debian"),
        ENGINE.replace("debian", "./debian"),
        ENGINE.replace("debian", "a//debian"),
        ENGINE.replace("debian", "/debian"),
        ENGINE.replace("debian", "a/"),
        ENGINE.replace("local", ".."),
        ENGINE.replace("local", "local/.."),
        REGISTRY.replace("team", ".."),
        REGISTRY.replace("team/", "team//"),
        REGISTRY.replace("team", "team/."),
        REGISTRY.replace("ghcr.io", ".."),
        # Other queries
        ENGINE.partition("?")[0] + "?",
        ENGINE.partition("&")[0],
        ENGINE.replace(f"id={DIGEST}&", ""),
        ENGINE.replace("&", "&&"),
        f"{ENGINE}&size=5",
        ENGINE.replace(f"id={DIGEST}", f"id={DIGEST}&id={DIGEST}"),
        f"docker://local/debian:12?size=5&id={DIGEST}",
        f"docker://local/debian:12?digest=a@{DIGEST}&id={DIGEST}&size=5",
        ENGINE.replace("id=", "ID="),
        ENGINE.replace("?", "??"),
        # Sizes
        *(
            ENGINE.replace("size=5", f"size={size}")
            for size in (
                "",
                "0",
                "05",
                "-5",
                "+5",
                "5.0",
                "1e3",
                "0x5",
                "5_0",
                "\u0665",
            )
        ),
        ENGINE.replace("size=5", f"size={10**18}"),
        # Digests
        *(
            url.replace(DIGEST, digest)
            for url in (ENGINE, REGISTRY)
            for digest in (
                "",
                "sha256:",
                DIGEST.upper(),
                DIGEST.replace("a", "A"),
                DIGEST.replace("sha256", "sha512"),
                DIGEST.replace("sha256:", ""),
                DIGEST[:-1],
                DIGEST + "0",
                DIGEST[:-1] + "g",
                DIGEST[:-1] + "\u0665",
            )
        ),
        # Look-alike letters, and other characters out of place
        ENGINE.replace("debian", "débian"),
        ENGINE.replace("debian", "d\u0435bian"),
        ENGINE.replace("local", "l\u043ecal"),
        ENGINE.replace(":12", ":1\u0662"),
        ENGINE.replace("debian:12", "debian:" + "1" * 129),
        ENGINE.replace("debian:12", "debian:.1"),
        ENGINE.replace("debian:12", "debian"),
        ENGINE.replace("local", "-local"),
        ENGINE.replace("local", "l" * 64),
        REGISTRY.replace("ghcr.io", "ghcr.io:\u0665"),
        REGISTRY.replace("ghcr.io", "ghcr.io:123456"),
        REGISTRY.replace("ghcr.io", "ghcr.io:"),
        REGISTRY.replace("ghcr.io", "ghcr.io."),
        REGISTRY.replace("team/app", "team/app:1"),
        # Too long
        ENGINE.replace("debian", "d" * 2000),
        REGISTRY.replace("team", "t" * 2000),
    ],
)
def test_every_other_spelling_is_rejected(url):
    with pytest.raises(ValueError, match="not a docker:// location"):
        location.parse(url)


@pytest.mark.parametrize("part", ["a", "a-", "a.", "a/", "a:", "-", "[:", "a__"])
def test_a_location_is_rejected_quickly(part):
    started = time.monotonic()
    for url in ("docker://local/" + part * 600 + "!", "docker://" + part * 600 + "!"):
        with pytest.raises(ValueError, match="not a docker:// location"):
            location.parse(url[:1999])
    assert time.monotonic() - started < 1


def test_the_error_is_short():
    with pytest.raises(ValueError, match="not a docker:// location") as caught:
        location.parse("docker://" + "x" * 10**6)
    assert len(str(caught.value)) < 300


def test_the_reference_is_what_other_engines_can_pull():
    assert EngineImage("local", "a:1", DIGEST, 5).reference is None
    place = EngineImage("local", "a:1", DIGEST, 5, f"ghcr.io/a@{DIGEST}")
    assert place.reference == f"ghcr.io/a@{DIGEST}"
    assert RegistryImage("h:1", "a/b", DIGEST).reference == f"h:1/a/b@{DIGEST}"


@pytest.mark.parametrize(
    ("repository", "registry"),
    [
        ("debian", "docker.io"),
        ("library/debian", "docker.io"),
        ("team/app/part", "docker.io"),
        ("ghcr.io/team/app", "ghcr.io"),
        ("registry:5000/app", "registry:5000"),
        ("[::1]:5000/app", "[::1]:5000"),
        ("localhost/app", "localhost"),
        ("localhost", "docker.io"),
    ],
)
def test_the_registry_of_a_repository_is_the_one_an_engine_uses(repository, registry):
    assert location.registry_of(repository) == registry


@pytest.mark.parametrize("name", ["local", "rack-1", "A.b_c", "0", "e" * 63])
def test_valid_engine_names_are_accepted(name):
    assert location.check_engine(name) == name
    image = EngineImage(name, "a:1", DIGEST, 5)
    assert location.parse(image.url) == image


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "a:1", "a b", "a\n", "-a", ".a", "_a", "ä", "e" * 64, "a@b"],
)
def test_invalid_engine_names_are_rejected(name):
    with pytest.raises(ValueError, match="not a valid engine name"):
        location.check_engine(name)
