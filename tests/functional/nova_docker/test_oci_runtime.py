# SPDX-License-Identifier: Apache-2.0
"""The OCI runtime as engines run it: the real scripts with a fake runc."""

import contextlib
import json
import os
import pathlib
import shutil
import stat
import subprocess
import time

import pytest
from oslo_utils import uuidutils
from pyroute2 import netns

from nova_docker import id_ranges
from nova_docker.container import isolation
from nova_docker.host import kernel
from nova_docker.privsep import devices
from nova_docker.privsep import network
from nova_docker.privsep import shares
from nova_docker.privsep import userns
from tests.functional.host import eventually

BIN = pathlib.Path(__file__).parents[3] / "bin"
RUNTIME = BIN / "nova-docker-runtime"
GVISOR_RUNTIME = BIN / "nova-docker-gvisor"
SETKEY = {"path": "/proc/1/exe", "args": ["libnetwork-setkey", "-exec-root=/x"]}
OTHER = {"path": "/usr/bin/other", "args": ["other"]}


@pytest.fixture
def runtime(tmp_path):
    """Runs the runtime on a bundle; returns (exit code, stderr, calls of runc)."""
    bundle, log = tmp_path / "bundle", tmp_path / "runc.log"
    bundle.mkdir()
    runc = tmp_path / "runc"
    runc.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    runc.chmod(0o755)

    def call(*argv, spec=None):
        if spec is not None:
            (bundle / "config.json").write_text(json.dumps(spec))
        result = subprocess.run(
            [RUNTIME, *argv],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        calls = log.read_text().splitlines() if log.exists() else []
        return result.returncode, result.stderr, calls

    call.bundle = bundle
    return call


@pytest.fixture
def container_id():
    return uuidutils.generate_uuid(dashed=False)


@pytest.fixture
def namespace():
    name = f"nova-{uuidutils.generate_uuid()}"
    netns.create(name)
    yield name
    with contextlib.suppress(FileNotFoundError):
        netns.remove(name)


def mount(kind, destination, *options):
    return {"type": kind, "destination": destination, "options": list(options)}


MOUNTS = [
    mount("proc", "/proc"),
    mount("tmpfs", "/dev"),
    mount("devpts", "/dev/pts", "newinstance"),
    mount("tmpfs", "/dev/shm"),
    {**mount("bind", "/var/lib/cloud"), "source": "/etc"},
    mount("tmpfs", "/data"),
    mount("tmpfs", "/device"),
    mount("tmpfs", "/sys/fs/cgroup"),
]


def spec(*env):
    return {
        "root": {"path": "/"},
        "process": {"env": ["PATH=/bin", *env]},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]},
        "hooks": {"prestart": [SETKEY, OTHER]},
        "mounts": MOUNTS,
    }


def created(runtime):
    return json.loads((runtime.bundle / "config.json").read_text())


def test_create_joins_the_servers_namespace(runtime, namespace):
    argv = ("--root", "/r", "create", "--bundle", str(runtime.bundle), "c1")

    code, _, calls = runtime(*argv, spec=spec(f"NOVA_NETNS={namespace}"))

    assert code == 0
    assert calls == [" ".join(argv)]
    assert created(runtime)["linux"]["namespaces"] == [
        {"type": "pid"},
        {"type": "network", "path": f"/run/netns/{namespace}"},
    ]


@pytest.mark.parametrize(
    ("variable", "engine_network"),
    [(None, False), ("0", False), ("", False), ("1", True)],
)
def test_dockers_network_hook_runs_only_if_its_network_is_used(
    runtime, namespace, variable, engine_network
):
    env = [f"NOVA_NETNS={namespace}"]
    # Servers of earlier versions do not have it.
    if variable is not None:
        env.append(f"NOVA_ENGINE_NETWORK={variable}")

    runtime("create", "--bundle", str(runtime.bundle), "c1", spec=spec(*env))

    hooks = created(runtime)["hooks"]["prestart"]
    assert hooks == ([SETKEY, OTHER] if engine_network else [OTHER])


