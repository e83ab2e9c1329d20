# SPDX-License-Identifier: Apache-2.0
"""``python -m cloud.tempest [REGEX]``: run Tempest against the quickstart's cloud.

This runs in the virtual environment.
"""

from __future__ import annotations

import collections
import configparser
import contextlib
import io
import os
import pathlib
import re
import shutil
import string
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import subunit
import testtools
from openstack.connection import Connection

from cloud import commands
from cloud import credentials
from cloud import images
from cloud import lxcfs
from cloud import settings
from cloud.errors import QuickstartError
from cloud.hosts import host as hosts
from cloud.resources import image as image_api
from cloud.resources.connection import connect

DIRECTORY = settings.DATA / "tempest"
TEMPLATE = settings.SOURCE / "cloud/tempest/tempest.conf"
FEATURES = settings.SOURCE / "cloud/tempest/features.conf"
SKIPS = settings.SOURCE / "cloud/tempest/skips.toml"

# The smoke tests, all tests of Compute, and all scenarios
TESTS = r"\[.*\bsmoke\b.*\]|^tempest\.(api\.compute|scenario)\."

# Large enough for the image debian. Tests resize servers to the second one.
FLAVORS: tuple[dict[str, Any], ...] = (
    {"name": "tempest", "vcpus": 1, "ram": 128, "disk": 1},
    {"name": "tempest-alt", "vcpus": 1, "ram": 192, "disk": 1},
)
IMAGE_ALT = "debian-alt"


def main(tests: str = TESTS) -> int:
    """Run the tests whose names match a regular expression, and print a report.

    :returns: the exit status: 0 if at least one test passed, none failed, and
        each skipped test is documented in skips.toml
    :raises QuickstartError: when no test matches
    """
    skips = tomllib.loads(SKIPS.read_text())
    with configured(connect()):
        names = _output("tempest", "run", "--list-tests").split()
        names = [n for n in names if n.startswith("tempest.") and re.search(tests, n)]
        entries = list(skips["left_out"])
        entries += [] if lxcfs.point() else skips["left_out_without_lxcfs"]
        wanted, left_out = _divide(names, entries)
        if not wanted:
            raise QuickstartError(f"no test matches {tests}")
        (DIRECTORY / "tests").write_text("\n".join(wanted) + "\n")
        workers = str(os.cpu_count() or 1)
        _run("tempest", "run", "--load-list=tests", "--concurrency", workers)
    return _report(_results(), skips["skipped"], left_out)


