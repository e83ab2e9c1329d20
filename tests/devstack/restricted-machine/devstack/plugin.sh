# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# DevStack plugin for a machine that lacks what DevStack expects of its kernel.

case "$1 ${2:-}" in
"stack post-config")
    # The kernel may have no module openvswitch. DevStack's OVS_DATAPATH_TYPE=netdev
    # reaches neither the bridge that ovn-controller creates nor the public one.
    sudo systemctl start ovsdb-server
    sudo ovs-vsctl --no-wait set Open_vSwitch . \
        external-ids:ovn-bridge-datapath-type=netdev
    for bridge in br-int "$PUBLIC_BRIDGE"; do
        sudo ovs-vsctl --no-wait --may-exist add-br "$bridge" -- \
            set Bridge "$bridge" datapath_type=netdev
    done
    # Root may lack CAP_SYS_RESOURCE. The proxy for metadata needs more descriptors than
    # rootwrap leaves it, and would raise the limit itself.
    iniset -sudo /etc/neutron/rootwrap.conf DEFAULT rlimit_nofile 4096
    ;;
"stack extra")
    # The userspace datapath does not complete checksums that the host leaves to its NIC.
    sudo ethtool --offload "$PUBLIC_BRIDGE" tx off
    ;;
esac
