# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# DevStack plugin that runs Nova's servers as Docker containers. In local.conf:
#
#     [[local|localrc]]
#     enable_plugin nova-docker URL-OF-THIS-REPOSITORY
#     DOWNLOAD_DEFAULT_IMAGES=False
#
# DevStack's own images are disks of virtual machines, which do not boot here. Other
# settings are in the file "settings"; local.conf.sample is a complete example.

NOVA_DOCKER_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NOVA_DOCKER_SYSCTL=$NOVA_DOCKER_DIR/etc/sysctl.d/60-nova-docker.conf
NOVA_DOCKER_IMAGES=(nova-docker/debian:latest nova-docker/debian:alt)
# shellcheck source=devstack/lib.sh
source "$NOVA_DOCKER_DIR/devstack/lib.sh"
# shellcheck source=devstack/glance.sh
source "$NOVA_DOCKER_DIR/devstack/glance.sh"

case "$1 ${2:-}" in
"stack install")
    if is_service_enabled n-cpu; then
        echo_summary "Installing nova-docker"
        install_docker_engine "$STACK_USER"
        pip_install "${NOVA_DOCKER_DIR}[compute,glance]"
        raise_kernel_limits "$NOVA_DOCKER_SYSCTL"
        register_docker_runtime "$(get_python_exec_prefix)/nova-docker-runtime"
    fi
    ;;
"stack post-config")
    if is_service_enabled nova; then
        echo_summary "Configuring nova-docker"
        set_ini_options "$NOVA_CONF" \
            "DEFAULT/non_inheritable_image_properties=$GLANCE_DOCKER_PROPERTIES"
    fi
    if is_service_enabled n-cpu; then
        # DevStack copies NOVA_CONF to NOVA_CPU_CONF when it starts nova-compute.
        configure_nova_docker "$NOVA_CONF" "$(get_python_exec_prefix)" \
            "$NOVA_CPU_CONF" "$NOVA_DOCKER_OPTIONS"
    fi
    if is_service_enabled glance-docker-sync; then
        configure_glance_docker_store
        configure_glance_docker_sync "$NOVA_DOCKER_SYNC_OPTIONS"
        load_docker_metadefs "$NOVA_DOCKER_DIR/glance_docker/metadefs"
    fi
    ;;
"stack extra")
    if is_service_enabled n-cpu && [[ $NOVA_DOCKER_BUILD_IMAGE == True ]]; then
        echo_summary "Building the image ${NOVA_DOCKER_IMAGES[0]}"
        build_debian_image "$NOVA_DOCKER_DIR" "${NOVA_DOCKER_IMAGES[@]}"
    fi
    if is_service_enabled glance-docker-sync; then
        start_glance_docker_sync
    fi
    ;;
"stack test-config")
    if is_service_enabled tempest; then
        merge_ini_file "$NOVA_DOCKER_DIR/cloud/tempest/features.conf" "$TEMPEST_CONFIG"
        print_tempest_exclude_list "$NOVA_DOCKER_DIR/cloud/tempest/skips.toml" \
            >"$TEMPEST_CONFIG_DIR/nova-docker-exclude-list"
    fi
    ;;
"unstack ")
    stop_process glance-docker-sync
    if is_service_enabled n-cpu; then
        # Stopped before its servers are removed, or it would report that they died.
        stop_process n-cpu
        cleanup_nova_docker
    fi
    ;;
"clean ")
    if is_service_enabled n-cpu; then
        remove_docker_images "${NOVA_DOCKER_IMAGES[@]}"
        unregister_docker_runtime
        forget_kernel_limits "$NOVA_DOCKER_SYSCTL"
    fi
    ;;
esac
