# SPDX-License-Identifier: Apache-2.0
"""Enables :mod:`nova_docker_dashboard` in Horizon."""

FEATURE = "nova_docker"

# Horizon puts this before its own applications. Therefore static files of the same
# name are taken from here: that of the serial console's page.
ADD_INSTALLED_APPS = ["nova_docker_dashboard"]

_INSTANCES = "openstack_dashboard.dashboards.{}.instances.tabs.{}"
_TABS = [(0, "nova_docker_dashboard.tabs.ContainerTab")]
EXTRA_TABS = {
    _INSTANCES.format("project", "InstanceDetailTabs"): _TABS,
    _INSTANCES.format("admin", "AdminInstanceDetailTabs"): _TABS,
}