@contextlib.contextmanager
def configured(cloud: Connection) -> Iterator[None]:
    """Configure Tempest, and create its flavors and image for the block."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    workspaces = f"--workspace-path={settings.DATA}/tempest-workspaces.yaml"
    pathlib.Path(f"{settings.DATA}/tempest-workspaces.yaml").unlink(missing_ok=True)
    _run("tempest", "init", workspaces, DIRECTORY, cwd=settings.DATA)
    _delete_resources(cloud)
    try:
        (DIRECTORY / "etc/tempest.conf").write_text(_configuration(cloud))
        yield
    finally:
        _delete_resources(cloud)


def _configuration(cloud: Connection) -> str:
    flavors = [cloud.compute.create_flavor(**flavor) for flavor in FLAVORS]
    image = cloud.image.find_image(images.DEBIAN, ignore_missing=False)
    nova = (settings.ETC / "nova/nova.conf").read_text()
    [filters] = re.findall(r"^enabled_filters = (.*)$", nova, re.MULTILINE)
    values = {
        "auth_url": settings.AUTH_URL,
        "directory": DIRECTORY,
        "extensions": ",".join(sorted(e.alias for e in cloud.network.extensions())),
        "filters": filters,
        "flavor": flavors[0].id,
        "hosts": hosts.count(),
        "flavor_alt": flavors[1].id,
        "image": image.id,
        "image_alt": _copy_image(cloud, image.id),
        "password": credentials.passwords()["admin"],
        "public_network": cloud.network.find_network("public", ignore_missing=False).id,
        "region": settings.REGION,
    }
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(string.Template(TEMPLATE.read_text()).substitute(values))
    parser.read(FEATURES)
    if hosts.others():
        parser["compute-feature-enabled"]["cold_migration"] = "true"
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def _copy_image(cloud: Connection, image_id: str) -> str:
    """Create a copy of an image, for tests that rebuild from another image."""
    made = image_api.create(cloud, IMAGE_ALT)
    with cloud.image.get(f"/images/{image_id}/file", stream=True) as source:
        image_api.upload(cloud, made, source.iter_content(1 << 20))
    return made


def _delete_resources(cloud: Connection) -> None:
    for flavor in FLAVORS:
        cloud.compute.delete_flavor(cloud.compute.find_flavor(flavor["name"]) or "none")
    for image in cloud.image.images(name=IMAGE_ALT):
        cloud.image.delete_image(image)


def _divide(
    names: list[str], entries: list[dict[str, str]]
) -> tuple[list[str], dict[str, list[str]]]:
    """Return the tests to run, and those that are left out, by reason."""
    left_out = {
        entry["reason"]: [name for name in names if re.search(entry["tests"], name)]
        for entry in entries
    }
    out = {name for found in left_out.values() for name in found}
    return [name for name in names if name not in out], left_out


def _results() -> list[dict[str, Any]]:
    """Return the result of each test, as testtools.StreamToDict has it."""
    found: list[Any] = []
    stream = subprocess.Popen(
        [settings.BIN / "stestr", "last", "--subunit"],
        cwd=DIRECTORY,
        stdout=subprocess.PIPE,
    )
    result = testtools.StreamToDict(found.append)
    result.startTestRun()
    subunit.ByteStreamToStreamResult(stream.stdout).run(result)
    result.stopTestRun()
    stream.wait()
    return found


def _report(
    results: list[dict[str, Any]],
    documented: list[dict[str, str]],
    left_out: dict[str, list[str]],
) -> int:
    """Print all results, with the counts in the last line; return the exit status."""
    by_status = collections.defaultdict(list)
    for result in results:
        by_status[result["status"]].append(result)
    skipped: dict[str, list[str]] = collections.defaultdict(list)
    unexplained = []
    for result in by_status["skip"]:
        says = result["details"]["reason"].as_text()
        reasons = [e["reason"] for e in documented if re.search(e["says"], says)]
        if reasons:
            skipped[reasons[0]].append(result["id"])
        else:
            unexplained.append(f"{result['id']}: {says}")
    _print_reasons("Left out", left_out)
    _print_reasons("Skipped by Tempest", skipped)
    passed = len(by_status.pop("success", ())) + len(by_status.pop("xfail", ()))
    number_skipped = len(by_status.pop("skip", ()))
    failed = [result["id"] for found in by_status.values() for result in found]
    for name in failed:
        print(f"FAILED: {name}")
    for line in unexplained:
        print(f"SKIPPED FOR A REASON NOT IN {SKIPS.name}: {line}")
    out = sum(len(names) for names in left_out.values())
    print(
        f"Tempest: {passed} passed, {len(failed)} failed, "
        f"{number_skipped} skipped, {out} left out"
    )
    return 1 if failed or unexplained or not passed else 0


def _print_reasons(title: str, reasons: dict[str, list[str]]) -> None:
    print(f"\n{title}:")
    for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1])):
        if names:
            print(f"  {len(names):3}  {' '.join(reason.split())}")


def _run(*command: str | pathlib.Path, cwd: pathlib.Path = DIRECTORY) -> None:
    # The results say more than the exit status.
    subprocess.run(
        [settings.BIN / command[0], *command[1:]], cwd=cwd, env=_env(), check=False
    )


def _output(*command: str) -> str:
    return subprocess.run(
        [settings.BIN / command[0], *command[1:]],
        cwd=DIRECTORY,
        env=_env(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def _env() -> dict[str, str]:
    return commands.clean_env(TEMPEST_CONFIG_DIR=str(DIRECTORY / "etc"))


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except QuickstartError as error:
        sys.exit(f"quickstart: {error}")
