# SPDX-License-Identifier: Apache-2.0
"""The verbs of ``./quickstart``."""

from __future__ import annotations

import inspect
import shlex
import sys
import time

from cloud import commands
from cloud import credentials
from cloud import directories
from cloud import down
from cloud import engine
from cloud import settings
from cloud import step_runner
from cloud import supervisor
from cloud.errors import QuickstartError
from cloud.install import python_packages
from cloud.services import services
from cloud.state import state
from cloud.state import state_lock
from cloud.steps import steps


def up() -> None:
    began = time.monotonic()
    directories.check_state_directory()
    with state_lock():
        settings.LOG.mkdir(exist_ok=True)
        step_runner.run(steps(fake_compute=bool(state.get("fake_compute"))))
    address = (settings.LOG / "step-server.log").read_text().split()[-1]
    print(
        f"""
The cloud is up after {time.monotonic() - began:.0f} s. To use it:

  eval "$({settings.SOURCE}/quickstart env)"
  openstack server list
  openstack server create --image quickstart/busybox:latest --flavor docker.tiny \\
      --network private --wait first

The server "quickstart" (image quickstart/debian:latest) answers SSH at its
floating IP, with the key pair made for this cloud:

  ssh -i {settings.SSH_KEY} root@{address}

  users        admin and demo (env demo), also in {settings.CLOUDS_YAML}
  APIs         {settings.AUTH_URL} and its catalog, on 127.0.0.1 only
  networks     private 10.20.0.0/24 and fd20::/64; public {settings.PUBLIC_CIDR}
  engine       {engine.host()}
  logs         {settings.LOG}"""
    )


def status() -> None:
    """Print what runs; exit with 1 unless all of it does."""
    if not supervisor.running():
        print("The cloud is down.")
        sys.exit(1)
    states = {each["name"]: each for each in supervisor.states()}
    well = True
    for service in services():
        process = states.get(service.name, {"statename": "UNKNOWN", "start": 0})
        answers = process["statename"] in ("RUNNING", "STARTING") and service.ready()
        well = well and answers
        word = "ready" if answers else "not ready"
        where = f"127.0.0.1:{service.port}" if service.port else ""
        since = time.strftime("%F %T", time.localtime(process["start"]))
        print(
            f"{service.name:24} {word:10} {process['statename']:9} "
            f"{since if process['start'] else '-':20} {where}"
        )
    if not well:
        print(f"\nLogs are in {settings.LOG}")
        sys.exit(1)


def env(user: str = "admin") -> None:
    """Print shell lines that make a shell the cloud's user."""
    if user not in credentials.USERS:
        raise QuickstartError(
            f"{user}: the users are {' and '.join(credentials.USERS)}"
        )
    variables = {
        **{f"OS_{k.upper()}": v for k, v in credentials.of_user(user).items()},
        "OS_REGION_NAME": settings.REGION,
        "OS_IDENTITY_API_VERSION": "3",
        "OS_CLIENT_CONFIG_FILE": str(settings.CLOUDS_YAML),
        "DOCKER_HOST": engine.host(),
    }
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={settings.BIN}:"$PATH"')


def take_down(purge: str = "") -> None:
    if purge not in ("", "--purge"):
        raise QuickstartError(f"{purge}: the only option of down is --purge")
    with state_lock():
        settings.LOG.mkdir(exist_ok=True)
        commands.set_log(settings.LOG / "down.log")
        down.down(purge=bool(purge))


def tempest(tests: str = "") -> None:
    """Run OpenStack's own tests against the cloud; exit with 1 if any fails."""
    up()
    with state_lock():
        commands.set_log(settings.LOG / "tempest.log")
        python_packages.install_tempest()
        # Its directory, image and flavors are one run's.
        arguments = [tests] if tests else []
        sys.exit(commands.run_python_in_terminal("cloud.tempest", *arguments))


def fake_compute() -> None:
    """Bring the cloud up with a nova-compute that tests/bench measures against."""
    with state_lock():
        state.set("fake_compute", True)
    up()


VERBS = {
    "up": up,
    "status": status,
    "env": env,
    "down": take_down,
    "tempest": tempest,
    "fake-compute": fake_compute,
}


def main() -> None:
    verb, *arguments = sys.argv[1:] or ["up"]
    try:
        inspect.signature(VERBS[verb]).bind(*arguments)
    except TypeError:
        sys.exit(f"quickstart: too many words: {' '.join(arguments)}")
    try:
        VERBS[verb](*arguments)
    except QuickstartError as error:
        sys.exit(f"quickstart: {error}")


if __name__ == "__main__":
    main()
