# SPDX-License-Identifier: Apache-2.0
"""The command line of ``./quickstart``."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import textwrap
import time
from collections.abc import Callable
from collections.abc import Sequence

from cloud import commands
from cloud import completion
from cloud import credentials
from cloud import directories
from cloud import down
from cloud import engine
from cloud import images
from cloud import operating
from cloud import parts
from cloud import settings
from cloud import step_runner
from cloud import supervisor
from cloud.errors import QuickstartError
from cloud.hosts import host as hosts
from cloud.hosts import life
from cloud.install import python_packages
from cloud.services import services
from cloud.state import state
from cloud.state import state_lock
from cloud.steps import steps

DESCRIPTION = """\
Run an OpenStack cloud on this machine. Its servers are Docker containers.
Everything except --help needs root.
"""

EPILOG = f"""\
Without a verb, this brings the cloud up. `./quickstart VERB --help` describes a verb.

The cloud's files are in {settings.STATE}.
Set NOVA_DOCKER_CLOUD_DIR to use another directory.
"""


def up(number: int | None = None, **wanted: bool) -> None:
    """Bring the cloud up, and print how to use it.

    :param number: how many compute hosts the cloud has from now on; by default, as many
        as before
    :param wanted: parts, of :mod:`cloud.parts`, which it has from now on
    """
    began = time.monotonic()
    directories.check_state_directory()
    with state_lock():
        parts.add(wanted)
        settings.LOG.mkdir(exist_ok=True)
        wanted_hosts = hosts.count() if number is None else number
        life.check(wanted_hosts)
        hosts.set_count(max(wanted_hosts, hosts.count()))
        step_runner.run(steps(fake_compute=bool(state.get("fake_compute"))))
        _remove_hosts(wanted_hosts)
    address = (settings.LOG / "step-server.log").read_text().split()[-1]
    horizon = ""
    if parts.has("horizon"):
        horizon = f"\n  Horizon      {settings.HORIZON_URL} (domain Default)"
    print(
        f"""
The cloud is up after {time.monotonic() - began:.0f} s. To use it:

  eval "$({settings.SOURCE}/quickstart env)"
  openstack server list
  openstack server create --image quickstart/busybox:latest --flavor docker.tiny \\
      --network private --wait first

