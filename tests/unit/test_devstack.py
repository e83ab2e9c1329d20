# SPDX-License-Identifier: Apache-2.0
"""The DevStack plugin, with stand-ins for DevStack and the system's programs."""

import configparser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Nova's default, and the properties of the engine's image
NOT_INHERITED = (
    "cache_in_nova,bittorrent,docker_cmd,docker_created,docker_digest,docker_engine,"
    "docker_entrypoint,docker_image_id,docker_labels,docker_serial,docker_tag,"
    "docker_volumes"
)

# A program that records its name and arguments.
RECORD = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'

SYSTEMCTL = (
    RECORD
    + """
case "$*" in
*User*) echo stack ;;
*ExecStart*) echo "{ path=$BIN/nova-compute ; argv[]=$BIN/nova-compute \\
--config-file $CONF ; ignore_errors=no ; start_time=[n/a] }" ;;
esac
"""
)

DOCKER = """
case "$1 ${2:-}" in
"ps "*) echo c1 c2 ;;
"images "*) printf '%s\\n' nova-glance/1:latest nova-snapshot:2 mine:latest ;;
"image inspect") [ -n "${HAS_IMAGE:-}" ] ;;
esac
"""

GLANCE_API_CONF = """
[DEFAULT]
enabled_backends = fast:file,slow:file

[paste_deploy]
flavor = keystone+cachemanagement
"""

PASTE_INI = """
[composite:api]
keystone = cors rootapp
keystone+cachemanagement = cors cache rootapp
"""

# DevStack's functions for INI files, which create what is missing.
INI = f"""#!{sys.executable}
import configparser, os, sys
path, section, name, *value = sys.argv[1:]
ini = configparser.RawConfigParser(strict=False)
ini.optionxform = str
ini.read(path)
if value:
    if not ini.has_section(section) and section != "DEFAULT":
        ini.add_section(section)
    ini.set(section, name, *value)
    with open(path, "w") as file:
        ini.write(file)
else:
    print(ini.get(section, name, fallback=""))
"""

DEVSTACK = """
is_service_enabled() {
    local service
    for service; do
        [[ ,$ENABLED_SERVICES, != *,$service,* ]] || return 0
        [[ $service != nova || ,$ENABLED_SERVICES != *,n-* ]] || return 0
    done
    return 1
}
enable_service() {
    [[ ,$DISABLED_SERVICES, == *,$1,* ]] || ENABLED_SERVICES+=,$1
}
disable_service() {
    ENABLED_SERVICES=${ENABLED_SERVICES//,$1/}
    DISABLED_SERVICES+=,$1
}
trueorfalse() {
    local value=${!2:-$1}
    echo "${value^}"
}
called() { echo "$*" >> "$CALLS"; }
echo_summary() { :; }
pip_install() { called pip_install "$(realpath "${1%[*}")[${1##*[}"; }
run_process() { called run_process "$@"; }
stop_process() { called stop_process "$@"; }
create_service_user() { called create_service_user "$@"; }
configure_keystoneauth() { iniset "$1" "$3" username "$2"; }
get_python_exec_prefix() { echo "$BIN"; }
STACK_USER=stack
NOVA_CONF=$CONF
NOVA_CPU_CONF=/etc/nova/nova-cpu.conf
GLANCE_CONF_DIR=$GLANCE
GLANCE_API_CONF=$GLANCE/glance-api.conf
GLANCE_API_PASTE_INI=$GLANCE/glance-api-paste.ini
GLANCE_LOCK_DIR=$GLANCE/locks
GLANCE_MULTIPLE_FILE_STORES=fast,slow
GLANCE_MULTISTORE_FILE_IMAGE_DIR=/data
GLANCE_BIN_DIR=$BIN
TEMPEST_CONFIG_DIR=$GLANCE
TEMPEST_CONFIG=$GLANCE/tempest.conf
set -eu
cd "$ROOT/devstack"
. ./override-defaults
. ./settings
[ $VIRT_DRIVER = docker ]
"""

# What is enabled on a host that has all services.
ALL = "key,n-api,n-cpu,n-novnc,g-api,tempest"


