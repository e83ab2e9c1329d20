# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Functions of the DevStack plugin for Glance: the store of the engine's images, and the
# service that lists them. They call DevStack's functions and use its variables.

GLANCE_DOCKER_SYNC_CONF=${GLANCE_CONF_DIR:-/etc/glance}/glance-docker-sync.conf
GLANCE_DOCKER_SOCKET=unix:///var/run/docker.sock

# Properties that a snapshot must not inherit: Nova's default, and the engine's image.
GLANCE_DOCKER_PROPERTIES=cache_in_nova,bittorrent,docker_cmd,docker_created,docker_digest
GLANCE_DOCKER_PROPERTIES+=,docker_engine,docker_entrypoint,docker_image_id,docker_labels
GLANCE_DOCKER_PROPERTIES+=,docker_serial,docker_tag

# Adds the store to glance-api.conf, and the filter for names with a colon to its pipeline.
function configure_glance_docker_store {
    local backends flavor pipeline store
    backends=$(iniget "$GLANCE_API_CONF" DEFAULT enabled_backends)
    if [[ ,$backends, != *,engine:docker,* ]]; then
        iniset "$GLANCE_API_CONF" DEFAULT enabled_backends "$backends,engine:docker"
    fi
    # DevStack enables these stores, but gives them no directory: the loop that would do so
    # reads a variable that nothing sets. Without it, uploads fail.
    for store in ${GLANCE_MULTIPLE_FILE_STORES//,/ }; do
        iniset "$GLANCE_API_CONF" "$store" filesystem_store_datadir \
            "$GLANCE_MULTISTORE_FILE_IMAGE_DIR/$store/"
    done
    iniset "$GLANCE_API_CONF" DEFAULT do_secure_hash False
    iniset "$GLANCE_API_CONF" engine store_description "Images of the Docker engine"
    iniset "$GLANCE_API_CONF" engine docker_host "$GLANCE_DOCKER_SOCKET"
    iniset "$GLANCE_API_PASTE_INI" filter:docker-names paste.filter_factory \
        glance_docker.names:filter_factory
    flavor=$(iniget "$GLANCE_API_CONF" paste_deploy flavor)
    pipeline=$(iniget "$GLANCE_API_PASTE_INI" composite:api "$flavor")
    if [[ $pipeline != docker-names* ]]; then
        iniset "$GLANCE_API_PASTE_INI" composite:api "$flavor" "docker-names $pipeline"
    fi
}

# Writes glance-docker-sync.conf, and creates the service's user.
# $1: [sync] options, one NAME=VALUE per line
function configure_glance_docker_sync {
    local option options=()
    while read -r option; do
        [[ -z $option ]] || options+=("sync/$option")
    done <<<"$1"
    rm -f "$GLANCE_DOCKER_SYNC_CONF"
    iniset "$GLANCE_DOCKER_SYNC_CONF" engine docker_host "$GLANCE_DOCKER_SOCKET"
    iniset "$GLANCE_DOCKER_SYNC_CONF" oslo_concurrency lock_path "$GLANCE_LOCK_DIR"
    create_service_user glance-docker-sync admin
    configure_keystoneauth "$GLANCE_DOCKER_SYNC_CONF" glance-docker-sync glance
    set_ini_options "$GLANCE_DOCKER_SYNC_CONF" "${options[@]}"
}

# $1: directory of the definitions
function load_docker_metadefs {
    "$GLANCE_BIN_DIR/glance-manage" --config-file "$GLANCE_API_CONF" \
        db_load_metadefs "$1"
}

# Lists the images that the engine has now, then starts the service.
function start_glance_docker_sync {
    local command
    command="$(get_python_exec_prefix)/glance-docker-sync"
    command+=" --config-file $GLANCE_DOCKER_SYNC_CONF"
    # This shell is older than its user's membership in the group.
    sg "$DOCKER_GROUP" -c "$command --once"
    run_process glance-docker-sync "$command" "$DOCKER_GROUP"
}
