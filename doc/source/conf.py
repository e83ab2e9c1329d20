# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration. ``tox -e docs`` builds the pages in doc/build/html."""

import logging
import pathlib
import sys
from importlib import metadata

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

project = "nova-docker"
copyright = "the nova-docker authors"
release = version = metadata.version("nova-docker")

extensions = [
    "openstackdocstheme",
    "oslo_config.sphinxconfiggen",
    "oslo_config.sphinxext",
    "attacks",
    "metadefs",
    "release_notes",
    "support_matrix",
]
config_generator_config_file = [
    (f"../../etc/{name}-config-generator.conf", f"_static/{name}")
    for name in ("nova-docker", "glance-docker-store", "glance-docker-sync")
]

html_theme = "openstackdocs"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
# The name and version above come from the installed package: there is no setup.cfg.
openstackdocs_auto_name = False
openstackdocs_auto_version = False
openstackdocs_projects = ["glance", "neutron", "nova"]

# A source distribution has no git metadata, and -W turns this warning into an error.
logging.getLogger("sphinx.openstackdocstheme.ext").addFilter(
    lambda record: "cannot get gitsha" not in record.getMessage()
)
