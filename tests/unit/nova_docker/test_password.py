# SPDX-License-Identifier: Apache-2.0
"""Setting the administrator's password with the image's chpasswd."""

from __future__ import annotations

from unittest import mock

import pytest
from nova import conf as nova_conf
from nova import exception

from nova_docker import conf
from nova_docker import password
from nova_docker.guest import Guest
from tests import samples

CONF = nova_conf.CONF
conf.register_opts(CONF)


def guest(code=0, output=""):
    found = mock.create_autospec(Guest, instance=True)
    found.run.return_value = (code, output)
    return found


def instance(user=None):
    metadata = {"image_os_admin_user": user} if user else {}
    return samples.instance(system_metadata=metadata)


@pytest.mark.parametrize(("user", "line"), [(None, b"root"), ("admin", b"admin")])
def test_the_password_is_passed_to_chpasswd(user, line):
    server = guest()
    password.change(server, instance(user), "s3:cret")
    server.run.assert_called_once_with(["chpasswd"], line + b":s3:cret\n")


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_a_password_with_a_line_break_is_refused(text):
    server = guest()
    with pytest.raises(
        exception.InstancePasswordSetFailed, match="forbidden character"
    ) as refused:
        password.change(server, instance(), text)
    assert text not in str(refused.value)
    server.run.assert_not_called()


@pytest.mark.parametrize("user", ["root:x", "root\nroot"])
def test_a_user_name_with_a_separator_is_refused(user):
    server = guest()
    with pytest.raises(exception.InstancePasswordSetFailed, match="os_admin_user"):
        password.change(server, instance(user), "secret")
    server.run.assert_not_called()


@pytest.mark.parametrize("code", [126, 127])
def test_the_user_learns_that_the_image_has_no_chpasswd(code):
    with pytest.raises(
        exception.SetAdminPasswdNotSupported, match=r"not supported: .* no chpasswd"
    ):
        password.change(guest(code), instance(), "secret")


@pytest.mark.parametrize(
    ("code", "output", "reason"),
    [
        (1, "no such user", "status 1 and wrote 'no such user'$"),
        (1, "\x1b]0;forged\n", r"wrote '\\x1b]0;forged\\n'$"),
        (1, "x" * 5000, "wrote 'x{200}'$"),
        (None, "", "did not end in time"),
    ],
)
def test_a_failure_of_chpasswd_is_raised_with_its_reason(code, output, reason):
    with pytest.raises(exception.InstancePasswordSetFailed, match=reason):
        password.change(guest(code, output), instance(), "secret")


@pytest.fixture
def enable():
    yield lambda value: CONF.set_override("inject_password", value, "docker")
    CONF.clear_override("inject_password", "docker")


def test_a_failed_injection_does_not_fail_the_boot(enable, caplog):
    enable(True)
    password.inject(guest(127), instance(), samples.image_meta(), "secret")
    assert "Failed to inject the password" in caplog.text


@pytest.mark.parametrize(("enabled", "given"), [(False, "secret"), (True, None)])
def test_a_password_is_injected_only_if_wanted(enable, enabled, given):
    enable(enabled)
    server = guest()
    password.inject(server, instance(), samples.image_meta(), given)
    server.run.assert_not_called()
