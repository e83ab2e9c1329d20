# SPDX-License-Identifier: Apache-2.0
"""Suspending servers to disk, on an experimental engine with CRIU."""

from __future__ import annotations

import pytest

from cloud import settings
from nova_docker.container.naming import name_of
from tests import archives
from tests import criu
from tests.cloud import services
from tests.cloud.conftest import eventually
from tests.counter import COUNT
from tests.counter import counted


@pytest.fixture
def to_disk(criu_tree):
    """Configures the cloud's engine to write checkpoints, as an operator would."""
    program = criu.install(criu_tree, settings.BIN)
    configuration = settings.ETC / "dockerd.json"
    try:
        with services.configured(
            configuration,
            configuration.read_text(),
            '{"experimental": true, "live-restore": true}\n',
            "dockerd",
            "nova-compute",
        ):
            yield
    finally:
        program.unlink()


def test_a_server_suspended_to_disk_resumes_after_a_power_cut(
    to_disk, boot, upload, engine, flavor
):
    shared = flavor({"docker:isolation": "shared"})
    archive = archives.busybox_archive(config={"Entrypoint": ["sh", "-c", COUNT]})
    server = boot(upload(archive), flavor=shared)

    assert eventually(lambda: counted(server) > 5)
    before = counted(server)
    server.act("suspend_server", until="SUSPENDED")
    assert engine.list_checkpoints(name_of(server.id))
    assert not engine.inspect_container(name_of(server.id))["State"]["Running"]

    services.reboot_host()

    assert server.status == "SUSPENDED"
    server.act("resume_server", until="ACTIVE")
    assert before <= counted(server) < before + 50
    assert server.address() in server.run("ip -o addr show dev eth0")
    assert engine.list_checkpoints(name_of(server.id)) == []
