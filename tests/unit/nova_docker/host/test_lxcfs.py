# SPDX-License-Identifier: Apache-2.0
"""The lxcfs of a host: what is decided from mounts, and when servers are looked at."""

from __future__ import annotations

import errno
import logging
import subprocess
from unittest import mock

import pytest
from nova import conf as nova_conf

from docker_engine import errors
from nova_docker import conf
from nova_docker.host import lxcfs
from nova_docker.privsep import lxcfs as privileged
from tests import samples

CONF = nova_conf.CONF
conf.register_opts(CONF)

POINT = "/var/lib/lxcfs"
# Of a host on which another lxcfs runs as well, and of a server
HOST = """\
25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
57 25 0:56 / /var/lib/lxcfs rw,nosuid,nodev,relatime shared:9 - fuse.lxcfs lxcfs rw
58 25 0:57 / /srv/lxcfs rw,nosuid,nodev,relatime - fuse.lxcfs lxcfs rw,allow_other
"""
SERVER = """\
90 80 0:60 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
91 90 0:61 / /proc rw,nosuid - proc proc rw
92 91 0:{0} /proc/meminfo /proc/meminfo ro,nosuid,nodev - fuse.lxcfs lxcfs rw
93 91 0:{1} /proc/uptime /proc/uptime ro,nosuid,nodev - fuse.lxcfs lxcfs rw
94 91 0:70 / /proc/acpi ro,relatime - tmpfs tmpfs ro
95 90 0:1 / /srv/lxcfs rw - fuse.lxcfs lxcfs rw
"""


def test_the_number_of_lxcfs_is_that_of_its_mount():
    assert lxcfs.device_at(POINT, HOST) == "0:56"
    assert lxcfs.device_at("/srv/lxcfs", HOST) == "0:57"
    assert lxcfs.device_at("/", HOST) is None
    again = HOST + HOST.splitlines()[1].replace("0:56", "0:99")
    assert lxcfs.device_at(POINT, again) == "0:99"


@pytest.mark.parametrize(
    ("numbers", "stale"),
    [
        ((56, 56), []),
        ((40, 40), ["/proc/meminfo", "/proc/uptime"]),
        ((56, 40), ["/proc/uptime"]),
    ],
)
def test_files_of_another_lxcfs_are_stale(numbers, stale):
    assert lxcfs.stale(SERVER.format(*numbers), "0:56") == stale


def test_a_server_without_lxcfs_gets_nothing():
    assert lxcfs.stale(HOST.splitlines()[0], "0:56") == []


class Host:
    """A host whose only server has an lxcfs, which may be another one than the host."""

    def __init__(self, proc):
        self._proc = proc
        self.uuid = samples.uuid()
        self.client = mock.Mock()
        self.client.list_containers.return_value = [
            {
                "Names": [f"/nova-{self.uuid}"],
                "Labels": {"org.openstack.nova.uuid": self.uuid},
                "State": "running",
            }
        ]
        self.client.inspect_container.return_value = {
            "Id": "c1",
            "State": {"Running": True, "Pid": 7},
        }
        for process, content in ("self", HOST), ("7", SERVER.format(40, 40)):
            (proc / process).mkdir()
            self.has(process, content)

    def has(self, process, mountinfo):
        (self._proc / process / "mountinfo").write_text(mountinfo)

    @property
    def inspections(self):
        return self.client.inspect_container.call_count


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(lxcfs, "_PROC", tmp_path)
    monkeypatch.setattr(lxcfs, "_answers", lambda point: True)
    CONF.set_override("lxcfs", POINT, "docker")
    yield Host(tmp_path)
    CONF.clear_override("lxcfs", "docker")


@pytest.fixture
def renew(host, monkeypatch):
    """What is renewed, which then belongs to the lxcfs of the host."""
    done = mock.Mock(side_effect=lambda *_: host.has("7", SERVER.format(56, 56)))
    monkeypatch.setattr(privileged, "renew", done)
    return done


