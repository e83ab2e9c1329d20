#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Turns the servers of a DevStack that is already up into Docker containers:
#
#     sudo ./setup_on_devstack.sh
#
# Run it on each of its compute hosts, with no server on them. For a DevStack
# that is not up yet, the plugin in devstack/ does the same; what of this is
# not tested is said there.

set -euo pipefail
cd "$(dirname "$0")"

# shellcheck source=devstack/lib.sh
source devstack/lib.sh

unit=devstack@n-cpu.service

fail() {
    echo "setup_on_devstack.sh: $*" >&2
    exit 1
}

# Prints a property of nova-compute's unit.
property() {
    systemctl show --property "$1" --value $unit
}

[ "$(id -u)" = 0 ] || fail "run it with sudo"
user=$(property User)
command=$(property ExecStart)
[[ $command =~ path=([^ ]+)/nova-compute ]] || fail "no $unit on this host"
bin=${BASH_REMATCH[1]}
[[ $command =~ --config-file[=\ ]([^ ]+) ]] || fail "$unit names no --config-file"
config=${BASH_REMATCH[1]}

install_docker_engine "$user"
"$bin/python3" -m pip install .
register_docker_runtime "$bin/nova-docker-runtime"
configure_nova_docker "$config" "$bin" "$config" "${NOVA_DOCKER_OPTIONS:-}"
systemctl restart $unit

cat <<'EOF'
Nova's servers on this host are Docker containers now. Give it an image:

    docker save IMAGE | openstack image create IMAGE \
        --container-format docker --disk-format raw
EOF
