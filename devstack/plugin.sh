# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# DevStack plugin that runs Nova's servers as Docker containers. In local.conf:
#
#     [[local|localrc]]
#     enable_plugin nova-docker URL-OF-THIS-REPOSITORY
#     DOWNLOAD_DEFAULT_IMAGES=False
#
# DevStack's own images are disks of virtual machines, which do not boot here.
#
# This plugin and setup_on_devstack.sh have not been run in a real DevStack: this
# project's tests have no network to install one from. The tests run both scripts
# with stand-ins for DevStack and the system's programs. ./quickstart starts the
# same services for real, and has tests that do so.

NOVA_DOCKER_DEVSTACK=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=devstack/lib.sh
source "$NOVA_DOCKER_DEVSTACK/lib.sh"

if is_service_enabled n-cpu; then
    case "$1 ${2:-}" in
    "stack install")
        echo_summary "Installing nova-docker"
        install_docker_engine "$STACK_USER"
        pip_install "$NOVA_DOCKER_DEVSTACK/..[compute]"
        raise_kernel_limits "$NOVA_DOCKER_DEVSTACK/../etc/sysctl.d/60-nova-docker.conf"
        register_docker_runtime "$(get_python_exec_prefix)/nova-docker-runtime"
        ;;
    "stack post-config")
        echo_summary "Configuring nova-docker"
        # DevStack copies NOVA_CONF to NOVA_CPU_CONF when it starts nova-compute.
        configure_nova_docker "$NOVA_CONF" "$(get_python_exec_prefix)" \
            "$NOVA_CPU_CONF" "$NOVA_DOCKER_OPTIONS"
        ;;
    "clean ")
        cleanup_nova_docker
        ;;
    esac
fi
