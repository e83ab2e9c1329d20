# SPDX-License-Identifier: Apache-2.0
"""The images busybox, debian and debian-systemd, built from Debian packages.

They are images of the engine. Glance lists them through glance-docker-sync, as it
lists the result of ``docker build``, and stores nothing of them.
"""

from __future__ import annotations

import io
import pathlib
import tarfile
from collections.abc import Sequence

from cloud import commands
from cloud import engine
from cloud import settings
from cloud.settings import DATA
from cloud.state import state

# With a prefix, because the operator's engine may have images named busybox.
BUSYBOX = "quickstart/busybox:latest"
DEBIAN = "quickstart/debian:latest"
NAMES = (BUSYBOX, DEBIAN)
# Built on demand
SYSTEMD = "quickstart/debian-systemd:latest"

SUITE = "bookworm"
# What users and Tempest expect to find in a server.
COMMANDS = ("curl", "iproute2", "iputils-ping", "netbase", "sudo")
FILES = settings.SOURCE / "cloud/debian-image"
SERVER_INIT = FILES / "server-init"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEBIAN_CHANGES = (
    'ENTRYPOINT ["/usr/local/sbin/server-init"]',
    f"ENV PATH={PATH}",
    "EXPOSE 22",
)


def make_busybox_tree() -> None:
    if engine.has_image(BUSYBOX):
        return
    binary = pathlib.Path("/bin/busybox")
    applets = commands.output(binary, "--list").split()
    with tarfile.open(_tree("busybox"), "w") as tar:
        for directory in ("bin", "dev", "etc", "proc", "root", "sys", "var/www"):
            _add_directory(tar, directory, 0o755)
        _add_directory(tar, "tmp", 0o1777)
        _add_file(tar, "bin/busybox", binary.read_bytes(), 0o755)
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        _add_file(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644)
        _add_file(tar, "etc/group", b"root:x:0:\n", 0o644)


def make_debian_tree() -> None:
    """Build a Debian with an SSH server, as a tar archive.

    The image contains no key and no password. Nova injects the key of a server's
    key pair, and root may also log in with a password that is set through Nova.
    """
    if state.get("made_debian") or _tree("debian").exists():
        return
    unfinished = _tree("debian").with_suffix(".part")
    make_debian_archive(unfinished)
    unfinished.rename(_tree("debian"))


def make_debian_archive(target: pathlib.Path) -> None:
    """Build the content of the image debian, for DevStack as well."""
    debootstrap(
        target,
        ("openssh-server", *COMMANDS),
        'rm -f "$1"/etc/ssh/ssh_host_*',
        # Some servers lack the capability that the file asks for; ping works without.
        'chroot "$1" setcap -r /bin/ping',
        'echo PermitRootLogin yes > "$1/etc/ssh/sshd_config.d/root.conf"',
        f'install -m 755 {SERVER_INIT} "$1/usr/local/sbin/"',
    )


def debootstrap(target: pathlib.Path, packages: Sequence[str], *hooks: str) -> None:
    """Build a small Debian as a tar archive, with mmdebstrap.

    :param packages: installed besides the essential ones
    :param hooks: shell commands to run at the end; ``$1`` is the root directory
    """
    commands.run(
        # Steps that others depend on get the CPU first.
        *("nice", "-n", "5", "mmdebstrap"),
        "--mode=root",
        "--format=tar",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        # The tree is read once, so it need not survive a power cut.
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        *(f"--customize-hook={line}" for line in hooks),
        SUITE,
        target,
        *_mirrors(),
        env=commands.installer_env(),
    )


def make_systemd_tree(target: pathlib.Path) -> None:
    """Build a Debian with systemd, cloud-init and an SSH server, as a tar archive.

    cloud-init makes the host keys, and installs the key of a server's key pair.
    """
    debootstrap(
        target,
        (
            *("cloud-init", "dbus", "libpam-systemd", "openssh-server", "systemd-sysv"),
            *COMMANDS,
        ),
        'rm -f "$1"/etc/ssh/ssh_host_*',
        # Each server has an id of its own.
        'true > "$1/etc/machine-id"',
        *(
            f'install -D -m 644 {FILES / name} "$1/etc/{target}"'
            for name, target in (
                ("cloud-init.cfg", "cloud/cloud.cfg.d/90_nova-docker.cfg"),
                (
                    "cloud-init-local.conf",
                    "systemd/system/cloud-init-local.service.d/nova-docker.conf",
                ),
            )
        ),
    )


def import_busybox() -> None:
    _import(BUSYBOX, _tree("busybox"), ['CMD ["/bin/sh"]', "ENV PATH=/bin"])


def import_debian() -> None:
    if not engine.has_image(DEBIAN) and not _tree("debian").exists():
        # Somebody has removed the image from the engine.
        state.set("made_debian", False)
        make_debian_tree()
    _import(DEBIAN, _tree("debian"), list(DEBIAN_CHANGES))
    state.set("made_debian", True)


def make_systemd() -> None:
    """Build the image debian-systemd, unless the engine has it."""
    tree = _tree("debian-systemd")
    if not engine.has_image(SYSTEMD):
        make_systemd_tree(tree)
        _import(SYSTEMD, tree, ['CMD ["/sbin/init"]', f"ENV PATH={PATH}", "EXPOSE 22"])


def _tree(name: str) -> pathlib.Path:
    return DATA / f"images/{name}.tree.tar"


def _import(name: str, tree: pathlib.Path, changes: list[str]) -> None:
    if not engine.has_image(name):
        with tree.open("rb") as source:
            engine.import_image(source, changes, name)
    tree.unlink(missing_ok=True)


def _mirrors() -> list[str]:
    """Return sources.list lines for the suite, with the mirrors that apt uses."""
    targets = commands.output(
        "apt-get",
        "indextargets",
        "--format",
        "$(CODENAME) $(COMPONENT) $(SITE) $(RELEASE)",
        "Created-By: Packages",
    )
    lines = []
    for target in sorted(set(targets.splitlines())):
        codename, component, site, release = target.split()
        suites = (SUITE, f"{SUITE}-security", f"{SUITE}-updates")
        if component == "main" and release in suites and codename in suites:
            lines.append(f"deb {site} {release} main")
    return lines


def _add_directory(tar: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
