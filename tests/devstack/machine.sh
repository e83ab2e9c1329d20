#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A Debian with systemd, booted in namespaces of this machine, for a DevStack:
#
#     machine.sh create            install Debian in the tree
#     machine.sh boot              start systemd as PID 1 of the tree
#     machine.sh run USER COMMAND  run a command line in it
#     machine.sh halt              stop it, and remove what boot made outside the tree
#
# The machine has namespaces of its own for mounts, processes, network, host name, IPC
# and cgroups. What the kernel does not divide is shared with this machine: most of
# /proc/sys, the clock and the kernel's modules.

set -euo pipefail

TREE=${TREE:-/var/tmp/nova-docker-devstack}
NAME=nova-docker-devstack
SUITE=bookworm
MIRROR=${MIRROR:-http://deb.debian.org/debian}
NETWORK=10.99.0
PACKAGES=bash-completion,ca-certificates,curl,dbus,ethtool,git,iproute2,iptables,jq,kmod
PACKAGES+=,locales,netbase,nftables,openssh-client,procps,python3-dev,python3-pip
PACKAGES+=,python3-venv,rsync,sudo,systemd,systemd-sysv

# What decides where Debian's and Python's packages come from.
CONFIGURATION=(/etc/apt/sources.list /etc/apt/sources.list.d/debian.sources /etc/pip.conf
    /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates)

function main {
    [[ $(id -u) == 0 ]] || fail "not root"
    case "${1:-}" in
    create | boot | halt) "$1" ;;
    run) run "${@:2}" ;;
    start_init) start_init ;;
    *) fail "unknown command: ${1:-none}" ;;
    esac
}

function fail {
    echo "machine.sh: $*" >&2
    exit 1
}

function create {
    [[ ! -e $TREE/etc/nova-docker-devstack ]] || return 0
    debootstrap --include="$PACKAGES" "$SUITE" "$TREE" "$MIRROR"
    local file
    for file in "${CONFIGURATION[@]}"; do
        [[ ! -e $file ]] || rsync --archive --relative "$file" "$TREE/"
    done
    configure_tree
    touch "$TREE/etc/nova-docker-devstack"
}

function configure_tree {
    echo devstack >"$TREE/etc/hostname"
    echo "127.0.0.1 localhost devstack" >"$TREE/etc/hosts"
    echo "en_US.UTF-8 UTF-8" >"$TREE/etc/locale.gen"
    chroot "$TREE" locale-gen
    # The machine runs in namespaces, where these have nothing to do.
    chroot "$TREE" systemctl mask systemd-networkd systemd-resolved systemd-timesyncd \
        systemd-udevd console-getty getty@tty1
    chroot "$TREE" useradd --shell /bin/bash --home-dir /opt/stack --create-home stack
    chmod 755 "$TREE/opt/stack"
    echo "stack ALL=(ALL) NOPASSWD: ALL" >"$TREE/etc/sudoers.d/stack"
    # DevStack starts iscsid on each compute host, and not each kernel has iSCSI.
    mkdir -p "$TREE/etc/systemd/system/iscsid.service.d"
    printf '[Service]\nType=oneshot\nExecStart=\nExecStart=/bin/true\n' \
        >"$TREE/etc/systemd/system/iscsid.service.d/no-iscsi.conf"
    # Creating the schemas is what takes DevStack longest. None of it is kept.
    mkdir -p "$TREE/etc/systemd/system/mariadb.service.d"
    printf '[Service]\nEnvironment=MYSQLD_OPTS=%s\n' \
        --innodb-flush-log-at-trx-commit=0 \
        >"$TREE/etc/systemd/system/mariadb.service.d/fast.conf"
    # The sources of a bind mount belong to others.
    printf '[safe]\n\tdirectory = *\n' >"$TREE/etc/gitconfig"
}

function boot {
    [[ -z $(pid) ]] || return 0
    make_network
    cp --dereference /etc/resolv.conf "$TREE/etc/resolv.conf"
    local hierarchy
    for hierarchy in $(hierarchies); do
        make_cgroup "/sys/fs/cgroup/$hierarchy"
    done
    (
        for hierarchy in $(hierarchies); do
            echo 0 >"/sys/fs/cgroup/$hierarchy/$NAME/cgroup.procs"
        done
        exec setsid nsenter --net=/run/netns/$NAME unshare --mount --pid --uts --ipc \
            --cgroup --fork --kill-child --propagation private "$0" start_init
    ) </dev/null >"$TREE/var/log/console" 2>&1 &
    echo $! >"$TREE/run.pid"
    wait_until_running
}

