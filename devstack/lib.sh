# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Functions that the DevStack plugin and setup_on_devstack.sh share. Each takes all
# its input as arguments and can be called repeatedly.

# Installs the distribution's Docker engine, unless the host has an engine.
# $1: user of nova-compute, who gets access to the engine
function install_docker_engine {
    if ! command -v dockerd >/dev/null; then
        sudo apt-get update -q
        sudo DEBIAN_FRONTEND=noninteractive apt-get install -q -y docker.io iptables
    fi
    sudo usermod --append --groups docker "$1"
}

# Adds the OCI runtime to the engine's configuration, and that for gVisor if the host has
# runsc; and lets servers outlive a restart of the engine, unless the configuration says
# otherwise. Keeps the rest of it.
# $1: path of nova-docker-runtime
function register_docker_runtime {
    sudo python3 - "$1" "${DOCKER_DAEMON_JSON:-/etc/docker/daemon.json}" <<'EOF'
import json, os, shutil, sys
runtime, path = sys.argv[1:]
text = open(path).read() if os.path.exists(path) else ""
config = json.loads(text or "{}")
runtimes = config.setdefault("runtimes", {})
runtimes["nova"] = {"path": runtime}
if shutil.which("runsc"):
    gvisor = os.path.join(os.path.dirname(runtime), "nova-docker-gvisor")
    runtimes["nova-gvisor"] = {**runtimes.get("nova-gvisor", {}), "path": gvisor}
config.setdefault("live-restore", True)
os.makedirs(os.path.dirname(path), exist_ok=True)
with open(path + ".new", "w") as target:
    json.dump(config, target, indent=4)
os.rename(path + ".new", path)
EOF
    sudo systemctl restart docker
}

# Removes the OCI runtimes from the engine's configuration. live-restore stays: whether
# it was there before is not recorded, and it harms nobody.
function unregister_docker_runtime {
    local path=${DOCKER_DAEMON_JSON:-/etc/docker/daemon.json}
    [[ -e $path ]] || return 0
    sudo python3 - "$path" <<'EOF'
import json, os, sys
[path] = sys.argv[1:]
config = json.load(open(path))
runtimes = config.pop("runtimes", {})
others = {k: v for k, v in runtimes.items() if k not in ("nova", "nova-gvisor")}
if others:
    config["runtimes"] = others
with open(path + ".new", "w") as target:
    json.dump(config, target, indent=4)
os.rename(path + ".new", path)
EOF
    sudo systemctl restart docker
}

# Raises the kernel's limits that all servers share with the host.
# $1: file for sysctl.d
function raise_kernel_limits {
    local directory=${SYSCTL_DIRECTORY:-/etc/sysctl.d}
    sudo install -m 644 "$1" "$directory"
    # A kernel may not have all of them, and a container may not be allowed to change
    # them. nova-compute warns of each that is too low.
    sudo sysctl --quiet --ignore --load "$directory/$(basename "$1")" ||
        echo "warning: cannot raise all limits of the kernel" >&2
}

# Has the next start of the host restore the kernel's limits.
# $1: file for sysctl.d
function forget_kernel_limits {
    sudo rm -f "${SYSCTL_DIRECTORY:-/etc/sysctl.d}/$(basename "$1")"
}

# Selects the driver in nova.conf.
# $1: file to change  $2: directory of Nova's programs
# $3: file that nova-compute reads  $4: [docker] options, one NAME=VALUE per line
function configure_nova_docker {
    local options
    mapfile -t options < <(print_section_options docker "$4")
    set_ini_options "$1" "DEFAULT/compute_driver=nova_docker.DockerDriver" \
        "nova_docker_privileged/helper_command=sudo $2/privsep-helper --config-file $3" \
        "${options[@]}"
}

# Prints options as set_ini_options takes them.
# $1: their section  $2: one NAME=VALUE per line; empty lines are left out
function print_section_options {
    local option
    while read -r option; do
        [[ -z $option ]] || echo "$1/$option"
    done <<<"$2"
}

# Sets options in an INI file and replaces their old values. Several values for the same
# option are all written.
# $1: the file  $2...: SECTION/NAME=VALUE
function set_ini_options {
    sudo python3 - "$@" <<'EOF'
import collections, sys
path, *settings = sys.argv[1:]
with open(path) as file:
    lines = file.read().splitlines()
values = collections.defaultdict(list)
for setting in settings:
    key, _, value = setting.partition("=")
    section, _, name = key.strip().partition("/")
    values[section, name].append(value.strip())
for (section, name), new in values.items():
    if f"[{section}]" not in lines:
        lines.append(f"[{section}]")
    start = lines.index(f"[{section}]") + 1
    headers = (i for i in range(start, len(lines)) if lines[i].startswith("["))
    end = next(headers, len(lines))
    others = [x for x in lines[start:end] if x.partition("=")[0].strip() != name]
    lines[start:end] = [*(f"{name} = {value}" for value in new), *others]
with open(path, "w") as file:
    print(*lines, sep="\n", file=file)
EOF
}

# Sets all options of an INI file in another one.
# $1: the file with the options  $2: the file to change
function merge_ini_file {
    local options
    mapfile -t options < <(
        python3 - "$1" <<'EOF'
import configparser, sys
parser = configparser.ConfigParser(interpolation=None)
parser.read(sys.argv[1])
for section in parser.sections():
    for name, value in parser[section].items():
        print(f"{section}/{name}={value}")
EOF
    )
    set_ini_options "$2" "${options[@]}"
}

# Prints the regular expressions of the tests that this driver leaves out, for the option
# --exclude-list of `tempest run`.
# $1: cloud/tempest/skips.toml
function print_tempest_exclude_list {
    python3 - "$1" <<'EOF'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    skips = tomllib.load(file)
for entry in skips["left_out"] + skips["left_out_without_lxcfs"]:
    print("#", " ".join(entry["reason"].split()))
    print(entry["tests"])
EOF
}

# Builds a Debian with an SSH server as an image of the engine, unless it exists. A
# second tag gives it a second image in Glance: Tempest rebuilds servers from another one.
# $1: directory of this repository  $2: name of the image  $3: the second tag
function build_debian_image {
    if ! sudo docker image inspect "$2" "$3" >/dev/null 2>&1; then
        sudo DEBIAN_FRONTEND=noninteractive apt-get install -q -y mmdebstrap \
            debian-archive-keyring
        (cd "$1" && sudo python3 -B -m cloud.debian_image "$2" "$3")
    fi
}

# Removes the containers and namespaces that servers left behind.
function cleanup_nova_docker {
    local found
    for found in $(sudo docker ps -aq --filter label=org.openstack.nova.uuid); do
        sudo docker rm -f -v "$found"
    done
    for found in $(ip netns list | awk '$1 ~ /^nova-/ { print $1 }'); do
        sudo ip netns delete "$found"
    done
    for found in $(sudo find /run/nova-docker/userns -type f 2>/dev/null); do
        sudo umount "$found"
    done
    if [[ -e /run/nova-docker/filesystems ]]; then
        sudo umount --recursive /run/nova-docker/filesystems
    fi
    sudo rm -rf --one-file-system /run/nova-docker /run/nova-docker-held
}

# Removes the images that the driver made, and others.
# $1...: names of others
function remove_docker_images {
    local found
    for found in $(sudo docker images --format '{{.Repository}}:{{.Tag}}' |
        grep -E '^nova-(glance|snapshot)(/|:)') "$@"; do
        sudo docker image rm --force "$found"
    done
}
