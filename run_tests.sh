#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests, having installed what they need; see usage below.

set -u
cd "$(dirname "$0")" || exit
# A user's PATH may not have what root's daemons are in.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

all_parts=(pep8 docs unit functional cloud)
parts=()
pytest_args=()
python=${PYTHON:-/usr/bin/python3}
# The environments' Pythons must be readable by the users that tests switch to,
# which one below /root is not: hence the system's, where there is one.
[ -x "$python" ] || python=$(command -v python3 || echo /usr/bin/python3)

usage() {
    cat <<'EOF'
Usage: ./run_tests.sh [--pep8] [--docs] [--unit] [--functional] [--cloud]
                      [-- PYTEST-ARGUMENT...]

Runs the parts asked for, or all of them:
  --pep8        style and types of the code
  --docs        the documentation builds
  --unit        the driver against a mock engine
  --functional  the driver against a real engine, which it starts     (root)
  --cloud       a whole OpenStack on this machine, through its API    (root)

What comes after -- goes to pytest, for example: ./run_tests.sh --unit -- -k reboot

As root it installs the Debian packages that a part needs and that are missing.
Tox and all else from PyPI is kept in this directory (.tox, .tox-bootstrap).
The environment variable PYTHON names another Python, 3.11 or later.
EOF
}

fail() {
    echo "run_tests.sh: $*" >&2
    exit 2
}

has_part() {
    [[ " ${parts[*]} " == *" $1 "* ]]
}

# Prints the Debian packages that the parts need and this machine has not.
missing_packages() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    if has_part pep8; then
        command -v shellcheck >/dev/null || echo shellcheck
    fi
    if has_part functional; then
        command -v dockerd >/dev/null || echo docker.io
        command -v iptables >/dev/null || echo iptables
        command -v ip >/dev/null || echo iproute2
        command -v ovs-vswitchd >/dev/null || echo openvswitch-switch
        command -v sudo >/dev/null || echo sudo
    fi
    if has_part cloud; then
        command -v chromium >/dev/null || echo chromium
    fi
    if has_part functional || has_part cloud; then
        command -v debootstrap >/dev/null || echo debootstrap
        command -v docker-registry >/dev/null || echo docker-registry
    fi
    if has_part unit || has_part functional || has_part cloud; then
        dpkg-query -W -f='${db:Status-Status}' busybox-static 2>/dev/null |
            grep -qx installed || echo busybox-static
    fi
}

# Installs packages, but has none of them start a service: the tests start
# their own, with their own data.
install_packages() {
    echo "== installing $*"
    [ "$(id -u)" = 0 ] || fail "not root; please install: $*"
    local policy=/usr/sbin/policy-rc.d status=0
    if [ ! -e $policy ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends "$@"; } \
        </dev/null || status=$?
    if [ -n "$(trap -p EXIT)" ]; then
        rm -f $policy
        trap - EXIT
    fi
    [ $status = 0 ] || fail "apt-get failed ($status)"
}

install_tox() {
    if ! .tox-bootstrap/bin/python -m tox --version >/dev/null 2>&1; then
        echo "== installing tox"
        rm -rf .tox-bootstrap
        "$python" -m venv .tox-bootstrap || fail "cannot make a virtual environment"
        .tox-bootstrap/bin/python -m pip install -q -c constraints.txt tox ||
            fail "cannot install tox"
    fi
}

while [ $# -gt 0 ]; do
    case $1 in
    --pep8 | --docs | --unit | --functional | --cloud) parts+=("${1#--}") ;;
    --)
        shift
        pytest_args=("$@")
        break
        ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
    shift
done
[ ${#parts[@]} -gt 0 ] || parts=("${all_parts[@]}")

if has_part functional || has_part cloud; then
    [ "$(id -u)" = 0 ] || fail "the functional and cloud tests need root"
fi
mapfile -t packages < <(missing_packages)
[ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"
install_tox

failures=0
summary=
for part in "${all_parts[@]}"; do
    has_part "$part" || continue
    echo "== $part"
    SECONDS=0
    if .tox-bootstrap/bin/python -m tox run -e "$part" -- "${pytest_args[@]}"; then
        result=passed
    else
        result=FAILED
        failures=$((failures + 1))
    fi
    summary+=$(printf '  %-12s %-8s %4d s' "$part" $result $SECONDS)$'\n'
done

printf '== run_tests.sh\n%s' "$summary"
[ $failures = 0 ]
