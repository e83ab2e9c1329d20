# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration; ``tox -e docs`` builds the pages."""

import pathlib
import sys
from importlib import metadata

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

project = "nova-docker"
copyright = "the nova-docker authors"
release = version = metadata.version("nova-docker")

extensions = [
    "oslo_config.sphinxconfiggen",
    "oslo_config.sphinxext",
    "support_matrix",
]
config_generator_config_file = [
    ("../../etc/nova-docker-config-generator.conf", "_static/nova-docker"),
]

html_theme = "alabaster"
html_theme_options = {"description": metadata.metadata("nova-docker")["Summary"]}
