#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Switches a compute host of a running DevStack to Docker containers:
#
#     sudo ./setup_on_devstack.sh
#
# Run it on each compute host while the host has no servers. For a new DevStack,
# use the plugin in devstack/, which also sets up Glance.

set -euo pipefail
cd "$(dirname "$0")"

# shellcheck source=devstack/lib.sh
source devstack/lib.sh

unit=devstack@n-cpu.service

fail() {
    echo "setup_on_devstack.sh: $*" >&2
    exit 1
}

# Prints a property of nova-compute's systemd unit.
property() {
    systemctl show --property "$1" --value $unit
}

[ "$(id -u)" = 0 ] || fail "not root; run it with sudo"
user=$(property User)
command=$(property ExecStart)
[[ $command =~ path=([^ ]+)/nova-compute ]] || fail "this host has no $unit: DevStack does not run nova-compute here"
bin=${BASH_REMATCH[1]}
[[ $command =~ --config-file[=\ ]([^ ]+) ]] || fail "the command of $unit has no --config-file"
config=${BASH_REMATCH[1]}

# Installs this project as the owner of Nova's Python environment, so that DevStack can
# go on changing it, and from a copy, so that building leaves nothing in this checkout.
install_project() {
    local owner
    owner=$(stat --format %U "$bin")
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    cp -r . "$copy/nova-docker"
    chown -R "$owner" "$copy"
    sudo -H -u "$owner" "$bin/python3" -m pip install "$copy/nova-docker[compute]"
}

install_docker_engine "$user"
install_project
raise_kernel_limits etc/sysctl.d/60-nova-docker.conf
register_docker_runtime "$bin/nova-docker-runtime"
configure_nova_docker "$config" "$bin" "$config" "${NOVA_DOCKER_OPTIONS:-}"
systemctl restart $unit

cat <<'EOF'
Nova now runs servers on this host as Docker containers. Add an image to Glance:

    docker save IMAGE | openstack image create IMAGE \
        --container-format docker --disk-format raw
EOF
