# SPDX-License-Identifier: Apache-2.0
"""OpenStack's own acceptance tests, against this cloud.

This runs in the virtual environment, as ``python -m cloud.tempest [REGEX]``.
"""

from __future__ import annotations

import collections
import contextlib
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
from cloud import contents
from cloud import images
from cloud import settings

DIRECTORY = settings.DATA / "tempest"
TEMPLATE = settings.SOURCE / "cloud/tempest/tempest.conf"
SKIPS = settings.SOURCE / "cloud/tempest/skips.toml"

# The smoke tests, and of Compute what a server's life touches.
TESTS = (
    r"\[.*\bsmoke\b.*\]|"
    r"^tempest\.api\.compute\."
    r"(servers|images|admin|keypairs|security_groups|floating_ips)\."
)

# Large enough for the image debian; the second is what servers are resized to.
FLAVORS: tuple[dict[str, Any], ...] = (
    {"name": "tempest", "vcpus": 1, "ram": 128, "disk": 1},
    {"name": "tempest-alt", "vcpus": 1, "ram": 192, "disk": 1},
)
IMAGE_ALT = "debian-alt"


def main(tests: str = TESTS) -> int:
    """Run the tests whose names a regular expression finds.

    :returns: the exit status, 0 when none failed and each skip is documented
    """
    skips = tomllib.loads(SKIPS.read_text())
    with prepared(contents.connect()):
        names = _output("tempest", "run", "--list-tests").split()
        names = [n for n in names if n.startswith("tempest.") and re.search(tests, n)]
        wanted, left_out = _divided(names, skips["left_out"])
        if not wanted:
            raise commands.Failed(f"there is no such test: {tests}")
        (DIRECTORY / "tests").write_text("\n".join(wanted) + "\n")
        workers = str(os.cpu_count() or 1)
        _run("tempest", "run", "--load-list=tests", "--concurrency", workers)
    return _report(_results(), skips["skipped"], left_out)


@contextlib.contextmanager
def prepared(cloud: Connection) -> Iterator[None]:
    """A configured Tempest, and what it needs in the cloud meanwhile."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    workspaces = f"--workspace-path={settings.DATA}/tempest-workspaces.yaml"
    pathlib.Path(f"{settings.DATA}/tempest-workspaces.yaml").unlink(missing_ok=True)
    _run("tempest", "init", workspaces, DIRECTORY, cwd=settings.DATA)
    _forget(cloud)
    try:
        (DIRECTORY / "etc/tempest.conf").write_text(_configuration(cloud))
        yield
    finally:
        _forget(cloud)


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
        "flavor_alt": flavors[1].id,
        "image": image.id,
        "image_alt": _copy(cloud, image.id),
        "password": settings.secrets()["admin"],
        "public_network": cloud.network.find_network("public", ignore_missing=False).id,
        "region": settings.REGION,
    }
    return string.Template(TEMPLATE.read_text()).substitute(values)


def _copy(cloud: Connection, image_id: str) -> str:
    """Have the same image once more, for rebuilds from another one."""
    made = contents.new_image(cloud, IMAGE_ALT)
    with cloud.image.get(f"/images/{image_id}/file", stream=True) as source:
        contents.upload(cloud, made, source.iter_content(1 << 20))
    return made


def _forget(cloud: Connection) -> None:
    for flavor in FLAVORS:
        cloud.compute.delete_flavor(cloud.compute.find_flavor(flavor["name"]) or "none")
    for image in cloud.image.images(name=IMAGE_ALT):
        cloud.image.delete_image(image)


def _divided(
    names: list[str], entries: list[dict[str, str]]
) -> tuple[list[str], dict[str, list[str]]]:
    """The tests to run, and those that are left out, by reason."""
    left_out = {
        entry["reason"]: [name for name in names if re.search(entry["tests"], name)]
        for entry in entries
    }
    out = {name for found in left_out.values() for name in found}
    return [name for name in names if name not in out], left_out


def _results() -> list[dict[str, Any]]:
    """What became of each test, as testtools tells it."""
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
    """Print what became of all tests; the counts are the last line."""
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
        print(f"SKIPPED FOR A REASON THAT {SKIPS.name} DOES NOT HAVE: {line}")
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
    # Its exit status says less than its results do.
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
    except commands.Failed as error:
        sys.exit(f"quickstart: {error}")