class Machine:
    """A machine whose programs are stand-ins in a directory."""

    def __init__(self, path):
        self.bin = path / "bin"
        self.bin.mkdir()
        self.calls = path / "calls"
        self.config = path / "nova-cpu.conf"
        self.config.write_text(
            "[DEFAULT]\ncompute_driver = libvirt.LibvirtDriver\nmy_ip = 10.0.0.1\n"
            "compute_driver_extra = 1\n[libvirt]\nvirt_type = qemu\n"
        )
        self.daemon_json = path / "docker/daemon.json"
        self.program("sudo", '#!/bin/sh\nexec env "$@"\n')
        self.program("systemctl", SYSTEMCTL)
        self.program("id", "#!/bin/sh\necho 0\n")
        self.program("find", RECORD)
        # This machine may have servers of its own.
        self.program(
            "rm", RECORD + 'case "$*" in */run/*) ;; *) exec /bin/rm "$@" ;; esac'
        )
        self.program("ip", RECORD + "echo 'nova-1 (id: 0)\nmine'\n")
        self.program("docker", RECORD + DOCKER)
        self.program("sg", '#!/bin/sh\nexec sh -c "$3"\n')
        self.program("iniset", INI)
        self.program("iniget", INI)
        self.glance = path / "glance"
        self.glance.mkdir()
        (self.glance / "glance-api.conf").write_text(GLANCE_API_CONF)
        (self.glance / "glance-api-paste.ini").write_text(PASTE_INI)
        (self.glance / "tempest.conf").write_text("[compute]\nimage_ref = 1\n")
        self.sysctls = path / "sysctl.d"
        self.sysctls.mkdir()
        for name in (
            "apt-get",
            "glance-docker-sync",
            "glance-manage",
            "sysctl",
            "usermod",
        ):
            self.program(name, RECORD)
        self.program("dockerd", RECORD)

    def program(self, name, text):
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *command, **variables):
        done = subprocess.run(
            command,
            env={
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                "BIN": str(self.bin),
                "CALLS": str(self.calls),
                "CONF": str(self.config),
                "DISABLED_SERVICES": "",
                "DOCKER_DAEMON_JSON": str(self.daemon_json),
                "GLANCE": str(self.glance),
                "ROOT": str(ROOT),
                "SYSCTL_DIRECTORY": str(self.sysctls),
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def plugin(self, *phase, enabled="n-cpu", **variables):
        script = DEVSTACK + f'set -- {" ".join(phase)}\n. ./plugin.sh "$@"\n'
        return self.run("bash", "-c", script, ENABLED_SERVICES=enabled, **variables)

    def nova_conf(self):
        return read(self.config)


def read(path):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    return {name: dict(parser[name]) for name in ("DEFAULT", *parser.sections())}


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_plugin_installs_the_project_and_registers_the_runtime(machine):
    calls = machine.plugin("stack", "install")
    assert calls == [
        "usermod --append --groups docker stack",
        f"pip_install {ROOT}[compute,glance]",
        f"sysctl --quiet --ignore --load {machine.sysctls}/60-nova-docker.conf",
        "systemctl restart docker",
    ]
    assert "kernel.pty.max" in (machine.sysctls / "60-nova-docker.conf").read_text()
    config = json.loads(machine.daemon_json.read_text())
    assert config["live-restore"] is True
    assert config["runtimes"]["nova"] == {"path": f"{machine.bin}/nova-docker-runtime"}
    # This machine may have gVisor.
    has_gvisor = shutil.which("runsc") is not None
    assert ("nova-gvisor" in config["runtimes"]) == has_gvisor


def test_plugin_registers_the_runtime_of_gvisor_if_the_machine_has_it(machine):
    machine.program("runsc", RECORD)
    arguments = ["--platform=kvm"]
    machine.daemon_json.parent.mkdir()
    machine.daemon_json.write_text(
        json.dumps({"runtimes": {"nova-gvisor": {"runtimeArgs": arguments}}})
    )
    machine.plugin("stack", "install")
    assert json.loads(machine.daemon_json.read_text())["runtimes"]["nova-gvisor"] == {
        "path": f"{machine.bin}/nova-docker-gvisor",
        "runtimeArgs": arguments,
    }


def test_plugin_keeps_the_rest_of_the_engine_configuration(machine):
    machine.daemon_json.parent.mkdir()
    machine.daemon_json.write_text(
        '{"live-restore": false, "runtimes": {"a": {"path": "b"}}}'
    )
    machine.plugin("stack", "install")
    machine.plugin("stack", "install")
    config = json.loads(machine.daemon_json.read_text())
    assert config["live-restore"] is False
    assert set(config["runtimes"]) - {"nova-gvisor"} == {"a", "nova"}


def test_plugin_configures_nova(machine):
    options = "network_mode=bridge\n\npids_limit = 100"
    for _ in range(2):
        machine.plugin("stack", "post-config", NOVA_DOCKER_OPTIONS=options)
    config = machine.nova_conf()
    assert config["DEFAULT"] == {
        "compute_driver": "nova_docker.DockerDriver",
        "my_ip": "10.0.0.1",
        "compute_driver_extra": "1",
        "non_inheritable_image_properties": NOT_INHERITED,
    }
    assert config["docker"]["network_mode"] == "bridge"
    assert config["docker"]["pids_limit"] == "100"
    assert config["libvirt"]["virt_type"] == "qemu"
    assert config["nova_docker_privileged"]["helper_command"] == (
        f"sudo {machine.bin}/privsep-helper --config-file /etc/nova/nova-cpu.conf"
    )


def test_plugin_keeps_all_values_of_an_option(machine):
    options = "rule=a/* public\nrule=b/* private"
    machine.plugin(
        "stack", "post-config", enabled=ALL, NOVA_DOCKER_SYNC_OPTIONS=options
    )
    lines = (machine.glance / "glance-docker-sync.conf").read_text().splitlines()
    assert [x for x in lines if x.startswith("rule")] == [
        "rule = a/* public",
        "rule = b/* private",
    ]


def test_plugin_configures_glance(machine):
    for _ in range(2):
        calls = machine.plugin("stack", "post-config", enabled=ALL)
    assert "create_service_user glance-docker-sync admin" in calls
    api = read(machine.glance / "glance-api.conf")
    assert api["DEFAULT"]["enabled_backends"] == "fast:file,slow:file,engine:docker"
    assert api["engine"]["docker_host"] == "unix:///var/run/docker.sock"
    # DevStack forgets them.
    assert api["slow"]["filesystem_store_datadir"] == "/data/slow/"
    paste = read(machine.glance / "glance-api-paste.ini")
    assert paste["composite:api"] == {
        "keystone": "cors rootapp",
        "keystone+cachemanagement": "docker-names cors cache rootapp",
    }
    assert "filter:docker-names" in paste
    sync = read(machine.glance / "glance-docker-sync.conf")
    assert sync["sync"] == {"access": "public"}
    assert sync["glance"]["username"] == "glance-docker-sync"
    assert sync["oslo_concurrency"]["lock_path"] == str(machine.glance / "locks")


def test_the_service_of_the_plugin_can_be_disabled(machine):
    for phase in ("post-config", "extra"):
        calls = machine.plugin(
            "stack",
            phase,
            enabled=ALL,
            DISABLED_SERVICES="glance-docker-sync",
            HAS_IMAGE="1",
        )
    assert not [call for call in calls if "glance-docker-sync" in call]
    api = read(machine.glance / "glance-api.conf")
    assert api["DEFAULT"]["enabled_backends"] == "fast:file,slow:file"


def test_plugin_lists_the_images_before_tempest_looks_for_them(machine):
    calls = machine.plugin("stack", "extra", enabled=ALL, HAS_IMAGE="1")
    command = f"--config-file {machine.glance}/glance-docker-sync.conf"
    assert calls == [
        "docker image inspect nova-docker/debian:latest nova-docker/debian:alt",
        f"glance-docker-sync {command} --once",
        "run_process glance-docker-sync "
        f"{machine.bin}/glance-docker-sync {command} docker",
    ]


def test_plugin_builds_no_image_if_told_so(machine):
    calls = machine.plugin("stack", "extra", NOVA_DOCKER_BUILD_IMAGE="False")
    assert calls == []


def test_plugin_tells_tempest_what_the_driver_can_do(machine):
    machine.plugin("stack", "test-config", enabled=ALL)
    config = read(machine.glance / "tempest.conf")
    assert config["compute"] == {"image_ref": "1"}
    assert config["compute-feature-enabled"]["live_migration"] == "false"
    assert config["validation"]["image_ssh_user"] == "root"
    excluded = (machine.glance / "nova-docker-exclude-list").read_text().splitlines()
    assert "test_reboot_server_hard" in excluded


def test_unstack_stops_nova_compute_and_removes_only_nova_servers(machine):
    assert machine.plugin("unstack", enabled=ALL) == [
        "stop_process glance-docker-sync",
        "stop_process n-cpu",
        "docker ps -aq --filter label=org.openstack.nova.uuid",
        "docker rm -f -v c1",
        "docker rm -f -v c2",
        "ip netns list",
        "ip netns delete nova-1",
        "find /run/nova-docker/userns -type f",
        "rm -rf --one-file-system /run/nova-docker /run/nova-docker-held",
    ]


def test_clean_undoes_the_installation(machine):
    machine.daemon_json.parent.mkdir()
    machine.daemon_json.write_text('{"runtimes": {"a": {"path": "b"}}}')
    machine.plugin("stack", "install")
    machine.calls.unlink()
    calls = machine.plugin("clean")
    assert [call for call in calls if call.startswith("docker image rm")] == [
        f"docker image rm --force {name}"
        for name in (
            "nova-glance/1:latest",
            "nova-snapshot:2",
            "nova-docker/debian:latest",
            "nova-docker/debian:alt",
        )
    ]
    config = json.loads(machine.daemon_json.read_text())
    assert config["runtimes"] == {"a": {"path": "b"}}
    assert not list(machine.sysctls.iterdir())


def test_plugin_offers_the_serial_console_instead_of_vnc(machine):
    script = DEVSTACK + 'called "$ENABLED_SERVICES"'
    [services] = machine.run("bash", "-c", script, ENABLED_SERVICES=ALL)
    assert "n-sproxy" in services
    assert "n-novnc" not in services


@pytest.mark.parametrize("phase", [("stack", "pre-install"), ("source",)])
def test_plugin_does_nothing_in_other_phases(machine, phase):
    assert machine.plugin(*phase, enabled=ALL) == []


@pytest.mark.parametrize("phase", ["install", "extra"])
def test_plugin_does_nothing_on_a_host_without_nova_compute(machine, phase):
    assert machine.plugin("stack", phase, enabled="n-api,g-api") == []


def test_the_sample_names_every_setting():
    settings, sample = (
        set(
            re.findall(
                r"^#?(NOVA_DOCKER_\w+)=", (ROOT / path).read_text(), re.MULTILINE
            )
        )
        for path in ("devstack/settings", "devstack/local.conf.sample")
    )
    assert settings == sample


def test_script_switches_a_running_devstack(machine):
    machine.program("python3", RECORD + f'[ $1 = -m ] || exec {sys.executable} "$@"\n')
    machine.program("sudo", '#!/bin/sh\n[ "$1" != -H ] || shift 3\nexec env "$@"\n')
    machine.program("chown", RECORD)
    calls = machine.run(ROOT / "setup_on_devstack.sh", NOVA_DOCKER_OPTIONS="")
    assert "usermod --append --groups docker stack" in calls
    [installed] = [call for call in calls if call.startswith("python3 -m pip")]
    assert installed.endswith("/nova-docker[compute]")
    assert "systemctl restart devstack@n-cpu.service" in calls
    # The copy that was installed is removed.
    assert calls[-1].startswith("rm -rf ")
    assert machine.nova_conf()["DEFAULT"]["compute_driver"] == (
        "nova_docker.DockerDriver"
    )
    runtimes = json.loads(machine.daemon_json.read_text())["runtimes"]
    assert runtimes["nova"] == {"path": f"{machine.bin}/nova-docker-runtime"}
