# SPDX-License-Identifier: Apache-2.0
"""The services' configuration files, made from the templates in templates/."""

from __future__ import annotations

import grp
import os
import pathlib
import shutil
import string
from collections.abc import Mapping

from cloud import credentials
from cloud import databases
from cloud import engine
from cloud import lxcfs
from cloud import open_vswitch
from cloud import settings
from cloud.hosts import host as hosts
from cloud.settings import AUTH_URL
from cloud.settings import DATA
from cloud.settings import ETC
from cloud.settings import RUN

TEMPLATES = settings.SOURCE / "cloud/templates"

# Templates of files that each host of cloud.hosts has
_OF_HOSTS = ("hosts/containerd.toml", "hosts/nova.conf", "hosts/ovn-agent.ini")
# And those that each host has, if there are several
_OF_ALL_HOSTS = ("hosts/ssh.conf", "hosts/sshd.conf")


def write() -> None:
    """Write the configuration files that have changed, and clouds.yaml."""
    first = hosts.Host(1)
    values: dict[str, object] = {
        **{f"secret_{name}": value for name, value in credentials.passwords().items()},
        **{f"port_{k.replace('-', '_')}": v for k, v in settings.PORTS.items()},
        **{f"database_{name}": databases.url(name) for name in databases.NAMES},
        "auth_url": AUTH_URL,
        "bin": settings.BIN,
        "compute_driver": settings.COMPUTE_DRIVER,
        "control_ports": ", ".join(
            str(settings.PORTS[name]) for name in settings.CONTROL_SERVICES
        ),
        "control_prefix": settings.CONTROL_PREFIX,
        "data": DATA,
        "engine": engine.host(),
        "engine_bridge": settings.ENGINE_BRIDGE,
        "etc": ETC,
        "fake_host": settings.FAKE_HOST,
        "firewall": settings.FIREWALL,
        "host": settings.HOST,
        "hosts_bridge": settings.HOSTS_BRIDGE,
        "hosts_firewall": settings.HOSTS_FIREWALL,
        "integration_bridge": settings.INTEGRATION_BRIDGE,
        "lxcfs": lxcfs.point(),
        "my_ip": first.control if hosts.others() else "127.0.0.1",
        "ovsdb": f"unix:{open_vswitch.FIRST.socket}",
        "public_bridge": settings.PUBLIC_BRIDGE,
        "rule_for_builds": "" if engine.is_foreign() else "rule = * public",
        "run": RUN,
        "ssh_config": first.etc / "ssh.conf" if hosts.others() else "",
        "ssh_port": settings.SSH_PORT,
        "threads": 4,
        "tunnel_bridge": settings.TUNNEL_BRIDGE,
        "venv": settings.VENV,
    }
    values["keystone_authtoken"] = string.Template(_AUTHTOKEN).substitute(values)
    for template in sorted(TEMPLATES.rglob("*.*")):
        name = template.relative_to(TEMPLATES)
        if str(name) in _OF_HOSTS + _OF_ALL_HOSTS:
            wanted = hosts.others()
            if wanted and str(name) in _OF_ALL_HOSTS:
                wanted = hosts.everyone()
            for host in wanted:
                _write(template, host.etc / name.name, values | _values_of(host))
        else:
            _write(template, ETC / name, values)
    _copy_volume_driver()
    credentials.write_clouds_yaml()


def _values_of(host: hosts.Host) -> dict[str, object]:
    """Return the values that only the templates of a host use."""
    subid_start, subid_count = host.subids
    return {
        "host_control": host.control,
        "host_data": host.data,
        "host_engine": host.engine,
        "host_etc": host.etc,
        "host_name": host.name,
        "host_run": host.run,
        "host_subid_count": subid_count,
        "host_subid_start": subid_start,
        "host_switch": host.switch,
    }


def _write(
    template: pathlib.Path, path: pathlib.Path, values: Mapping[str, object]
) -> None:
    """Write a configuration file, unless it has not changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = string.Template(template.read_text()).substitute(values)
    if not path.exists() or path.read_text() != text:
        path.touch(mode=0o640)
        path.write_text(text)
    os.chown(path, 0, grp.getgrnam(_reader(path)).gr_gid)
    # Earlier versions let all users read some of these.
    path.chmod(0o640)


def _copy_volume_driver() -> None:
    """Copy the volume driver to where the user nova may read it."""
    target = ETC / "cinder/python/cloud/cinder_loop"
    target.mkdir(parents=True, exist_ok=True)
    for source in (settings.SOURCE / "cloud/cinder_loop").glob("*.py"):
        shutil.copyfile(source, target / source.name)


def _reader(path: pathlib.Path) -> str:
    """Return the group, besides root, that reads a configuration file."""
    readers = {"rabbitmq": "rabbitmq", "mariadb": "mysql"}
    return readers.get(path.name.partition(".")[0], settings.USER)


_AUTHTOKEN = f"""\
[keystone_authtoken]
www_authenticate_uri = $auth_url
auth_url = $auth_url
auth_type = password
user_domain_name = Default
project_domain_name = Default
project_name = service
password = $secret_service
region_name = {settings.REGION}
service_token_roles = service
service_token_roles_required = true
"""