@pytest.mark.parametrize(
    ("env", "left_out"),
    [
        (["NOVA_ROOT_VOLUMES=1"], {"/data", "/device"}),
        (["NOVA_ROOT_VOLUMES=0"], set()),
        # A server of an earlier version
        ([], set()),
    ],
)
def test_volumes_of_the_image_stay_in_the_root_file_system(
    runtime, namespace, env, left_out
):
    made = spec(f"NOVA_NETNS={namespace}", *env)
    runtime("create", "--bundle", str(runtime.bundle), "c1", spec=made)
    found = {m["destination"] for m in created(runtime)["mounts"]}
    assert found == {m["destination"] for m in MOUNTS} - left_out


@pytest.fixture
def share(namespace):
    """Mounts shares of the server, or only makes their directories."""
    top = shares.DIRECTORY / namespace
    mounted = []

    def make(tag, *, mount=True):
        place = top / "id" / tag
        place.mkdir(parents=True)
        if mount:
            subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
            mounted.append(place)
        return str(place)

    yield make
    for place in mounted:
        subprocess.run(["umount", place], check=True)
    shutil.rmtree(top, ignore_errors=True)


def test_what_is_mounted_for_a_server_is_bound_and_nothing_else(
    runtime, namespace, share
):
    share("data")
    share("interrupted", mount=False)
    made = spec(f"NOVA_NETNS={namespace}")
    runtime("create", "--bundle", str(runtime.bundle), "c1", spec=made)
    [added] = created(runtime)["mounts"][len(MOUNTS) :]
    assert added["source"].startswith("/run/nova-docker/stage/")
    assert added["destination"] == "/mnt/shares/data"
    assert {"bind", "rprivate", "nosuid", "nodev"} <= set(added["options"])


def test_a_server_does_not_start_with_a_share_that_nova_cannot_have_named(
    runtime, namespace, share
):
    share("..data")
    made = spec(f"NOVA_NETNS={namespace}")
    code, error, calls = runtime(
        "create", "--bundle", str(runtime.bundle), "c1", spec=made
    )
    assert code
    assert "unknown tag" in error
    assert not calls


@pytest.mark.parametrize("point", ["", "/", "/missing"])
def test_nothing_but_lxcfs_is_bound_over_proc(runtime, namespace, point):
    env = f"NOVA_NETNS={namespace}", f"NOVA_LXCFS={point}"
    code, _, _ = runtime("create", "-b", str(runtime.bundle), "c1", spec=spec(*env))
    assert code == 0
    found = {m["destination"] for m in created(runtime)["mounts"]}
    assert "/proc/meminfo" not in found
    # A container is restored with the mounts that it may have had.
    runtime("restore", "-b", str(runtime.bundle), "c1", spec=spec(*env))
    found = {m["destination"]: m.get("source") for m in created(runtime)["mounts"]}
    assert found.get("/proc/meminfo") == ("/proc/meminfo" if point else None)


def test_a_server_has_a_limited_number_of_terminals(runtime, namespace):
    made = spec(f"NOVA_NETNS={namespace}")
    runtime("create", "--bundle", str(runtime.bundle), "c1", spec=made)
    options = {m["destination"]: m["options"] for m in created(runtime)["mounts"]}
    assert options["/dev/pts"] == ["newinstance", f"max={kernel.PTYS}"]
    assert options["/dev/shm"] == []


@pytest.mark.parametrize(
    "name",
    [
        "NOVA_NETNS",
        "NOVA_ENGINE_NETWORK",
        "NOVA_ROOT_VOLUMES",
        "NOVA_ISOLATION",
        "NOVA_INIT",
    ],
)
def test_a_variable_that_is_set_twice_is_refused(runtime, namespace, name):
    env = [f"NOVA_NETNS={namespace}", f"{name}=0", f"{name}=1"]
    code, error, calls = runtime(
        "create", "--bundle", str(runtime.bundle), "c1", spec=spec(*env)
    )
    assert code != 0 and calls == []
    assert f"variable {name} more than once" in error


def test_other_commands_are_passed_to_runc_unchanged(runtime):
    code, _, calls = runtime("--log", "/l", "delete", "--force", "c1")
    assert code == 0
    assert calls == ["--log /l delete --force c1"]


def create(runtime, *env):
    return runtime("create", "--bundle", str(runtime.bundle), "c1", spec=spec(*env))