def test_a_server_gets_the_files_of_an_lxcfs_that_was_restarted(host, renew):
    found = lxcfs.Lxcfs(host.client)
    found.renew()
    files = ["/proc/meminfo", "/proc/uptime"]
    assert renew.mock_calls == [mock.call(POINT, files, 7, "c1")]
    # Once more, for a server that was just starting
    found.renew()
    assert host.inspections == 2
    # And no more until it is restarted again
    found.renew()
    assert host.inspections == 2
    host.has("self", HOST.replace("0:56", "0:71"))
    found.renew()
    assert renew.call_count == 2


@pytest.mark.parametrize("name", [b"\xff", b"\x0b", b"\xc2\x85 - "])
def test_a_server_cannot_keep_the_others_from_being_managed(host, renew, name):
    """It names the directories above a mount as it likes."""
    path = host._proc / "7/mountinfo"
    line = b"96 90 0:1 / /" + name + b"/config_drive ro - ext4 /dev/vda ro\n"
    path.write_bytes(line + path.read_bytes())
    lxcfs.Lxcfs(host.client).renew()
    renew.side_effect = ValueError("whatever a daemon raises")
    lxcfs.Lxcfs(host.client).renew()


def test_without_the_option_nothing_is_done(host, renew):
    CONF.set_override("lxcfs", "", "docker")
    lxcfs.Lxcfs(host.client).renew()
    assert not host.client.mock_calls


@pytest.mark.parametrize("state", ["exited", "created"])
def test_only_servers_that_run_have_mounts(host, renew, state):
    host.client.list_containers.return_value[0]["State"] = state
    lxcfs.Lxcfs(host.client).renew()
    assert not renew.called
    assert not host.inspections


@pytest.mark.parametrize("gone", ["container", "process"])
def test_a_server_that_ends_meanwhile_is_no_failure(host, renew, caplog, gone):
    if gone == "process":
        renew.side_effect = ProcessLookupError(errno.ESRCH, "gone")
    else:
        host.client.inspect_container.side_effect = errors.ContainerNotFound("gone")
    found = lxcfs.Lxcfs(host.client)
    found.renew()
    found.renew()
    assert host.inspections == 1
    assert not caplog.records


@pytest.mark.parametrize("failing", ["engine", "container", "kernel"])
def test_a_failure_is_logged_and_tried_again(host, renew, caplog, failing):
    renews = renew.side_effect
    broken = {
        "engine": host.client.list_containers,
        "container": host.client.inspect_container,
        "kernel": renew,
    }[failing]
    broken.side_effect = (
        OSError(errno.EPERM, "refused")
        if failing == "kernel"
        else errors.Timeout("refused")
    )
    found = lxcfs.Lxcfs(host.client)
    found.renew()
    assert "refused" in caplog.text
    broken.side_effect = renews if failing == "kernel" else None
    found.renew()
    assert lxcfs.stale(lxcfs._mountinfo(7), "0:56") == []


@pytest.mark.parametrize("problem", ["silent", "unmounted"])
def test_an_lxcfs_that_does_not_answer_is_logged_once(
    host, renew, caplog, monkeypatch, problem
):
    caplog.set_level(logging.INFO)
    if problem == "silent":
        monkeypatch.setattr(lxcfs, "_answers", lambda point: False)
    else:
        host.has("self", "")
    found = lxcfs.Lxcfs(host.client)
    found.renew()
    found.renew()
    assert caplog.text.count("does not answer") == 1
    assert not host.client.mock_calls

    monkeypatch.setattr(lxcfs, "_answers", lambda point: True)
    host.has("self", HOST)
    found.renew()
    assert caplog.text.count("answers again") == 1
    assert renew.called


def test_a_file_system_that_hangs_delays_nothing(tmp_path, monkeypatch):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/uptime").write_text("1 1\n")
    assert lxcfs._answers(str(tmp_path))
    assert not lxcfs._answers(str(tmp_path / "missing"))

    started = []
    popen = subprocess.Popen

    def hanging(arguments, **more):
        started.append(popen(["sleep", "60"], **more))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", hanging)
    monkeypatch.setattr(lxcfs, "_SECONDS_TO_ANSWER", 0.05)
    assert not lxcfs._answers(str(tmp_path))
    assert started[0].wait(5) == -9
