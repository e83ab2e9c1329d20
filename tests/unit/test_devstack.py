# SPDX-License-Identifier: Apache-2.0
"""The DevStack plugin, with stand-ins for DevStack and the system's programs."""

import configparser
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

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

DEVSTACK = """
is_service_enabled() { [ "$1" = "$ENABLED" ]; }
echo_summary() { :; }
pip_install() { echo "pip_install $(realpath "${1%[*}")[${1##*[}" >> "$CALLS"; }
get_python_exec_prefix() { echo "$BIN"; }
STACK_USER=stack
NOVA_CONF=$CONF
NOVA_CPU_CONF=/etc/nova/nova-cpu.conf
set -eu
cd "$ROOT/devstack"
. ./override-defaults
. ./settings
[ $VIRT_DRIVER = docker ]
"""


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
        self.program("ip", RECORD + "echo 'nova-1 (id: 0)\nmine'\n")
        self.program("docker", RECORD + "[ $1 != ps ] || echo c1 c2\n")
        self.sysctls = path / "sysctl.d"
        self.sysctls.mkdir()
        for name in ("apt-get", "sysctl", "usermod"):
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
                "DOCKER_DAEMON_JSON": str(self.daemon_json),
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
        return self.run("bash", "-c", script, ENABLED=enabled, **variables)

    def nova_conf(self):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.config)
        return {name: dict(parser[name]) for name in ("DEFAULT", *parser.sections())}


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_plugin_installs_the_project_and_registers_the_runtime(machine):
    calls = machine.plugin("stack", "install")
    assert calls == [
        "usermod --append --groups docker stack",
        f"pip_install {ROOT}[compute]",
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
    }
    assert config["docker"]["network_mode"] == "bridge"
    assert config["docker"]["pids_limit"] == "100"
    assert config["libvirt"]["virt_type"] == "qemu"
    assert config["nova_docker_privileged"]["helper_command"] == (
        f"sudo {machine.bin}/privsep-helper --config-file /etc/nova/nova-cpu.conf"
    )


def test_plugin_removes_only_nova_servers(machine):
    assert machine.plugin("clean") == [
        "docker ps -aq --filter label=org.openstack.nova.uuid",
        "docker rm -f -v c1",
        "docker rm -f -v c2",
        "ip netns list",
        "ip netns delete nova-1",
    ]


@pytest.mark.parametrize("phase", [("stack", "extra"), ("unstack",)])
def test_plugin_does_nothing_in_other_phases(machine, phase):
    assert machine.plugin(*phase) == []


def test_plugin_does_nothing_without_nova_compute(machine):
    assert machine.plugin("stack", "install", enabled="n-api") == []


def test_script_switches_a_running_devstack(machine):
    machine.program("python3", RECORD + f'[ $1 = -m ] || exec {sys.executable} "$@"\n')
    calls = machine.run(ROOT / "setup_on_devstack.sh", NOVA_DOCKER_OPTIONS="")
    assert "usermod --append --groups docker stack" in calls
    assert "python3 -m pip install .[compute]" in calls
    assert calls[-1] == "systemctl restart devstack@n-cpu.service"
    assert machine.nova_conf()["DEFAULT"]["compute_driver"] == (
        "nova_docker.DockerDriver"
    )
    runtimes = json.loads(machine.daemon_json.read_text())["runtimes"]
    assert runtimes["nova"] == {"path": f"{machine.bin}/nova-docker-runtime"}
