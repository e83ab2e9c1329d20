# SPDX-License-Identifier: Apache-2.0
"""Which request each method sends, and which it repeats."""

from __future__ import annotations

import pytest

from docker_engine import errors
from tests.unit.docker_engine.http_engine import FILTERS
from tests.unit.docker_engine.http_engine import LABELS
from tests.unit.docker_engine.http_engine import answer
from tests.unit.docker_engine.http_engine import lose


@pytest.mark.parametrize(
    ("call", "sent", "query"),
    [
        (lambda c: c.ping(), "GET /_ping", {}),
        (lambda c: c.list_containers(), "GET /containers/json", {"all": "1"}),
        (
            lambda c: c.list_containers(all=False, filters=LABELS),
            "GET /containers/json",
            {"all": "0"} | FILTERS,
        ),
        (lambda c: c.inspect_container("a"), "GET /containers/a/json", {}),
        (lambda c: c.start_container("a"), "POST /containers/a/start", {}),
        (
            lambda c: c.start_container("a", checkpoint="one"),
            "POST /containers/a/start",
            {"checkpoint": "one"},
        ),
        (
            lambda c: c.delete_checkpoint("a", "one"),
            "DELETE /containers/a/checkpoints/one",
            {},
        ),
        (lambda c: c.stop_container("a", 7), "POST /containers/a/stop", {"t": "7"}),
        (
            lambda c: c.restart_container("a", 7),
            "POST /containers/a/restart",
            {"t": "7"},
        ),
        (
            lambda c: c.kill_container("a"),
            "POST /containers/a/kill",
            {"signal": "KILL"},
        ),
        (lambda c: c.pause_container("a"), "POST /containers/a/pause", {}),
        (lambda c: c.unpause_container("a"), "POST /containers/a/unpause", {}),
        (
            lambda c: c.remove_container("a"),
            "DELETE /containers/a",
            {"force": "1", "v": "1"},
        ),
        (
            lambda c: c.remove_container("a", force=False, volumes=False),
            "DELETE /containers/a",
            {"force": "0", "v": "0"},
        ),
        (lambda c: c.list_images(LABELS), "GET /images/json", FILTERS),
        (lambda c: c.inspect_image("r/a:1"), "GET /images/r/a:1/json", {}),
        (lambda c: c.inspect_image("r@x:1"), "GET /images/r@x:1/json", {}),
        (lambda c: c.inspect_image("a?b#c"), "GET /images/a%3Fb%23c/json", {}),
        (
            lambda c: c.tag_image("a", "r/b", "1"),
            "POST /images/a/tag",
            {"repo": "r/b", "tag": "1"},
        ),
        (lambda c: c.remove_image("a:1"), "DELETE /images/a:1", {"force": "0"}),
        (lambda c: c.remove_image("a", force=True), "DELETE /images/a", {"force": "1"}),
    ],
)
def test_each_method_calls_its_endpoint(engine, client, call, sent, query):
    engine.answers[sent] = answer({})
    call(client)
    assert (engine.requests[-1].call, engine.requests[-1].query) == (sent, query)


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        (lambda c: c.ping(), "GET /_ping"),
        (lambda c: c.inspect_container("a"), "GET /containers/a/json"),
        (lambda c: c.start_container("a"), "POST /containers/a/start"),
        (lambda c: c.stop_container("a", 0), "POST /containers/a/stop"),
        (lambda c: c.remove_container("a"), "DELETE /containers/a"),
        (lambda c: c.tag_image("a", "b", "c"), "POST /images/a/tag"),
        (lambda c: c.events().close(), "GET /events"),
    ],
)
def test_idempotent_calls_are_repeated(engine, client, call, sent):
    engine.answers[sent] = lose(2, answer({}))
    call(client)
    assert engine.calls == [sent] * 3


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        (lambda c: c.create_container("a", {}), "POST /containers/create"),
        (lambda c: c.load_image([b"a"]), "POST /images/load"),
        (lambda c: c.kill_container("a"), "POST /containers/a/kill"),
        (lambda c: c.restart_container("a", 0), "POST /containers/a/restart"),
        (lambda c: c.pause_container("a"), "POST /containers/a/pause"),
        (lambda c: c.unpause_container("a"), "POST /containers/a/unpause"),
    ],
)
def test_other_calls_are_not_repeated(engine, client, call, sent):
    engine.answers[sent] = lose(1, answer(Id="a"))
    with pytest.raises(errors.Unreachable):
        call(client)
    assert engine.calls == [sent]