The server "quickstart" (image quickstart/debian:latest) accepts SSH at its
floating IP, with the key pair of this cloud:

  ssh -i {settings.SSH_KEY} root@{address}

  users        admin and demo (env demo), also in {settings.CLOUDS_YAML}
  APIs         {settings.AUTH_URL} and its catalog, on 127.0.0.1 only{horizon}
  networks     private 10.20.0.0/24 and fd20::/64; public {settings.PUBLIC_CIDR}
  servers      at most 10 of a project (its quota), and 16 VCPUs per CPU of this host
  engine       {engine.host()}{_stacks()}
  logs         {settings.LOG}"""
    )


def _remove_hosts(left: int) -> None:
    """Remove hosts, the last one first.

    :param left: how many to leave, the first one included
    :raises QuickstartError: if one of the others has servers
    """
    for host in reversed(hosts.others()[left - 1 :]):
        commands.set_log(settings.LOG / "hosts.log")
        life.forget(host)
        hosts.set_count(host.number - 1)
        supervisor.configure(services())


def host(verb: str, name: str) -> None:
    """Cut the power of a host, or give it back.

    :param verb: kill or start
    """
    with state_lock():
        found = hosts.by_name(name)
        commands.set_log(settings.LOG / "hosts.log")
        if not supervisor.running():
            raise QuickstartError("the cloud is down; run ./quickstart up")
        began = time.monotonic()
        if verb == "kill":
            life.kill(found)
            print(f"{name} has no power")
        else:
            life.power(found)
            print(f"{name} is ready after {time.monotonic() - began:.1f} s")


def _stacks() -> str:
    """Return the line of the summary about Heat, if the cloud has it."""
    if not parts.has("heat"):
        return ""
    template = settings.SOURCE / "doc/source/user/examples/stack.yaml"
    return f"\n  stacks       openstack stack create --wait -t {template} web"


def env(user: str) -> None:
    """Print shell commands that give a shell the credentials of ``user``."""
    if not settings.CLOUDS_YAML.exists():
        raise QuickstartError(
            f"there is no cloud in {settings.STATE}; run ./quickstart up first"
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


def take_down(purge: bool) -> None:
    with state_lock():
        settings.LOG.mkdir(exist_ok=True)
        commands.set_log(settings.LOG / "down.log")
        down.down(purge=purge)


def tempest(regex: str | None) -> None:
    """Run Tempest against the cloud; exit with 1 if a test fails."""
    up()
    # One run at a time: Tempest's directory, image and flavors have fixed names.
    with state_lock():
        commands.set_log(settings.LOG / "tempest.log")
        python_packages.install_tempest()
        arguments = [regex] if regex else []
        sys.exit(commands.run_python_in_terminal("cloud.tempest", *arguments))


def systemd() -> None:
    """Bring the cloud up, and build the image with systemd."""
    up()
    with state_lock():
        commands.set_log(settings.LOG / "systemd.log")
        images.make_systemd()
        commands.run_python("cloud.resources", "systemd")
    print(f"\nThe image {images.SYSTEMD} is ready.")


def fake_compute() -> None:
    """Bring the cloud up with a second, fake nova-compute for tests/bench."""
    with state_lock():
        state.set("fake_compute", True)
    up()


def print_completion() -> None:
    """Print a script with which bash completes the verbs and their arguments."""
    names = [service.name for service in services()]
    words = {
        "up": ["--hosts", *(f"--{part}" for part in parts.ALL)],
        "status": ["--json"],
        "logs": ["--follow", *names],
        "restart": names,
        "host": ["kill", "start", *(host.name for host in hosts.others())],
        "env": credentials.USERS,
        "systemd": [],
        "tempest": [],
        "down": ["--purge"],
        "completion": [],
    }
    print(completion.script(str(settings.SOURCE / "quickstart"), words))


def known_user(name: str) -> str:
    if name not in credentials.USERS:
        users = " and ".join(credentials.USERS)
        raise argparse.ArgumentTypeError(
            f"there is no user {name!r}; the users are {users}"
        )
    return name


def regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a regular expression: {error}"
        ) from None
    return text


def parser() -> argparse.ArgumentParser:
    """Return the parser.

    Its result has ``action``, the function of the verb; ``parser``, the verb's own
    parser; and the arguments of the function.
    """
    root = argparse.ArgumentParser(
        prog="./quickstart",
        usage="./quickstart [-h] [VERB [ARGUMENT]]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.set_defaults(action=up, parser=root)
    verbs = root.add_subparsers(metavar="VERB", title="verbs")

    def add(
        name: str, action: Callable[..., None], summary: str, more: str
    ) -> argparse.ArgumentParser:
        sentence = f"{summary[0].upper()}{summary[1:]}."
        verb = verbs.add_parser(
            name,
            prog=f"./quickstart {name}",
            help=summary,
            description=f"{sentence}\n\n{textwrap.fill(more, 78)}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        verb.set_defaults(action=action, parser=verb)
        return verb

    verb = add(
        "up",
        up,
        "bring the cloud up, with a first server",
        "Steps that are already done are skipped. Run this again to restore the cloud "
        "after a reboot of the machine, or to install a changed checkout.",
    )
    verb.add_argument(
        "--hosts",
        dest="number",
        metavar="N",
        type=int,
        help=f"have N compute hosts from now on, 1 to {hosts.MOST}: this machine and "
        "others on it, each with its own engine, virtual switch and nova-compute",
    )
    for part, summary in parts.ALL.items():
        verb.add_argument(f"--{part}", action="store_true", help=summary)

    verb = add(
        "status",
        operating.status,
        "show which services run, since when and on which ports",
        "The exit status is 0 if all services are ready, and 1 otherwise.",
    )
    verb.add_argument(
        "--json", dest="as_json", action="store_true", help="print it for a program"
    )

    verb = add(
        "logs",
        operating.logs,
        "print the log of a service",
        "`./quickstart status` lists the services.",
    )
    verb.add_argument("name", metavar="NAME")
    verb.add_argument(
        "-f", "--follow", action="store_true", help="wait for more, until Ctrl-C"
    )

    verb = add(
        "restart",
        operating.restart,
        "restart a service, and wait until it is ready",
        "Servers keep running, also while the Docker engine restarts.",
    )
    verb.add_argument("name", metavar="NAME")

    verb = add(
        "host",
        host,
        "cut the power of a compute host, or give it back",
        "For the hosts that `./quickstart up --hosts N` adds: docker-host-2 and so on. "
        "Without power, all processes of a host and of its servers end at once. Its "
        "disk keeps its data.",
    )
    verb.add_argument(
        "verb",
        choices=("kill", "start"),
        help="kill cuts the power; start gives it back and waits until the host is "
        "ready",
    )
    verb.add_argument("name", metavar="NAME", help="of the host")

    verb = add(
        "env",
        env,
        "print shell commands that set a user's credentials",
        'Run them with: eval "$(./quickstart env)"',
    )
    verb.add_argument(
        "user",
        metavar="USER",
        nargs="?",
        default="admin",
        type=known_user,
        help="admin (the default), or demo, an ordinary user",
    )

    add(
        "systemd",
        systemd,
        "build the image quickstart/debian-systemd",
        "Its servers run systemd and cloud-init, as virtual machines do. Takes about "
        "a minute. Brings the cloud up first.",
    )

    verb = add(
        "tempest",
        tempest,
        "run OpenStack's integration tests against the cloud",
        "Brings the cloud up first. The exit status is 0 if at least one test passes, "
        "none fails, and the reason of each skipped test is documented in "
        "cloud/tempest/skips.toml.",
    )
    verb.add_argument(
        "regex",
        metavar="REGEX",
        nargs="?",
        type=regular_expression,
        help="run the tests whose names match this regular expression; by default, the "
        "smoke tests, all tests of Compute and all scenarios",
    )

    verb = add(
        "down",
        take_down,
        "stop the cloud and remove its processes, interfaces and netfilter rules",
        "The data is kept: `./quickstart up` brings the same servers back.",
    )
    verb.add_argument("--purge", action="store_true", help="also remove the data")

    add(
        "completion",
        print_completion,
        "print a script that completes these verbs in bash",
        'Run it with: eval "$(./quickstart completion)"',
    )

    # For tests/bench. --help does not list a verb without a help text.
    verb = verbs.add_parser("fake-compute", allow_abbrev=False)
    verb.set_defaults(action=fake_compute, parser=verb)
    return root


def main(words: Sequence[str] | None = None) -> None:
    words = sys.argv[1:] if words is None else words
    if list(words) == ["help"]:
        words = ["--help"]
    known, unexpected = parser().parse_known_args(words)
    arguments = vars(known)
    action, verb = arguments.pop("action"), arguments.pop("parser")
    if unexpected:
        verb.error(f"unexpected arguments: {' '.join(unexpected)}")
    if os.geteuid() != 0:
        sys.exit("quickstart: must be run as root")
    try:
        action(**arguments)
    except QuickstartError as error:
        sys.exit(f"quickstart: {error}")
    except BrokenPipeError:
        # The reader, as in `./quickstart logs NAME | head`, has enough. Python would
        # complain once more when it closes the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
