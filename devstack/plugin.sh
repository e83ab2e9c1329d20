# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# DevStack plugin: Nova's servers are Docker containers. In local.conf:
#
#     [[local|localrc]]
#     enable_plugin nova-docker URL-OF-THIS-REPOSITORY
#     DOWNLOAD_DEFAULT_IMAGES=False
#
# DevStack's own images are disks of virtual machines, which do not boot here.
#
# Never run inside a DevStack by this project's tests, which have no network to
# bring one up from: neither this nor setup_on_devstack.sh. The tests run both
# with DevStack and the system's programs replaced by stand-ins. The quickstart
# at the top of the tree brings up the same services for real, and is tested.

NOVA_DOCKER_DEVSTACK=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=devstack/lib.sh
source "$NOVA_DOCKER_DEVSTACK/lib.sh"

if is_service_enabled n-cpu; then
    case "$1 ${2:-}" in
    "stack install")
        echo_summary "Installing nova-docker"
        install_docker_engine "$STACK_USER"
        pip_install "$NOVA_DOCKER_DEVSTACK/.."
        register_docker_runtime "$(get_python_exec_prefix)/nova-docker-runtime"
        ;;
    "stack post-config")
        echo_summary "Configuring nova-docker"
        # DevStack copies it to NOVA_CPU_CONF when it starts nova-compute.
        configure_nova_docker "$NOVA_CONF" "$(get_python_exec_prefix)" \
            "$NOVA_CPU_CONF" "$NOVA_DOCKER_OPTIONS"
        ;;
    "clean ")
        cleanup_nova_docker
        ;;
    esac
fi
