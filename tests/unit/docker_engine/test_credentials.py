# SPDX-License-Identifier: Apache-2.0
"""Credentials are read from a Docker config.json, and never appear in errors."""

from __future__ import annotations

import base64
import json
import traceback

import pytest

from docker_engine.credentials import credentials

HOST = "registry.example.org:5000"
LOGIN = ("nova", "s3cr3t:with colon")
AUTH = base64.b64encode(":".join(LOGIN).encode()).decode()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "config.json")


@pytest.fixture
def write(path):
    def write(auths):
        with open(path, "w") as file:
            json.dump({"auths": auths}, file)

    return write


def test_without_a_file_there_are_no_credentials():
    assert credentials(None, HOST) is None


def test_a_registry_without_an_entry_has_no_credentials(write, path):
    write({"registry.example.org": {"auth": AUTH}})
    assert credentials(path, HOST) is None


def test_a_file_with_other_settings_only_has_no_credentials(path):
    with open(path, "w") as file:
        file.write('{"detachKeys": "ctrl-e"}')
    assert credentials(path, HOST) is None


@pytest.mark.parametrize(
    "name", [HOST, f"https://{HOST}", f"https://{HOST}/v1/", f"{HOST}/v2/"]
)
def test_an_entry_may_be_named_by_url(write, path, name):
    write({"other": {}, name: {"auth": AUTH}})
    assert credentials(path, HOST) == LOGIN


def test_user_name_and_password_may_be_in_plain_text(write, path):
    write({HOST: {"username": LOGIN[0], "password": LOGIN[1]}})
    assert credentials(path, HOST) == LOGIN


@pytest.mark.parametrize(
    "entry",
    [
        {},
        [],
        "s3cr3t",
        {"auth": "s3cr3t"},
        {"auth": 7},
        {"auth": ["s3cr3t"]},
        {"auth": base64.b64encode(b"s3cr3t").decode()},
        {"auth": base64.b64encode(b":s3cr3t").decode()},
        {"auth": base64.b64encode(b"nova:s3cr3t\xff").decode()},
        {"username": "nova"},
        {"password": "s3cr3t"},
        {"username": "nova", "password": ["s3cr3t"]},
    ],
)
def test_a_malformed_entry_is_an_error_without_its_content(write, path, entry):
    write({HOST: entry})
    with pytest.raises(ValueError, match=HOST) as caught:
        credentials(path, HOST)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "content",
    [b"", b"s3cr3t", b'{"auths": {"s3cr3t', b"[]", b'{"auths": ["s3cr3t"]}', b"\xff"],
)
def test_a_malformed_file_is_an_error_without_its_content(path, content):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(ValueError, match=r"config\.json is not") as caught:
        credentials(path, HOST)
    told = "".join(traceback.format_exception_only(caught.value))
    assert "s3cr3t" not in told
    assert caught.value.__cause__ is None


def test_a_file_that_cannot_be_read_is_an_error(path):
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        credentials(path, HOST)
