# SPDX-License-Identifier: Apache-2.0
"""What the installed project promises to Nova, to operators and to pip."""

import ast
import importlib
import pathlib
import re
import sys
from importlib import metadata

import pytest
from nova.virt.driver import ComputeDriver
from oslo_config import generator
from oslo_config import validator
from oslo_utils import importutils

import nova_docker
import nova_docker.alias
import nova_docker.conf
import nova_docker.driver

ROOT = pathlib.Path(nova_docker.__file__).parent.parent
PACKAGES = {"docker_engine", "glance_docker", "nova_docker"}


def test_nova_loads_the_driver_by_its_configured_name():
    found = importutils.import_class("nova.virt.nova_docker.DockerDriver")
    assert found is nova_docker.driver.DockerDriver
    assert issubclass(found, ComputeDriver)


@pytest.mark.parametrize("name", ["", ".conf", ".driver"])
def test_the_alias_is_no_second_copy(name):
    alias = importlib.import_module("nova.virt.nova_docker" + name)
    assert alias is importlib.import_module("nova_docker" + name)
    assert alias.__name__ == alias.__spec__.name == "nova_docker" + name


@pytest.mark.parametrize(
    "name",
    ["nova.virt.nova_dockers", "nova.nova_docker"],
)
def test_other_names_are_not_found(name):
    with pytest.raises(ModuleNotFoundError, match=re.escape(name)):
        importlib.import_module(name)


def test_missing_submodule():
    with pytest.raises(ModuleNotFoundError, match=r"nova_docker\.missing"):
        importlib.import_module("nova.virt.nova_docker.missing")


@pytest.mark.parametrize("name", ["os", "nova", "nova.virt", "nova.virt.nova_docker2"])
def test_the_finder_leaves_other_names_to_python(name):
    assert nova_docker.alias.AliasFinder.find_spec(name) is None


def test_the_finder_is_added_once():
    before = list(sys.meta_path)
    nova_docker.alias.install()
    assert sys.meta_path == before
    assert before.count(nova_docker.alias.AliasFinder) == 1


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="LibvirtDriver"):
        nova_docker.LibvirtDriver  # noqa: B018


def test_options_are_exported():
    (entry,) = metadata.entry_points(group="oslo.config.opts", name="nova_docker")
    ((group, options),) = entry.load()()
    assert group.name == "docker"
    assert options == nova_docker.conf.docker_opts


def test_sample_configuration_has_every_option(tmp_path):
    sample = tmp_path / "sample.conf"
    config = ROOT / "etc/nova-docker-config-generator.conf"
    generator.main(["--config-file", str(config), "--output-file", str(sample)])
    text = sample.read_text()
    assert "[docker]" in text
    for option in nova_docker.conf.docker_opts:
        assert re.search(rf"^#{option.dest} = ", text, re.MULTILINE)
        assert option.help.strip()


@pytest.mark.parametrize(("option", "problems"), [("host", 0), ("hots", 1)])
def test_validator_knows_the_options(tmp_path, monkeypatch, option, problems):
    config = tmp_path / "nova.conf"
    config.write_text(f"[docker]\n{option} = tcp://127.0.0.1:2376\n")
    arguments = ["--input-file", str(config), "--namespace", "nova_docker"]
    monkeypatch.setattr(sys, "argv", ["oslo-config-validator", *arguments])
    assert validator.main() == problems


@pytest.mark.parametrize("name", ["nova", "glance-store"])
def test_pip_never_replaces(name):
    assert name not in _required()


def test_every_import_is_required():
    owners = metadata.packages_distributions()
    # Nova and Glance's library are where our part of them is.
    known = sys.stdlib_module_names | PACKAGES | {"nova", "glance_store"}
    missing = {
        name
        for name in _imported()
        if name not in known
        and not _required() & {_canonical(owner) for owner in owners[name]}
    }
    assert not missing


def _required():
    """Names of the distributions that the installed project requires."""
    lines = metadata.requires("nova-docker")
    return {_canonical(re.match(r"[\w.-]+", line)[0]) for line in lines}


def _canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported():
    """Top-level names of all modules that the packages import."""
    for path in (file for name in PACKAGES for file in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module.partition(".")[0]
