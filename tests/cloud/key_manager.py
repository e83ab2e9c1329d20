# SPDX-License-Identifier: Apache-2.0
"""Barbican on loopback, which stores certificates for Nova in a test."""

from __future__ import annotations

import base64
import contextlib
import os
import pathlib
import secrets
import subprocess
import sys
from collections.abc import Iterator

import requests

from cloud import credentials
from cloud import probes
from cloud import settings
from tests.cloud import services

PORT = 9311
URL = f"http://127.0.0.1:{PORT}"

_CONFIGURATION = """\
[DEFAULT]
host_href = {url}
db_auto_create = true
log_file = {directory}/barbican.log

[database]
connection = sqlite:///{directory}/barbican.sqlite

[simple_crypto_plugin]
kek = {key}

[keystone_authtoken]
www_authenticate_uri = {auth_url}
auth_url = {auth_url}
auth_type = password
username = nova
password = {password}
project_name = service
user_domain_name = Default
project_domain_name = Default
service_token_roles_required = true
"""

_SERVER = f"""\
import sys
from wsgiref import simple_server
from paste import deploy
paste = f"config:{{sys.prefix}}/etc/barbican/barbican-api-paste.ini"
application = deploy.loadapp(paste)
simple_server.make_server("127.0.0.1", {PORT}, application).serve_forever()
"""

_NOVA = f"""\
[key_manager]
backend = barbican

[barbican]
barbican_endpoint = {URL}
auth_endpoint = {settings.AUTH_URL}

[vnc]
"""


@contextlib.contextmanager
def running(directory: pathlib.Path) -> Iterator[None]:
    """Run Barbican during the block, with nova-compute configured to use it."""
    configuration = directory / ".barbican/barbican.conf"
    configuration.parent.mkdir()
    configuration.write_text(
        _CONFIGURATION.format(
            auth_url=settings.AUTH_URL,
            directory=directory,
            key=base64.b64encode(secrets.token_bytes(32)).decode(),
            password=credentials.passwords()["service"],
            url=URL,
        )
    )
    environment = os.environ | {"HOME": str(directory)}
    with (
        (directory / "out").open("w") as output,
        subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            env=environment,
            cwd=directory,
            stdout=output,
            stderr=output,
        ) as server,
    ):
        try:
            probes.wait_until(
                lambda: probes.port_accepts(PORT) or server.poll() is not None,
                "Barbican does not listen",
            )
            assert server.poll() is None, (directory / "out").read_text()
            with services.configured(
                services.NOVA_CONF, "[vnc]\n", _NOVA, "nova-compute"
            ):
                yield
        finally:
            server.terminate()


def store(token: str, certificate: bytes) -> str:
    """Store a certificate (PEM) in Barbican, and return the ID of its secret."""
    answer = requests.post(
        f"{URL}/v1/secrets",
        json={
            "name": "certificate",
            "secret_type": "certificate",
            "payload": base64.b64encode(certificate).decode(),
            "payload_content_type": "application/octet-stream",
            "payload_content_encoding": "base64",
        },
        headers={"X-Auth-Token": token},
        timeout=30,
    )
    answer.raise_for_status()
    return str(answer.json()["secret_ref"].rpartition("/")[2])
