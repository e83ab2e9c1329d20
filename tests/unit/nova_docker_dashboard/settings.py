# SPDX-License-Identifier: Apache-2.0
"""The settings with which Horizon's own tests run, with the plug-in enabled."""

# ruff: noqa: F403, F405
# mypy: ignore-errors

from openstack_dashboard import enabled
from openstack_dashboard.test.settings import *
from openstack_dashboard.utils import settings as settings_utils

import nova_docker_dashboard.enabled

settings_utils.update_dashboards(
    [enabled, nova_docker_dashboard.enabled], HORIZON_CONFIG, INSTALLED_APPS
)
# Horizon's tests have added its own dashboards already.
INSTALLED_APPS = list(dict.fromkeys(INSTALLED_APPS))
