# SPDX-License-Identifier: Apache-2.0
"""Version, information and events of an engine."""

from __future__ import annotations

import time

from docker_engine.transport import http as http_transport
from tests import archives
from tests.conftest import IMAGE
from tests.contract.helpers import LABEL
from tests.contract.helpers import TIMEOUT
from tests.contract.helpers import config
from tests.contract.helpers import listen


def test_an_engine_responds_and_has_a_version(client):
    client.ping()
    assert client.api_version >= http_transport.MIN_API_VERSION
    assert {"Version", "ApiVersion", "Arch"} <= client.version().keys()


def test_info_has_the_values_that_the_driver_reads(client):
    info = client.info()
    assert isinstance(info["NCPU"], int) and isinstance(info["MemTotal"], int)
    assert info["ID"] and info["ServerVersion"] and info["Architecture"]
    assert info["Driver"] and info["DockerRootDir"].startswith("/")
    assert "nova" in info["Runtimes"]


def test_an_event_identifies_its_container(client, run):
    with client.events(filters={"event": ["die"]}) as stream:
        container = run(code=3, Labels={LABEL: "1"})
        event = next(stream)
    assert (event["Type"], event["Action"]) == ("container", "die")
    assert event["Actor"]["ID"] == container
    attributes = event["Actor"]["Attributes"]
    assert attributes["name"] == "played" and attributes["image"] == IMAGE
    assert attributes["exitCode"] == "3" and attributes[LABEL] == "1"
    assert event["timeNano"] // 10**9 == event["time"]


def test_events_are_in_order(client, container):
    actions, stream = listen(client, filters={"container": [container]})
    with stream:
        # Events may be lost until the engine has registered the subscription.
        time.sleep(0.1)
        client.create_container("other", config())
        client.start_container(container)
        client.pause_container(container)
        client.unpause_container(container)
        client.restart_container(container, 0)
        client.remove_container(container)
        told = []
        while not told or told[-1] != "destroy":
            told.append(actions.get(timeout=TIMEOUT))
    # Engines differ in which of these a restart emits, and how often.
    told = [action for action in told if action not in ("kill", "stop", "restart")]
    assert told == ["start", "pause", "unpause", "die", "start", "die", "destroy"]


def test_events_follow_a_container_as_they_happen(client, container):
    wanted = {"type": ["container"], "event": ["start", "die", "destroy"]}
    actions, stream = listen(client, filters={**wanted, "label": [LABEL]})
    with stream:
        other = client.create_container("other", config(Labels={}))
        client.start_container(other)
        client.start_container(container)
        assert actions.get(timeout=TIMEOUT) == "start"
        client.stop_container(container, 0)
        assert actions.get(timeout=TIMEOUT) == "die"
        client.remove_container(container)
        assert actions.get(timeout=TIMEOUT) == "destroy"


def test_earlier_events_are_replayed(client, container):
    before = time.time()
    client.start_container(container)
    actions, stream = listen(client, since=before, filters={"event": ["start"]})
    with stream:
        assert actions.get(timeout=TIMEOUT) == "start"


def test_a_closed_stream_ends(client):
    actions, stream = listen(client)
    stream.close()
    assert actions.get(timeout=TIMEOUT) is None


def test_images_have_events(client):
    actions, stream = listen(client, filters={"type": ["image"]})
    with stream:
        time.sleep(0.1)
        client.tag_image(IMAGE, "told", "1")
        assert actions.get(timeout=TIMEOUT) == "tag"
        client.remove_image("told:1")
        assert actions.get(timeout=TIMEOUT) == "untag"
        archive = archives.busybox_archive(config={"Cmd": ["told"]}, tags=["told:2"])
        client.load_image([archive])
        told = [actions.get(timeout=TIMEOUT)]
        client.remove_image("told:2")
        while told[-1] != "delete":
            told.append(actions.get(timeout=TIMEOUT))
        # Engines with containerd's image store emit more events.
        assert "load" in told
