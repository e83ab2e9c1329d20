# SPDX-License-Identifier: Apache-2.0
"""Horizon with the plug-in."""

from __future__ import annotations

import os

import django
import pytest


@pytest.fixture(scope="session", autouse=True)
def horizon():
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.unit.nova_docker_dashboard.settings"
    django.setup()