@pytest.fixture
def isolated(namespace):
    """A server's name, with a user namespace that owns its network namespace."""
    userns.pin(namespace, "test", 1 << 30, id_ranges.SIZE)
    network.plug(namespace, "test", [], isolated=True)
    yield namespace
    network.unplug(namespace)
    userns.release(namespace)


@pytest.mark.usefixtures("configuration")
@pytest.mark.parametrize("env", [("NOVA_ISOLATION=user",), ()])
def test_create_joins_the_servers_user_namespace(runtime, isolated, env, tmp_path):
    (tmp_path / "root").mkdir()
    made = spec(f"NOVA_NETNS={isolated}", *env)
    made["root"] = {"path": str(tmp_path / "root")}
    made["linux"]["sysctl"] = {"net.ipv4.ping_group_range": "0 2147483647"}
    made["mounts"] = []
    code, error, calls = runtime(
        "create", "--bundle", str(runtime.bundle), "c1", spec=made
    )
    assert (code, len(calls)) == (0, 1), error
    linux = created(runtime)["linux"]
    path = f"/run/nova-docker/userns/{isolated}"
    assert {"type": "user", "path": path} in linux["namespaces"]
    mapping = {"containerID": 0, "hostID": 1 << 30, "size": 65536}
    assert linux["uidMappings"] == linux["gidMappings"] == [mapping]
    assert linux["sysctl"]["net.ipv4.ping_group_range"] == "0 65535"


@pytest.mark.usefixtures("configuration")
@pytest.mark.parametrize(
    ("level", "exists", "reason"),
    [
        ("user", False, "does not exist"),
        ("shared", True, "exists"),
        ("vm", True, "NOVA_ISOLATION=vm"),
        ("vm", False, "NOVA_ISOLATION=vm"),
    ],
)
def test_a_container_without_the_namespaces_that_it_names_is_refused(
    runtime, request, level, exists, reason
):
    name = request.getfixturevalue("isolated" if exists else "namespace")
    code, error, calls = create(
        runtime, f"NOVA_NETNS={name}", f"NOVA_ISOLATION={level}"
    )
    assert code != 0 and calls == []
    assert reason in error


@pytest.mark.usefixtures("configuration")
@pytest.mark.parametrize("env", [(), ("NOVA_ISOLATION=shared",)])
def test_the_network_of_a_server_with_ids_is_not_joined_without_them(
    runtime, isolated, env
):
    userns.release(isolated)
    code, error, calls = create(runtime, f"NOVA_NETNS={isolated}", *env)
    assert code != 0 and calls == []
    assert "belongs to another user namespace" in error


@pytest.mark.usefixtures("configuration")
def test_a_network_namespace_of_another_owner_is_refused(runtime, namespace):
    userns.pin(namespace, "test", 1 << 30, id_ranges.SIZE)
    netns.remove(namespace)
    netns.create(namespace)
    try:
        code, error, calls = create(
            runtime, f"NOVA_NETNS={namespace}", "NOVA_ISOLATION=user"
        )
    finally:
        userns.release(namespace)
    assert code != 0 and calls == []
    assert "belongs to another user namespace" in error


@pytest.fixture
def prepared(runtime, isolated, container_id, tmp_path):
    """Creates a container for systemd, and returns its OCI spec."""
    (tmp_path / "root").mkdir()
    group = f"/nova-docker-test/{container_id}"

    def call(**linux):
        made = spec(
            f"NOVA_NETNS={isolated}",
            "NOVA_ISOLATION=user",
            "NOVA_INIT=systemd",
            "container=images-own",
        )
        made["root"] = {"path": str(tmp_path / "root")}
        made["mounts"] = [
            mount("tmpfs", "/system"),
            mount("proc", "/proc"),
            mount("cgroup", "/sys/fs/cgroup", "ro", "nosuid"),
            {**mount("bind", "/run/given", "bind"), "source": str(tmp_path)},
        ]
        made["linux"] |= {"cgroupsPath": group} | linux
        code, error, calls = runtime(
            "create", "--bundle", str(runtime.bundle), "c1", spec=made
        )
        assert (code, len(calls)) == (0, 1), error
        return created(runtime)

    yield call
    for path in pathlib.Path("/sys/fs/cgroup").glob(f"**{group}"):
        path.rmdir()
        path.parent.rmdir()


