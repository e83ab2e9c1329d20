# SPDX-License-Identifier: Apache-2.0
"""Installing the project with pip lets an unmodified Nova find the driver.

Each test has a new virtual environment, into which pip installs a Nova and this
project. Their requirements are linked from the environment that runs the tests.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[2]
PIP = (sys.executable, "-m", "pip", "-q")
NOVA = "nova==34.0.0"
OLDER_NOVA = "nova==33.0.2"

# Loads the driver as nova-compute does when it starts.
LOAD = """
import sys
from nova import conf
from nova.virt import driver
conf.CONF([], project="nova", default_config_files=[sys.argv[1]])
loaded = driver.load_compute_driver(virtapi=None)

import nova, nova_docker.driver
assert type(loaded) is nova_docker.driver.DockerDriver, type(loaded)
print(nova.__file__, nova_docker.__file__, sep="\\n")
"""


class Environment:
    """A virtual environment with the packages of a directory.

    :param dependencies: the directory; its content may change later
    """

    def __init__(self, path, dependencies):
        self.path = path
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", path], check=True
        )
        self.python = path / "bin/python"
        self.packages = pathlib.Path(
            sysconfig.get_path("purelib", "venv", {"base": str(path)})
        )
        # The name sorts it after the .pth files that pip installs.
        (self.packages / "zz-dependencies.pth").write_text(f"{dependencies}\n")

    def files(self):
        return {p for p in self.path.rglob("*") if "__pycache__" not in p.parts}

    def install(self, *what):
        self.pip("install", "--no-deps", *what)

    def pip(self, *arguments):
        subprocess.run([*PIP, "--python", self.python, *arguments], check=True)

    def run(self, code, *arguments):
        return subprocess.run(
            # -I, so that Python does not find the checkout in the working directory.
            [self.python, "-I", "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    def requirements(self, extra):
        """Return the requirements of the installed project with an extra."""
        (own,) = metadata.distributions(name="nova-docker", path=[str(self.packages)])
        return _applicable(own, {extra})

    def load_driver(self):
        """Load the driver as nova-compute does.

        :returns: (exit code, [file of nova, file of nova_docker], stderr)
        """
        config = self.path / "nova.conf"
        config.write_text("[DEFAULT]\ncompute_driver = nova_docker.DockerDriver\n")
        done = self.run(LOAD, config)
        files = [pathlib.Path(line) for line in done.stdout.splitlines()]
        return done.returncode, files, done.stderr


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory):
    """A directory with the requirements of Nova and this project, without both."""
    directory = tmp_path_factory.mktemp("dependencies")
    for path in pathlib.Path(sysconfig.get_path("purelib")).iterdir():
        hidden = path.name.startswith(("nova", "__editable__", "_nova"))
        if not hidden and path.suffix != ".pth":
            (directory / path.name).symlink_to(path)
    return directory


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of this project, because pip leaves files where it builds."""
    copy = tmp_path_factory.mktemp("source") / "nova-docker"
    ignore = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=ignore)
    return copy


@pytest.fixture(scope="module")
def nova_source(tmp_path_factory):
    """Nova's source tree, for an editable installation."""
    directory = tmp_path_factory.mktemp("nova")
    subprocess.run(
        [*PIP, "download", "--no-deps", "--no-binary", "nova", "-d", directory, NOVA],
        check=True,
    )
    (archive,) = directory.glob("*.tar.gz")
    shutil.unpack_archive(archive, directory)
    return archive.with_name(archive.name.removesuffix(".tar.gz"))


def link(requirements, directory):
    """Link distributions from the tests' environment, with their requirements."""
    todo, seen = list(requirements), set()
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found = metadata.distribution(requirement.name)
        todo += _applicable(found, requirement.extras)
        for name in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            link = directory / name
            if not link.exists() and link.suffix != ".pth":
                link.symlink_to(found.locate_file(name))


def _applicable(distribution, extras):
    """Return a distribution's requirements on this platform, with some extras."""
    found = map(Requirement, distribution.requires or ())
    return [
        requirement
        for requirement in found
        if not requirement.marker
        or any(requirement.marker.evaluate({"extra": e}) for e in {"", *extras})
    ]


