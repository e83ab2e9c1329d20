#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs this commit's plugin and setup_on_devstack.sh in a real DevStack, as root:
#
#     tests/devstack/run.sh [GIT_BASE]
#
# GIT_BASE is what DevStack's setting of this name is: the address of OpenStack's
# repositories, https://opendev.org by default, or a directory that contains
# openstack/NAME.git of devstack, glance, keystone, neutron, nova, placement, requirements
# and tempest. All of them are used as they are at master. If the directory does not
# contain os-test-images, an empty one stands in for it.
#
# A Debian with systemd (machine.sh) is created and booted for it, and is removed after
# a run without errors. After an error, "machine.sh run stack bash" looks around in it,
# and the run continues at the step named in STEPS:
#
#     STEPS="server tempest" tests/devstack/run.sh
#
# Output is in LOG, with a summary in its file "summary".

set -euo pipefail
cd "$(dirname "$0")"

ROOT=$(realpath ../..)
GIT_BASE=${1:-https://opendev.org}
export TREE=${TREE:-/var/tmp/nova-docker-devstack}
LOG=${LOG:-/var/tmp/nova-docker-devstack.log}
# Repositories of this checkout, for DevStack to clone.
OWN=/opt/git
STEPS=${STEPS:-prepare stack server glance tempest unstack clean stack server
    unstack clean stock stack turn}

function main {
    mkdir -p "$LOG"
    if [[ -d $GIT_BASE ]]; then
        GIT_BASE=$(realpath "$GIT_BASE")
        export SOURCES=$GIT_BASE
    fi
    log create ./machine.sh create
    log boot ./machine.sh boot
    local step number=0
    for step in $STEPS; do
        number=$((number + 1))
        case $step in
        prepare | stock) log "$(printf %02d $number)-$step" "$step" ;;
        *)
            log "$(printf %02d $number)-$step" \
                ./machine.sh run stack "$OWN/journey.sh $step"
            ;;
        esac
    done
    versions
    ./machine.sh halt
    rm -rf --one-file-system "$TREE"
}

# Runs a command with its output in a file, and writes its time to the summary.
# $1: name of the file  $2...: the command
function log {
    local started=$SECONDS result=passed
    echo "$(date +%T) $1"
    ("${@:2}") >"$LOG/$1" 2>&1 || result=FAILED
    echo "$1: $result after $((SECONDS - started)) s" | tee -a "$LOG/summary"
    if [[ $result == FAILED ]]; then
        tail -20 "$LOG/$1"
        exit 1
    fi
    # The counts of Tempest
    grep -E '^ - (Passed|Skipped|Failed):' "$LOG/$1" | tee -a "$LOG/summary" || true
}

# DevStack, with the plugin of this checkout.
function prepare {
    rm -rf "$TREE$OWN" "$TREE"/opt/stack/{devstack,nova-docker,restricted-machine}
    mkdir -p "$TREE$OWN"
    git -C "$ROOT" diff --quiet HEAD || echo "warning: changes without commit are not run"
    git clone --quiet --bare "$ROOT" "$TREE$OWN/nova-docker.git"
    git -C "$TREE$OWN/nova-docker.git" update-ref refs/heads/master \
        "$(git -C "$ROOT" rev-parse HEAD)"
    make_repository restricted-machine "$PWD/restricted-machine"
    make_repository os-test-images "$PWD/os-test-images"
    cp journey.sh "$TREE$OWN/"
    ./machine.sh run stack "git clone $GIT_BASE/openstack/devstack.git /opt/stack/devstack"
    write_local_conf ../../devstack/local.conf.sample
    {
        echo "enable_plugin restricted-machine $OWN/restricted-machine.git"
        this_machine
    } >>"$TREE/opt/stack/devstack/local.conf"
}

# A DevStack that does not know this project.
function stock {
    write_local_conf <(grep -v nova-docker ../../devstack/local.conf.sample)
    {
        echo "enable_plugin restricted-machine $OWN/restricted-machine.git"
        echo "disable_service n-novnc tempest"
        echo "LIBVIRT_TYPE=qemu"
        this_machine
    } >>"$TREE/opt/stack/devstack/local.conf"
}

# $1: the sample
function write_local_conf {
    sed "s|URL-OF-THIS-REPOSITORY|$OWN/nova-docker.git|" "$1" \
        >"$TREE/opt/stack/devstack/local.conf"
    chown --reference="$TREE/opt/stack" "$TREE/opt/stack/devstack/local.conf"
}

# Settings for a small machine that is not alone on its kernel.
function this_machine {
    cat <<EOT
GIT_BASE=$GIT_BASE
LOGFILE=/opt/stack/logs/stack.sh.log
OVS_DATAPATH_TYPE=netdev
ULIMIT_NOFILE=8192
ENABLE_KSM=False
ENABLE_KSMTUNED=False
API_WORKERS=1
MYSQL_GATHER_PERFORMANCE=False
EOT
    if [[ -d $GIT_BASE && ! -e $GIT_BASE/openstack/os-test-images.git ]]; then
        echo "OSTESTIMAGES_REPO=$OWN/os-test-images.git"
    fi
    if [[ -d $GIT_BASE ]]; then
        echo "TEMPEST_VENV_UPPER_CONSTRAINTS=/opt/stack/requirements/upper-constraints.txt"
    fi
}

# $1: name  $2: directory of its files
function make_repository {
    local work
    work=$(mktemp -d)
    cp -r "$2/." "$work"
    git -C "$work" init --quiet --initial-branch master
    git -C "$work" add --all
    git -C "$work" -c user.name=run.sh -c user.email=run.sh@localhost commit --quiet \
        --message "$1"
    git clone --quiet --bare "$work" "$TREE$OWN/$1.git"
    rm -rf "$work"
}

# Writes to the summary what has run.
function versions {
    {
        # shellcheck disable=SC2016  # the machine's shell expands it
        ./machine.sh run root 'for directory in /opt/stack/*/.git; do
            cd "${directory%.git}"; git log -1 --format="$(basename "$PWD") %h %cs"; done
            dockerd --version; ovs-vswitchd --version | head -1; ovn-controller --version |
            head -1; runc --version | head -1; python3 --version; uname -r'
    } | tee -a "$LOG/summary"
}

main
