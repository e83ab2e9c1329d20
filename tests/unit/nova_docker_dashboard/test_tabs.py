# SPDX-License-Identifier: Apache-2.0
"""The tab of a server's page, in Horizon, with clients that tests replace."""

from __future__ import annotations

from types import MappingProxyType
from types import SimpleNamespace

import pytest
from glanceclient import exc

IMAGE = {"id": "one", "container_format": "docker", "docker_tag": "app:1"}
SERVER = {
    "id": "two",
    "flavor": {"vcpus": 1, "ram": 64, "swap": 0, "disk": 1},
    "image": {"id": "one"},
}


@pytest.fixture
def make_tab(mocker):
    """Returns the tab of a server, whose image a test chooses."""
    from nova_docker_dashboard import tabs

    def make(image=IMAGE, in_server=MappingProxyType({"id": "one"})):
        glance = mocker.patch.object(tabs.glance, "glanceclient").return_value
        if isinstance(image, Exception):
            glance.images.get.side_effect = image
        else:
            glance.images.get.return_value = image
        nova = mocker.patch.object(tabs.nova, "computeclient").return_value
        nova.get_server.return_value.to_dict.return_value = SERVER
        instance = SimpleNamespace(id="two", image=in_server)
        group = mocker.Mock(kwargs={"instance": instance})
        tab = tabs.ContainerTab(group, mocker.MagicMock())
        tab._active = True
        return tab

    return make


def test_the_tab_is_there_for_a_container(make_tab):
    assert make_tab()._allowed


@pytest.mark.parametrize(
    "image", [{"id": "one", "container_format": "bare"}, exc.HTTPNotFound()]
)
def test_the_tab_is_not_there_for_what_may_be_no_container(make_tab, image):
    assert not make_tab(image)._allowed


def test_the_tab_is_not_there_for_a_server_without_an_image(make_tab):
    assert not make_tab(in_server="")._allowed


def test_the_tab_shows_the_facts(make_tab):
    page = make_tab().render()
    assert "<code>app:1</code>" in page
    assert "<code>64 MiB</code>" in page


def test_an_owner_of_an_image_cannot_put_markup_into_the_page(make_tab):
    page = make_tab({**IMAGE, "docker_cmd": '["<i>"]', "docker_tag": "<b>"}).render()
    assert "<i>" not in page and "<b>" not in page
    assert "&lt;b&gt;" in page