@pytest.fixture
def environment(tmp_path, dependencies):
    return Environment(tmp_path / "venv", dependencies)


@pytest.fixture
def bare(tmp_path):
    """An environment without requirements, and the directory to link them to."""
    directory = tmp_path / "dependencies"
    directory.mkdir()
    return Environment(tmp_path / "venv", directory), directory


@pytest.mark.parametrize("nova", [NOVA, OLDER_NOVA])
def test_nova_from_a_wheel_finds_the_driver(environment, source, nova):
    environment.install(nova)
    code, _, stderr = environment.load_driver()
    assert code == 1
    assert "No module named 'nova.virt.nova_docker'" in stderr

    environment.install(source)
    code, files, stderr = environment.load_driver()
    assert code == 0, stderr
    assert all(environment.packages in file.parents for file in files)


@pytest.mark.parametrize("order", ["nova first", "driver first"])
def test_editable_nova_finds_the_driver(environment, source, nova_source, order):
    install = [("-e", nova_source), (source,)]
    for what in install if order == "nova first" else reversed(install):
        environment.install(*what)
    code, files, stderr = environment.load_driver()
    assert code == 0, stderr
    assert files == [
        nova_source / "nova/__init__.py",
        environment.packages / "nova_docker/__init__.py",
    ]


def test_editable_nova_finds_the_editable_driver(environment, source, nova_source):
    environment.install("-e", nova_source, "-e", source)
    code, files, stderr = environment.load_driver()
    assert code == 0, stderr
    assert files == [
        nova_source / "nova/__init__.py",
        source / "nova_docker/__init__.py",
    ]


@pytest.mark.parametrize("options", [(), ("-e",)])
def test_programs_of_the_host_are_installed_unchanged(environment, source, options):
    environment.install(*options, source)
    for name in (
        "nova-docker-runtime",
        "nova-docker-gvisor",
        "nova-docker-oci-create",
        "nova-docker-receive",
    ):
        script = environment.path / "bin" / name
        assert script.read_bytes() == (ROOT / "bin" / name).read_bytes()
        assert os.access(script, os.X_OK)
    for module in (ROOT / "lib/nova-docker").glob("*.py"):
        installed = environment.path / "lib/nova-docker" / module.name
        assert installed.read_bytes() == module.read_bytes()


@pytest.mark.parametrize("options", [(), ("-e",)])
def test_uninstalling_leaves_nothing(environment, source, options):
    before = environment.files()
    environment.install(*options, source)
    assert environment.files() > before
    environment.pip("uninstall", "-y", "nova-docker")
    assert environment.files() == before


def test_glance_docker_works_without_nova(bare, source):
    environment, directory = bare
    environment.install(source)
    store = Requirement("glance_store")
    link([*environment.requirements("glance"), store], directory)
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "glance_docker").rglob("*.py")
    ]
    done = environment.run(
        "import importlib, importlib.util, sys\n"
        "for name in sys.argv[1].split(): importlib.import_module(name)\n"
        "absent = 'nova', 'os_vif', 'oslo_privsep', 'pyroute2'\n"
        "print([name for name in absent if importlib.util.find_spec(name)])",
        " ".join(modules),
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_driver_loads_without_glance_store(bare, source):
    environment, directory = bare
    environment.install(NOVA, source)
    nova = _applicable(metadata.distribution("nova"), set())
    link([*environment.requirements("compute"), *nova], directory)
    code, _, stderr = environment.load_driver()
    assert code == 0, stderr
    absent = environment.run("import glance_store")
    assert "No module named 'glance_store'" in absent.stderr


def test_python_imports_only_the_alias_when_it_starts(environment, source):
    show = "import sys; print(*sys.modules)"
    before = set(environment.run(show).stdout.split())
    environment.install(source)
    after = set(environment.run(show).stdout.split())
    assert after - before == {"nova_docker", "nova_docker.alias"}


@pytest.mark.parametrize("removed", ["nova_docker", "nova_docker/alias.py"])
def test_an_incomplete_removal_does_not_disturb_python(environment, source, removed):
    environment.install(source)
    path = environment.packages / removed
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    done = environment.run("print('started')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")
