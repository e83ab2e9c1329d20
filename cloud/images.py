# SPDX-License-Identifier: Apache-2.0
"""The images busybox and debian, made from what Debian ships.

They take the way of any other image: what ``docker save`` writes goes to
Glance. The engine keeps nothing of them, so that the first server boots from
Glance like all others.
"""

from __future__ import annotations

import io
import pathlib
import tarfile
from collections.abc import Sequence

from cloud import engine
from cloud import settings
from cloud import shell
from cloud.settings import DATA
from cloud.settings import memory

NAMES = ("busybox", "debian")

SUITE = "bookworm"
# What people, and Tempest, expect to find in a server.
COMMANDS = ("curl", "iproute2", "iputils-ping", "netbase", "sudo")
SERVER_INIT = settings.SOURCE / "cloud/debian/server-init"


def archive(name: str) -> pathlib.Path:
    """Return where an image lies between its making and its upload."""
    return DATA / f"images/{name}.docker.tar"


def make_key() -> None:
    """Make the key pair quickstart."""
    if not settings.SSH_KEY.exists():
        shell.run(
            *("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "quickstart"),
            *("-f", settings.SSH_KEY),
        )


def make_busybox_tree() -> None:
    if not _wanted("busybox"):
        return
    binary = pathlib.Path("/bin/busybox")
    applets = shell.output(binary, "--list").split()
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
    """Have mmdebstrap make Debian with an SSH server.

    It trusts nobody: Nova puts the key of a server's key pair into the server.
    Root has no password, and one that is set through Nova opens the door too.
    """
    if not _wanted("debian") or _tree("debian").exists():
        return
    unfinished = _tree("debian").with_suffix(".part")
    debootstrap(
        unfinished,
        ("openssh-server", *COMMANDS),
        'rm -f "$1"/etc/ssh/ssh_host_*',
        # A capability that no server has; it works without one.
        'chroot "$1" setcap -r /bin/ping',
        'echo PermitRootLogin yes > "$1/etc/ssh/sshd_config.d/root.conf"',
        f'install -m 755 {SERVER_INIT} "$1/usr/local/sbin/"',
    )
    unfinished.rename(_tree("debian"))


def debootstrap(target: pathlib.Path, packages: Sequence[str], *hooks: str) -> None:
    """Make a tar archive of a small Debian.

    :param hooks: shell lines run at the end, in which ``$1`` is its directory
    """
    shell.run(
        # What others wait for goes first.
        *("nice", "-n", "5", "mmdebstrap"),
        "--mode=root",
        "--format=tar",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        # A tree that is only read once needs no care for power cuts.
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        *(f"--customize-hook={line}" for line in hooks),
        SUITE,
        target,
        *_mirrors(),
        env=shell.installer_env(),
    )


def save_busybox() -> None:
    _save("busybox", ['CMD ["/bin/sh"]', "ENV PATH=/bin"])


def save_debian() -> None:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    entrypoint = 'ENTRYPOINT ["/usr/local/sbin/server-init"]'
    _save("debian", [entrypoint, f"ENV PATH={path}", "EXPOSE 22"])


def _wanted(name: str) -> bool:
    """Tell whether the image has to be made: bootstrap notes what it uploaded."""
    return not memory.get(f"uploaded_{name}") and not archive(name).exists()


def _tree(name: str) -> pathlib.Path:
    return DATA / f"images/{name}.tree.tar"


def _save(name: str, changes: list[str]) -> None:
    if not _wanted(name):
        return
    with _tree(name).open("rb") as tree:
        image = engine.import_image(tree, changes)
    unfinished = archive(name).with_suffix(".part")
    try:
        with unfinished.open("wb") as target:
            engine.save_image(image, target)
    finally:
        engine.remove_image(image)
    unfinished.rename(archive(name))
    _tree(name).unlink()


def _mirrors() -> list[str]:
    """Return lines of sources.list for the suite, from where apt gets it."""
    targets = shell.output(
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
