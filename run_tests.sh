#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what the tests need and runs them; see usage below.

set -u
cd "$(dirname "$0")" || exit
# A user's PATH may lack the directories of the daemons that tests look for.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

all_parts=(pep8 docs unit nova33 functional cloud)
parts=()
pytest_args=()
python=${PYTHON:-/usr/bin/python3}
# Some tests switch to another user, who cannot read a Python below /root. The
# system's Python is readable by all.
[ -x "$python" ] || python=$(command -v python3 || echo /usr/bin/python3)

usage() {
    cat <<'EOF'
Usage: ./run_tests.sh [--pep8] [--docs] [--unit] [--nova33] [--functional]
                      [--cloud] [-- PYTEST-ARGUMENT...]

Runs the given parts, or all of them:
  --pep8        check style, types and shell scripts
  --docs        build the documentation
  --unit        test the code with a mock engine
  --nova33      as --unit, with Nova 33, the previous release
  --functional  test the code with a real engine, which the tests start (needs root)
  --cloud       test servers of a complete cloud on this machine (needs root)

Arguments after -- are passed to pytest: ./run_tests.sh --unit -- -k reboot

When run as root, it installs the Debian packages that bindep.txt lists for the parts.
Packages from PyPI are installed in this directory only (.tox, .tox-bootstrap).
Set the environment variable PYTHON to use another Python, 3.11 or later.
EOF
}

fail() {
    echo "run_tests.sh: $*" >&2
    exit 2
}

has_part() {
    [[ " ${parts[*]} " == *" $1 "* ]]
}

# Prints the Debian packages in bindep.txt that the parts need and that are missing.
missing_packages() {
    .tox-bootstrap/bin/bindep --brief --file bindep.txt "${parts[@]}" |
        if command -v dockerd >/dev/null; then grep -vx docker.io; else cat; fi
}

# Installs packages without starting their services: the tests start their own,
# with their own data.
install_packages() {
    [ "$(id -u)" = 0 ] ||
        fail "these packages are missing; install them, or run this as root: $*"
    echo "== installing $*"
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

# Installs tox and bindep, which need Debian's python3-venv first.
install_tools() {
    if .tox-bootstrap/bin/python -c 'import bindep, tox' 2>/dev/null; then
        return
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    echo "== installing tox and bindep"
    rm -rf .tox-bootstrap
    "$python" -m venv .tox-bootstrap || fail "cannot create a virtual environment"
    .tox-bootstrap/bin/python -m pip install -q -c constraints.txt tox bindep ||
        fail "cannot install tox and bindep"
}

while [ $# -gt 0 ]; do
    case $1 in
    --pep8 | --docs | --unit | --nova33 | --functional | --cloud) parts+=("${1#--}") ;;
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
install_tools
mapfile -t packages < <(missing_packages)
[ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"

# The cloud's tests take most of the time, and mostly wait: they run beside the others,
# and so come first. The output of each part is printed when it ends.
lanes=()
for part in cloud "${all_parts[@]}"; do
    if has_part "$part" && [[ " ${lanes[*]} " != *" $part "* ]]; then
        lanes+=("$part")
    fi
done
IFS=,
if [ ${#lanes[@]} = 1 ]; then
    exec .tox-bootstrap/bin/python -m tox run -e "${lanes[*]}" -- "${pytest_args[@]}"
fi
exec .tox-bootstrap/bin/python -m tox run-parallel --parallel 2 --parallel-no-spinner \
    -e "${lanes[*]}" -- "${pytest_args[@]}"