@pytest.mark.usefixtures("configuration")
def test_systemd_gets_what_it_needs(prepared):
    memory = {"memory": {"limit": 100 * 2**20}}
    found = prepared(resources=memory)
    assert {"type": "cgroup"} in found["linux"]["namespaces"]
    # An image cannot choose the kind of container.
    kinds = [v for v in found["process"]["env"] if v.startswith("container=")]
    assert kinds == ["container=docker"]
    mounts = {m["destination"]: m for m in found["mounts"]}
    given = ["/system", "/run/given"]
    made = ["/run", "/run/lock", "/tmp"]
    assert list(mounts) == ["/proc", "/sys/fs/cgroup", *made, *given]
    assert "size=52428800" in mounts["/tmp"]["options"]
    assert "rw" in mounts["/sys/fs/cgroup"]["options"]
    assert "ro" not in mounts["/sys/fs/cgroup"]["options"]


@pytest.mark.usefixtures("configuration")
def test_only_the_subtree_of_a_control_group_is_delegated(prepared, container_id):
    found = prepared()
    [group] = pathlib.Path("/sys/fs/cgroup").glob(f"**/{container_id}")
    own = {p.name for p in group.iterdir() if p.stat().st_uid == 1 << 30}
    assert own <= set(pathlib.Path("/sys/kernel/cgroup/delegate").read_text().split())
    assert {"cgroup.procs", "cgroup.subtree_control"} <= own
    assert group.stat().st_uid == 1 << 30 and group.parent.stat().st_uid == 0
    if "unified" in group.parts:
        bound = (group / "cgroup.max.descendants").read_text()
        assert not found["linux"].get("resources", {}).get("unified")
    else:
        bound = found["linux"]["resources"]["unified"]["cgroup.max.descendants"]
    assert int(bound) == 1000


@pytest.mark.parametrize(
    ("value", "reason"), [("systemd", "NOVA_ISOLATION=user"), ("other", "unknown")]
)
def test_an_init_that_cannot_run_is_refused(runtime, namespace, value, reason):
    code, error, calls = create(
        runtime, f"NOVA_NETNS={namespace}", f"NOVA_INIT={value}"
    )
    assert code != 0 and calls == []
    assert reason in error


def test_the_runtime_says_which_isolation_it_knows(runtime):
    result = subprocess.run([RUNTIME, "isolation"], capture_output=True, text=True)
    assert result.stdout.split() == [isolation.USER, isolation.SHARED]


