# SPDX-License-Identifier: Apache-2.0
"""What the enabled file changes in Horizon."""

from __future__ import annotations

import pathlib

import openstack_dashboard
import pytest
from django.contrib.staticfiles import finders
from django.utils import module_loading

import nova_docker_dashboard
from nova_docker_dashboard.enabled import _9010_nova_docker as enabled

SCRIPT = "js/angular/directives/serialConsole.js"


def test_horizon_serves_the_plugins_script_instead_of_its_own():
    ours = pathlib.Path(nova_docker_dashboard.__file__).parent / "static" / SCRIPT
    theirs = pathlib.Path(openstack_dashboard.__file__).parent / "static" / SCRIPT
    assert theirs.exists()
    assert finders.find(SCRIPT) == str(ours)


def test_the_script_defines_what_horizons_page_uses():
    page = pathlib.Path(openstack_dashboard.__file__).parent
    page /= "templates/serial_console.html"
    script = pathlib.Path(finders.find(SCRIPT)).read_text()
    for in_page, in_script in (
        (SCRIPT, ""),
        ('ng-app="serialConsoleApp"', "module('serialConsoleApp', [])"),
        ("<serial-console ", ".directive('serialConsole',"),
        ("connection=", "attrs.connection"),
        ("protocols=", "attrs.protocols"),
        ("termjs/term.js", "new Terminal()"),
    ):
        assert in_page in page.read_text()
        assert in_script in script


@pytest.mark.parametrize("group", enabled.EXTRA_TABS)
def test_each_page_of_a_server_has_the_tab(group):
    assert module_loading.import_string(group).slug == "instance_details"
    ((_, tab),) = enabled.EXTRA_TABS[group]
    assert module_loading.import_string(tab).slug == "container"
