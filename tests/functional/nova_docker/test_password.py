# SPDX-License-Identifier: Apache-2.0
"""The administrator's password, set with the image's chpasswd."""

from __future__ import annotations

import pytest
from nova import exception

from tests import archives

CHPASSWD = b"""#!/bin/sh
cat > /set
ps > /seen
exit %d
"""


@pytest.fixture
def server_with(boot, image):
    """Boots a server whose image has this chpasswd, or none."""

    def start(program=None, properties=None, **values):
        files = {"usr/sbin/chpasswd": program} if program else {}
        layer = archives.busybox_layer(files)
        found = image(archives.archive([layer]), properties=properties)
        recorded = {
            f"image_{name}": value for name, value in (properties or {}).items()
        }
        return boot(found, system_metadata=recorded, **values)

    return start


def test_a_password_is_set_without_showing_in_process_lists(driver, server_with):
    server = server_with(CHPASSWD % 0)
    driver.set_admin_password(server.instance, "s3:cret")
    assert server.run("cat /set") == "root:s3:cret\n"
    assert "s3:cret" not in server.run("cat /seen")


def test_a_password_is_set_for_the_images_os_admin_user(driver, server_with):
    server = server_with(CHPASSWD % 0, {"os_admin_user": "admin"})
    driver.set_admin_password(server.instance, "secret")
    assert server.run("cat /set") == "admin:secret\n"


@pytest.mark.parametrize("user", ["root:x", "root\nroot"])
def test_a_user_name_with_a_separator_is_refused(driver, server_with, user):
    server = server_with(CHPASSWD % 0, {"os_admin_user": user})
    with pytest.raises(exception.InstancePasswordSetFailed):
        driver.set_admin_password(server.instance, "secret")


def test_an_image_without_chpasswd_does_not_support_passwords(driver, server_with):
    with pytest.raises(exception.SetAdminPasswdNotSupported):
        driver.set_admin_password(server_with().instance, "secret")


@pytest.mark.parametrize(
    "program", [CHPASSWD % 1, b"#!/bin/sh\nexec yes\n", b"#!/bin/sh\nsleep 100\n"]
)
def test_a_chpasswd_that_fails_floods_or_hangs_is_an_error(
    driver, server_with, program, monkeypatch
):
    monkeypatch.setattr("nova_docker.guest._RUN_SECONDS", 1)
    server = server_with(program)
    with pytest.raises(exception.InstancePasswordSetFailed):
        driver.set_admin_password(server.instance, "secret")


def test_the_password_of_a_paused_server_cannot_be_set(driver, server_with):
    server = server_with(CHPASSWD % 0)
    driver.pause(server.instance)
    with pytest.raises(exception.NovaException):
        driver.set_admin_password(server.instance, "secret")
    driver.unpause(server.instance)


@pytest.mark.parametrize("code", [0, 1])
def test_inject_password_sets_it_at_boot_and_tolerates_failure(
    configure, server_with, code
):
    configure("inject_password", True)
    server = server_with(CHPASSWD % code, password="secret")
    assert server.run("cat /set") == "root:secret\n"