@pytest.fixture
def gvisor(tmp_path):
    """Runs gVisor's runtime with a fake runsc: the script that answers "flags"."""

    def call(*argv, flags="echo -overlay2"):
        program = tmp_path / "runsc"
        program.write_text(
            f"#!/bin/sh\ncase $1 in\nflags) {flags} ;;\n"
            '--version) echo "runsc version 7"; echo "spec: 1" ;;\n'
            f'*) echo "$@" >> {tmp_path}/runsc.log ;;\nesac\n'
        )
        program.chmod(0o755)
        result = subprocess.run(
            [GVISOR_RUNTIME, *argv],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        log = tmp_path / "runsc.log"
        return result, log.read_text().splitlines() if log.exists() else []

    return call


@pytest.mark.parametrize(
    ("flags", "output", "error"),
    [
        ("echo -overlay2", "gvisor runsc version 7\n", ""),
        ("echo -overlay", "", "too old"),
        ("exit 127", "", "is it installed?"),
    ],
)
def test_the_runtime_of_gvisor_says_which_version_it_runs(gvisor, flags, output, error):
    result, _ = gvisor("isolation", flags=flags)
    assert result.stdout == output
    assert error in result.stderr
    assert (result.returncode == 0) == (not error)


def test_a_server_in_gvisor_is_created_in_its_namespace(gvisor, runtime, namespace):
    (runtime.bundle / "config.json").write_text(
        json.dumps(spec(f"NOVA_NETNS={namespace}", "NOVA_ISOLATION=gvisor"))
    )
    argv = ("--platform=kvm", "--root", "/r", "create", "-b", str(runtime.bundle), "c")
    result, calls = gvisor(*argv)
    assert result.returncode == 0, result.stderr
    # The operator's options come last, and so prevail.
    assert calls == [" ".join(("--overlay2=none", "--net-raw", *argv))]
    assert created(runtime)["linux"]["namespaces"][1]["path"].endswith(namespace)


@pytest.mark.parametrize("level", ["user", "shared", ""])
def test_only_servers_in_gvisor_run_in_it(gvisor, runtime, namespace, level):
    (runtime.bundle / "config.json").write_text(
        json.dumps(spec(f"NOVA_NETNS={namespace}", f"NOVA_ISOLATION={level}"))
    )
    result, calls = gvisor("create", "--bundle", str(runtime.bundle), "c1")
    assert result.returncode and calls == []
    assert "its runtime uses runsc" in result.stderr
    code, error, calls = create(
        runtime, f"NOVA_NETNS={namespace}", "NOVA_ISOLATION=gvisor"
    )
    assert code != 0 and calls == []
    assert "its runtime uses runc" in error


def test_other_commands_reach_runsc_with_its_options(gvisor):
    for argv in (("state", "c1"), ("start", "c1"), ("kill", "c1", "9")):
        _, calls = gvisor("--root", "/r", *argv)
        assert calls[-1] == " ".join(
            ("--overlay2=none", "--net-raw", "--root", "/r", *argv)
        )


def test_a_server_in_gvisor_can_be_held(gvisor, container_id):
    options = "--overlay2=none --net-raw --root /r"
    _, calls = gvisor("--root", "/r", "kill", container_id, "61")
    assert calls == [f"{options} pause {container_id}"]
    _, calls = gvisor("--root", "/r", "kill", container_id, "60")
    assert calls[1:] == [f"{options} resume {container_id}"]


@pytest.mark.parametrize(
    "env",
    [
        (),
        ("NOVA_NETNS=",),
        ("NOVA_NETNS=../../proc/1/ns/net",),
        ("NOVA_NETNS=nova-../../../proc/1/ns/net",),
        ("NOVA_NETNS=other",),
    ],
)
def test_a_container_that_is_not_a_server_is_refused(runtime, env):
    code, error, calls = runtime(
        "create", "--bundle", str(runtime.bundle), "c1", spec=spec(*env)
    )
    assert code != 0 and calls == []
    assert "not a Nova server" in error


def test_a_server_without_a_network_namespace_is_refused(runtime, namespace):
    netns.remove(namespace)
    code, error, calls = runtime(
        "create",
        "--bundle",
        str(runtime.bundle),
        "c1",
        spec=spec(f"NOVA_NETNS={namespace}"),
    )
    assert code != 0 and calls == []
    assert f"/run/netns/{namespace} does not exist" in error


def test_the_reason_is_in_runcs_log(runtime, tmp_path):
    log = tmp_path / "log.json"
    runtime(
        *("--log", str(log), "create", "--bundle", str(runtime.bundle), "c1"),
        spec=spec(),
    )
    entry = json.loads(log.read_text())
    assert entry["level"] == "error"
    assert "not a Nova server" in entry["msg"]


def test_a_plain_file_instead_of_a_namespace_is_refused(runtime):
    name = f"nova-{uuidutils.generate_uuid()}"
    place = pathlib.Path("/run/netns", name)
    place.parent.mkdir(exist_ok=True)
    place.touch()
    try:
        code, _, calls = runtime(
            "create",
            "--bundle",
            str(runtime.bundle),
            "c1",
            spec=spec(f"NOVA_NETNS={name}"),
        )
    finally:
        place.unlink()
    assert code != 0 and calls == []


def test_a_command_is_given_ten_seconds_to_start(runtime, tmp_path):
    (tmp_path / "runc").write_text("#!/bin/sh\nexec sleep 60\n")
    began = time.monotonic()
    code, _, _ = runtime("exec", "--process", "/p", "c1")
    assert code  # killed by a signal
    assert time.monotonic() - began < 25


def test_signals_61_and_60_freeze_a_server_and_end_that(runtime, container_id):
    own = ("--root", "/a b", "--log-format", "json")
    code, _, calls = runtime(*own, "kill", container_id, "61")
    assert (code, calls) == (0, [f"--root /a b --log-format json pause {container_id}"])
    code, _, calls = runtime(*own, "kill", container_id, "60")
    assert (code, calls[1:]) == (
        0,
        [f"--root /a b --log-format json resume {container_id}"],
    )
    # It has ended already.
    code, _, calls = runtime(*own, "kill", container_id, "60")
    assert (code, len(calls)) == (0, 2)


def test_the_next_command_ends_the_freeze(runtime, container_id):
    runtime("--root", "/r", "kill", container_id, "61")
    argv = ("--root", "/r", "exec", "--process", "/p", "--detach", container_id)
    for _ in range(2):
        _, _, calls = runtime(*argv)
    assert calls[1:] == [
        f"--root /r resume {container_id}",
        " ".join(argv),
        " ".join(argv),
    ]


def test_a_freeze_ends_by_itself(runtime, container_id):
    runtime("--root", "/r", "kill", container_id, "61")
    log = runtime.bundle.parent / "runc.log"
    assert eventually(lambda: f"resume {container_id}" in log.read_text())


@pytest.fixture
def frozen(runtime):
    """Has runc keep, as a directory, whether the container is frozen."""
    directory = runtime.bundle.parent
    (directory / "runc").write_text(
        f"""#!/bin/sh
echo "$@" >> {directory}/runc.log
case "$*" in
*" pause "*) sleep "$(cat {directory}/slow 2>/dev/null || echo 0)"
    mkdir {directory}/frozen && exit
    echo "container not running" >&2
    exit 1 ;;
*" resume "*) rmdir {directory}/frozen ;;
esac
"""
    )
    return directory / "frozen"


def hold(runtime, container_id):
    return runtime("--root", "/r", "kill", container_id, "61")


def test_what_was_frozen_before_is_not_thawed(runtime, container_id, frozen):
    frozen.mkdir()
    code, error, _ = hold(runtime, container_id)
    assert code != 0
    # The engine would take what runc says to mean that the server has ended.
    assert error == "nova-docker: cannot freeze the server\n"
    runtime("--root", "/r", "kill", container_id, "60")
    runtime("--root", "/r", "exec", container_id)
    time.sleep(6)
    assert frozen.exists()


def test_the_end_of_one_freeze_does_not_end_the_next(runtime, container_id, frozen):
    assert hold(runtime, container_id)[0] == 0
    assert runtime("--root", "/r", "exec", container_id)[0] == 0
    assert not frozen.exists()
    time.sleep(3)
    assert hold(runtime, container_id)[0] == 0
    time.sleep(3)
    # The first would have ended a second ago.
    assert frozen.exists()
    assert eventually(lambda: not frozen.exists())


def test_a_server_that_is_frozen_too_late_is_thawed(runtime, container_id, frozen):
    (frozen.parent / "slow").write_text("6")
    code, error, _ = hold(runtime, container_id)
    assert code != 0 and "cannot freeze" in error
    assert not frozen.exists()


def test_a_freeze_does_not_outlive_the_container(
    runtime, container_id, frozen, namespace
):
    assert hold(runtime, container_id)[0] == 0
    runtime(
        *("--root", "/r", "create", "--bundle", str(runtime.bundle), container_id),
        spec=spec(f"NOVA_NETNS={namespace}"),
    )
    _, _, calls = runtime("--root", "/r", "kill", container_id, "60")
    assert not any("resume" in call for call in calls)


def test_other_signals_are_passed_to_runc(runtime, container_id):
    for argv in (("kill", container_id, "9"), ("kill", "--all", container_id, "15")):
        _, _, calls = runtime(*argv)
        assert calls[-1] == " ".join(argv)


@pytest.fixture
def node(namespace):
    """Records a device of the server, without anything behind it."""

    def record(name, minor, mode=0o600):
        directory.mkdir(parents=True, exist_ok=True)
        os.mknod(directory / name, mode | stat.S_IFBLK, os.makedev(240, minor))

    directory = devices._DIRECTORY / namespace
    yield record
    shutil.rmtree(directory, ignore_errors=True)


def test_a_server_gets_the_devices_that_are_recorded(runtime, namespace, node):
    node("vdb", 1)
    node("vdc", 2, 0o400)
    # It is being made.
    node(".vdd", 3)
    made = spec(f"NOVA_NETNS={namespace}")
    code, error, _ = runtime("create", "--bundle", str(runtime.bundle), "c1", spec=made)
    assert code == 0, error
    found = created(runtime)
    rule = {"allow": True, "type": "b", "major": 240}
    assert found["linux"]["resources"]["devices"] == [
        {**rule, "minor": 1, "access": "rw"},
        {**rule, "minor": 2, "access": "r"},
    ]
    *_, one, two = found["mounts"]
    assert [one["destination"], two["destination"]] == ["/dev/vdb", "/dev/vdc"]
    assert one["source"] != two["source"]


def test_devices_have_the_limits_of_the_root_disk(runtime, namespace, node):
    node("vdb", 1)
    node("vdc", 2)
    made = spec(f"NOVA_NETNS={namespace}")
    limit = {"major": 8, "minor": 0, "rate": 7}
    made["linux"]["resources"] = {"blockIO": {"throttleReadIOPSDevice": [limit]}}
    code, error, _ = runtime("create", "--bundle", str(runtime.bundle), "c1", spec=made)
    assert code == 0, error
    assert created(runtime)["linux"]["resources"]["blockIO"] == {
        "throttleReadIOPSDevice": [
            limit,
            {"major": 240, "minor": 1, "rate": 7},
            {"major": 240, "minor": 2, "rate": 7},
        ]
    }


def test_gvisor_starts_no_server_with_devices(runtime, namespace, node):
    node("vdb", 1)
    made = spec(f"NOVA_NETNS={namespace}", "NOVA_ISOLATION=gvisor")
    (runtime.bundle.parent / "runc").rename(runtime.bundle.parent / "runsc")
    code, error, calls = runtime(
        "gvisor", "create", "--bundle", str(runtime.bundle), "c1", spec=made
    )
    assert code != 0
    assert calls == []
    assert "gVisor has no block devices" in error


def allows(profile, request):
    """Tell whether a seccomp profile allows a request to a device."""
    actions = {
        rule["action"]
        for rule in profile["syscalls"]
        if "ioctl" in rule["names"]
        and all(
            (arg["index"], arg["op"]) == (1, "SCMP_CMP_MASKED_EQ")
            and request & arg["value"] == arg["valueTwo"]
            for arg in rule.get("args") or ()
        )
    }
    if "SCMP_ACT_ERRNO" in actions:
        return False
    return bool(actions) or profile["defaultAction"] == "SCMP_ACT_ALLOW"


@pytest.mark.parametrize(
    "profile",
    [
        None,
        {"defaultAction": "SCMP_ACT_ALLOW"},
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [
                {"names": ["read", "ioctl"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"},
            ],
        },
    ],
)
def test_servers_cannot_change_loop_devices(runtime, namespace, profile):
    made = spec(f"NOVA_NETNS={namespace}")
    if profile:
        made["linux"]["seccomp"] = profile
    code, error, _ = runtime("create", "--bundle", str(runtime.bundle), "c1", spec=made)
    assert code == 0, error
    found = created(runtime)["linux"]["seccomp"]
    for request in 0x4C00, 0x4C01, 0x4C0A, 0x4CFF, 1 << 32 | 0x4C01, 0x10004C01:
        assert not allows(found, request), hex(request)
    for request in 0x5401, 0x4B00, 0x4D01, 0x0C01, 0xCC01, 0x1260, 0x80081272:
        assert allows(found, request), hex(request)
    read = {rule["action"] for rule in found["syscalls"] if "read" in rule["names"]}
    assert read == ({"SCMP_ACT_ALLOW"} if profile and "syscalls" in profile else set())


def test_a_profile_that_forbids_ioctl_stays_as_it_is(runtime, namespace):
    made = spec(f"NOVA_NETNS={namespace}")
    made["linux"]["seccomp"] = profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
    }
    assert runtime("create", "--bundle", str(runtime.bundle), "c1", spec=made)[0] == 0
    assert created(runtime)["linux"]["seccomp"] == profile
