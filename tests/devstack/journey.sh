#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# One step of the journey, as user "stack" in a machine that DevStack has for itself:
#
#     journey.sh STEP
#
# Each step ends with an error if what it describes is not so. run.sh calls them in order.

set -euo pipefail

DEVSTACK=/opt/stack/devstack
REPOSITORY=/opt/stack/nova-docker
IMAGE=nova-docker/debian:latest
KEY=$HOME/journey.key

function fail {
    echo "journey.sh: $*" >&2
    exit 1
}

function openstack {
    /opt/stack/data/venv/bin/openstack --os-cloud devstack "$@"
}

function admin {
    /opt/stack/data/venv/bin/openstack --os-cloud devstack-admin "$@"
}

# $1: name of a server  $2...: a command that it runs
function ssh_to {
    local address
    address=$(<"$HOME/$1.address")
    ssh -i "$KEY" -o BatchMode=yes -o ConnectTimeout=5 -o ConnectionAttempts=12 \
        -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
        "root@$address" "${@:2}"
}

# A server, its floating IP and SSH through it.
# $1: name of the server  $2: image
function boot_server {
    local group
    [[ -e $KEY ]] || ssh-keygen -q -t ed25519 -N '' -f "$KEY"
    openstack keypair show journey >/dev/null 2>&1 ||
        openstack keypair create --public-key "$KEY.pub" journey
    if ! openstack security group show journey >/dev/null 2>&1; then
        group=$(openstack security group create journey -f value -c id)
        openstack security group rule create --protocol icmp "$group"
        openstack security group rule create --protocol tcp --dst-port 22 "$group"
    fi
    openstack server create --wait --flavor m1.tiny --image "$2" --key-name journey \
        --network private --security-group journey "$1"
    openstack floating ip create public -f value -c floating_ip_address \
        >"$HOME/$1.address"
    openstack server add floating ip "$1" "$(<"$HOME/$1.address")"
    [[ $(ssh_to "$1" hostname) == "$1" ]] || fail "no SSH to server $1"
    echo "SSH to $1: $(ssh_to "$1" 'uname -a; cat /proc/1/comm')"
}

# Leaves its server to unstack.sh.
function server {
    boot_server journey "$IMAGE"
    sudo docker ps --format '{{.Names}}' |
        grep -x "nova-$(openstack server show journey -f value -c id)" ||
        fail "the server is not a container"
}

# An image that is built on the engine appears in Glance, boots, and disappears.
function glance {
    local id i
    sudo docker build --tag team/tool:v1 - <<<"FROM $IMAGE
LABEL journey=yes"
    for i in {1..30}; do
        id=$(openstack image show team/tool:v1 -f value -c id 2>/dev/null) && break
        sleep 1
    done
    [[ -n ${id:-} ]] || fail "Glance does not list team/tool:v1"
    echo "listed after $i s: $(openstack image show "$id" -f json -c properties)"
    admin image show "$id" -f value -c properties | grep -q "'stores': 'engine'" ||
        fail "Glance has stored team/tool:v1 in another store"
    openstack server create --wait --flavor m1.tiny --image team/tool:v1 \
        --network private tool
    openstack server delete --wait tool
    sudo docker image rm team/tool:v1
    for i in {1..30}; do
        openstack image show "$id" >/dev/null 2>&1 || return 0
        sleep 1
    done
    fail "Glance still lists team/tool:v1"
}

function tempest {
    cd /opt/stack/tempest
    /opt/stack/data/venv/bin/tempest run --smoke --concurrency 2 \
        --exclude-list etc/nova-docker-exclude-list
}

function stack {
    cd $DEVSTACK
    ./stack.sh
}

function unstack {
    cd $DEVSTACK
    ./unstack.sh
    no_servers
}

function clean {
    cd $DEVSTACK
    ./clean.sh
    no_servers
    ! sudo docker images | grep -E '^nova-' || fail "images are left"
    ! sudo grep nova-docker /etc/docker/daemon.json || fail "an OCI runtime is left"
    [[ ! -e /etc/sysctl.d/60-nova-docker.conf ]] || fail "the kernel's limits are left"
    [[ ! -e /etc/glance/glance-docker-sync.conf ]] || fail "the sync service is left"
}

function no_servers {
    [[ -z $(sudo docker ps --all --quiet) ]] || fail "containers are left"
    ! ip netns list | grep '^nova-' || fail "network namespaces are left"
    ! mount | grep -E 'nova-docker|nova/' || fail "mounts are left"
    [[ ! -e /run/nova-docker ]] || fail "/run/nova-docker is left"
    ! systemctl --type service --state active | grep -E 'n-cpu|docker-sync' ||
        fail "services run"
    ! pgrep --list-full privsep-helper || fail "privsep daemons run"
}

# Turns a stock DevStack to containers, and boots a server there.
function turn {
    [[ -d $REPOSITORY ]] || git clone /opt/git/nova-docker.git "$REPOSITORY"
    cd "$REPOSITORY"
    sudo ./setup_on_devstack.sh
    sudo apt-get install -q -y mmdebstrap
    sudo python3 -B -m cloud.debian_image "$IMAGE"
    sudo docker save "$IMAGE" | admin image create debian --public \
        --container-format docker --disk-format raw
    boot_server turned debian
}

"$@"
