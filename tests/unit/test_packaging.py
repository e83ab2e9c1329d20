# SPDX-License-Identifier: Apache-2.0
"""The installed project: entry points, options, requirements and the alias."""

import ast
import functools
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
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import nova_docker
import nova_docker.alias
import nova_docker.conf
import nova_docker.driver

ROOT = pathlib.Path(nova_docker.__file__).parent.parent

# The requirements file of each package that has one; docker_engine's is for the
# others, too.
FILES = {
    "docker_engine": "requirements.txt",
    "nova_docker": "requirements-compute.txt",
    "glance_docker": "requirements-glance.txt",
}


def test_nova_loads_the_driver_by_its_configured_name():
    found = importutils.import_class("nova.virt.nova_docker.DockerDriver")
    assert found is nova_docker.driver.DockerDriver
    assert issubclass(found, ComputeDriver)


@pytest.mark.parametrize("name", ["", ".conf", ".driver"])
def test_the_alias_is_the_same_module(name):
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


def test_a_missing_submodule_is_reported_by_its_own_name():
    with pytest.raises(ModuleNotFoundError, match=r"nova_docker\.missing"):
        importlib.import_module("nova.virt.nova_docker.missing")


@pytest.mark.parametrize("name", ["os", "nova", "nova.virt", "nova.virt.nova_docker2"])
def test_the_finder_ignores_other_names(name):
    assert nova_docker.alias.AliasFinder.find_spec(name) is None


def test_the_finder_is_added_once():
    before = list(sys.meta_path)
    nova_docker.alias.install()
    assert sys.meta_path == before
    assert before.count(nova_docker.alias.AliasFinder) == 1


def test_unknown_attributes_raise_attribute_error():
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


@pytest.mark.parametrize("name", ["nova", "glance", "glance-store"])
def test_services_are_not_requirements(name):
    assert not any(name in _required(file) for file in FILES.values())


@pytest.mark.parametrize("package", FILES)
def test_every_import_is_required(package):
    required = _required(FILES["docker_engine"]) | _required(FILES[package])
    # Nova and glance_store are already installed on the hosts of these packages.
    known = {"nova": {"nova"}, "glance_store": {"glance-store"}}
    missing = {
        name: owners
        for name, owners in _imported(package).items()
        if not owners & required and owners != known.get(name)
    }
    assert not missing


@pytest.mark.parametrize("package", FILES)
def test_every_requirement_is_imported(package):
    used = set().union(*_imported(package).values())
    if package == "docker_engine":
        # Every host needs what both other packages import.
        others = ("nova_docker", "glance_docker")
        used |= set.intersection(*(set().union(*_imported(n).values()) for n in others))
    assert _required(FILES[package]) <= used


def test_the_dashboard_needs_nothing_but_horizon_and_what_that_requires():
    required = map(Requirement, metadata.requires("horizon"))
    known = {"horizon", *(canonicalize_name(each.name) for each in required)}
    imported = _imported("nova_docker_dashboard")
    assert all(owners & known for owners in imported.values()), imported


@pytest.mark.parametrize("extra", ["nova_docker", "glance_docker"])
def test_an_extra_repeats_no_common_requirement(extra):
    assert not _required(FILES[extra]) & _required(FILES["docker_engine"])


def _required(file):
    """Return the canonical names of the distributions that a file requires."""
    lines = (ROOT / file).read_text().splitlines()
    return {canonicalize_name(Requirement(x).name) for x in lines if x and x[0] != "#"}


@functools.cache
def _imported(package):
    """Map the top-level modules that a package imports to their distributions.

    Modules of the standard library and of this project are left out.
    """
    names = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition(".")[0])
    distributions = metadata.packages_distributions()
    return {
        name: {canonicalize_name(owner) for owner in distributions.get(name, ())}
        for name in names - sys.stdlib_module_names - {*FILES, package}
    }