# The file systems, as a container's runtime makes them; then systemd replaces this.
function start_init {
    hostname devstack
    mount --bind "$TREE" "$TREE"
    cd "$TREE"
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t tmpfs tmpfs run
    mount -t tmpfs tmpfs tmp
    make_devices
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    local hierarchy
    for hierarchy in $(hierarchies); do
        mkdir -p "sys/fs/cgroup/$hierarchy"
        if [[ $hierarchy == systemd ]]; then
            mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
        else
            mount -t cgroup -o "$hierarchy" cgroup "sys/fs/cgroup/$hierarchy"
        fi
    done
    local source
    for source in ${SOURCES:-}; do
        mkdir -p ".$source"
        mount --bind "$source" ".$source"
    done
    mkdir -p .old
    pivot_root . .old
    cd /
    umount --lazy /.old
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        /lib/systemd/systemd systemd.legacy_systemd_cgroup_controller=1
}

function make_devices {
    mount -t tmpfs -o mode=755 tmpfs dev
    local device
    for device in null zero full random urandom tty fuse loop-control net/tun; do
        [[ -c /dev/$device ]] || continue
        mkdir -p "dev/$(dirname "$device")"
        cp --archive "/dev/$device" "dev/$device"
    done
    mkdir -p dev/pts dev/shm dev/mqueue
    mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
    mount -t tmpfs tmpfs dev/shm
    mount -t mqueue mqueue dev/mqueue
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    ln -s fd/0 dev/stdin
    ln -s fd/1 dev/stdout
    ln -s fd/2 dev/stderr
}

# Names of this machine's cgroup v1 hierarchies.
function hierarchies {
    findmnt --noheadings --raw --types cgroup --output TARGET | sed 's|.*/||' | sort -u
}

# $1: directory of the hierarchy
function make_cgroup {
    mkdir -p "$1/$NAME"
    local file
    for file in cpuset.cpus cpuset.mems; do
        [[ ! -e $1/$file ]] || cat "$1/$file" >"$1/$NAME/$file"
    done
    # As much of the CPUs as a few processes beside it have: by default it gets that of one.
    [[ ! -e $1/$NAME/cpu.shares ]] || echo 4096 >"$1/$NAME/cpu.shares"
    [[ ! -e $1/$NAME/memory.use_hierarchy ]] || echo 1 >"$1/$NAME/memory.use_hierarchy" ||
        true
}

# One veth pair, and NAT for it in a table of its own.
function make_network {
    [[ ! -e /run/netns/$NAME ]] || return 0
    ip netns add $NAME
    ip link add nd-devstack type veth peer name eth0 netns $NAME
    ip address add $NETWORK.1/24 dev nd-devstack
    ip link set nd-devstack up
    ip -netns $NAME link set lo up
    ip -netns $NAME address add $NETWORK.2/24 dev eth0
    ip -netns $NAME link set eth0 up
    ip -netns $NAME route add default via $NETWORK.1
    sysctl --quiet --write net.ipv4.ip_forward=1
    nft -f - <<EOT
table ip $NAME {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr $NETWORK.0/24 oifname != "nd-devstack" masquerade
    }
}
EOT
}

# Prints the process ID of the machine's systemd, if it runs.
function pid {
    [[ -e $TREE/run.pid ]] || return 0
    pgrep --parent "$(cat "$TREE/run.pid")" || true
}

function wait_until_running {
    local state=
    for _ in {1..60}; do
        state=$(run root "systemctl is-system-running --wait" 2>/dev/null) || true
        [[ $state != running && $state != degraded ]] || return 0
        sleep 1
    done
    fail "systemd did not start: ${state:-no answer}; see $TREE/var/log/console"
}

# $1: user  $2: command line for bash
function run {
    local target
    target=$(pid)
    [[ -n $target ]] || fail "the machine does not run"
    local hierarchy
    for hierarchy in $(hierarchies); do
        echo 0 >"/sys/fs/cgroup/$hierarchy/$NAME/cgroup.procs"
    done
    exec_in "$target" "$@"
}

function exec_in {
    # No session of logind: systemd-logind may have stopped answering after an upgrade of
    # D-Bus, and PAM would wait for it.
    nsenter --target "$1" --mount --uts --ipc --net --pid --cgroup --root --wd=/ \
        setpriv --reuid "$2" --regid "$2" --init-groups --reset-env \
        env --chdir / "TERM=${TERM:-dumb}" bash --login -c "cd; $3"
}

function halt {
    local target
    target=$(pid)
    if [[ -n $target ]]; then
        # systemd's own shutdown; a container's PID 1 ends with it.
        kill -s SIGRTMIN+3 "$target"
        tail --pid="$target" --follow /dev/null
    fi
    rm -f "$TREE/run.pid"
    nft delete table ip $NAME 2>/dev/null || true
    ip link delete nd-devstack 2>/dev/null || true
    ip netns delete $NAME 2>/dev/null || true
    local hierarchy
    for hierarchy in $(hierarchies); do
        find "/sys/fs/cgroup/$hierarchy/$NAME" -depth -type d -exec rmdir {} + 2>/dev/null ||
            true
    done
}

main "$@"
