# SPDX-License-Identifier: Apache-2.0
"""The server in the debug log of Engine API calls."""

from __future__ import annotations

import io
import logging

import pytest
from nova import conf as nova_conf
from oslo_log import formatters
from oslo_log import log

from docker_engine.transport import http
from nova_docker import call_log
from nova_docker.container import naming
from tests import samples

CONF = nova_conf.CONF


@pytest.fixture
def lines():
    """Return the lines that Nova's log has for the calls so far."""
    log.register_options(CONF)
    target = io.StringIO()
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatters.ContextFormatter(config=CONF))
    call_log.install()
    http.LOG.addHandler(handler)
    http.LOG.setLevel(logging.DEBUG)
    yield lambda: target.getvalue().splitlines()
    http.LOG.removeHandler(handler)
    http.LOG.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    "path",
    [
        "/v1.41/containers/{}/json",
        "/v1.41/containers/{}-rescued",
        "/v1.41/containers/create?name={}",
    ],
)
def test_the_line_of_a_call_about_a_server_has_the_instance(lines, path):
    uuid = samples.uuid()
    http.LOG.debug("GET %s: 200 after 2 ms", path.format(naming.name_of(uuid)))
    assert f"[instance: {uuid}] GET /v1.41" in lines()[0]


@pytest.mark.parametrize("path", ["/info", "/images/nova-glance/{}:latest/json"])
def test_the_lines_of_other_calls_have_no_instance(lines, path):
    path = path.format(samples.uuid())
    http.LOG.debug("GET %s: 200 after 2 ms", path)
    assert path in lines()[0]
    assert "[instance:" not in lines()[0]


def test_installing_twice_adds_one_filter(lines):
    before = list(http.LOG.filters)
    call_log.install()
    assert http.LOG.filters == before
