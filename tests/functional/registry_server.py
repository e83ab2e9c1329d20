# SPDX-License-Identifier: Apache-2.0
"""A private registry: Debian's docker-registry, with TLS and a password.

It runs in a separate network namespace: engines do not require TLS for registries on
loopback addresses of the host, so TLS would not be tested there.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import ipaddress
import json
import pathlib
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Mapping
from collections.abc import Sequence
from types import TracebackType
from typing import Any
from typing import Self
from urllib import parse

import bcrypt
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyroute2 import IPRoute
from pyroute2 import NetNS
from pyroute2 import netns

PROGRAM = "/usr/bin/docker-registry"

# Reserved for documentation, hence unused; servers in tests use 192.0.2.0/24.
NETWORK = ipaddress.IPv4Network("198.51.100.0/24")
PREFIX = 30
PORT = 5000

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"

_REQUEST = re.compile(r'"([A-Z]+) (\S+) HTTP/')
_START = 20  # seconds, for what takes less than one


class RegistryServer:
    """A registry that runs in a ``with`` block, as root.

    :ivar host: ``address:port``, as in image names
    :ivar ca_file: authority that signed its certificate (PEM)
    :ivar user: name of the only user
    :ivar password: password of that user
    """

    def __init__(self, place: int = 0) -> None:
        """
        :param place: another one for each registry of the host
        """
        network = list(NETWORK.subnets(new_prefix=PREFIX))[place]
        self._outside, self._address = map(str, network.hosts())
        self._namespace = f"nd-reg-{place}"
        self._outer, self._inner = f"nd-reg-{place}-out", f"nd-reg-{place}-in"
        self.host = f"{self._address}:{PORT}"
        self.user = "nova"
        self.password = secrets.token_urlsafe(12)
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._exit as stack:
            directory = tempfile.TemporaryDirectory(prefix="nd-reg-")
            self._directory = pathlib.Path(stack.enter_context(directory))
            self.ca_file = str(self._directory / "ca.pem")
            self._session = stack.enter_context(requests.Session())
            self._session.trust_env = False
            self._session.verify = self.ca_file
            self._session.auth = (self.user, self.password)
            _write_certificates(self._directory, self._address)
            stack.callback(self._remove_network)
            self._make_network()
            process = self._start()
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
            self._wait(process)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit.close()

    def _make_network(self) -> None:
        """Create a namespace, connected to the host by a veth pair."""
        # Left by a run that was killed.
        self._remove_network()
        netns.create(self._namespace)
        with IPRoute() as host, NetNS(self._namespace) as inside:
            host.link(
                "add", ifname=self._outer, kind="veth", peer={"ifname": self._inner}
            )
            inner = host.link_lookup(ifname=self._inner)[0]
            host.link("set", index=inner, net_ns_fd=self._namespace)
            _set_up(host, self._outer, self._outside)
            _set_up(inside, self._inner, self._address)

    def _remove_network(self) -> None:
        with IPRoute() as host:
            # This deletes the other end too.
            for index in host.link_lookup(ifname=self._outer):
                host.link("del", index=index)
        if self._namespace in netns.listnetns():
            netns.remove(self._namespace)

    @property
    def requests(self) -> list[str]:
        """All requests so far, as ``METHOD /path``, including those of :meth:`push`."""
        # The registry logs a request after it has responded. Once this one is in the
        # log, all earlier ones are too.
        mark = f"/v2/?mark={secrets.token_hex(8)}"
        self._session.get(f"https://{self.host}{mark}", timeout=20)
        deadline = time.monotonic() + _START
        while mark not in (log := self._log()):
            assert time.monotonic() < deadline, log
            time.sleep(0.01)
        asked = _REQUEST.findall(log)
        return [f"{method} {path}" for method, path in asked if "?mark=" not in path]

    def write_auth_file(self, path: str | pathlib.Path) -> None:
        """Write a ``config.json`` as ``docker login`` does."""
        auth = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        content = {"auths": {self.host: {"auth": auth}}}
        pathlib.Path(path).write_text(json.dumps(content))

    def push(
        self, repository: str, tag: str, config: bytes, layers: Sequence[bytes]
    ) -> str:
        """Push an image.

        :param layers: tar archives, which may be compressed with gzip
        :returns: the digest of its manifest
        """
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._push_blob(repository, config, CONFIG),
            "layers": [
                self._push_blob(
                    repository,
                    layer,
                    f"{LAYER}.gzip" if layer.startswith(b"\x1f\x8b") else LAYER,
                )
                for layer in layers
            ],
        }
        return self.push_manifest(repository, tag, manifest)

    def push_manifest(
        self, repository: str, reference: str, manifest: Mapping[str, Any]
    ) -> str:
        """Push a manifest or an index.

        :returns: its digest
        """
        content = json.dumps(manifest).encode()
        path = f"/v2/{repository}/manifests/{reference}"
        self._call(
            "PUT",
            parse.urljoin(f"https://{self.host}", path),
            data=content,
            headers={"Content-Type": manifest["mediaType"]},
        )
        return _digest(content)

    def _push_blob(self, repository: str, content: bytes, kind: str) -> dict[str, Any]:
        digest = _digest(content)
        start = f"https://{self.host}/v2/{repository}/blobs/uploads/"
        upload = parse.urljoin(start, self._call("POST", start)["Location"])
        self._call("PUT", upload, params={"digest": digest}, data=content)
        return {"mediaType": kind, "size": len(content), "digest": digest}

    def _call(self, method: str, url: str, **request: Any) -> Mapping[str, str]:
        """Send a request and return the headers of the response."""
        answer = self._session.request(method, url, timeout=60, **request)
        answer.raise_for_status()
        return answer.headers

    # The process

    def _start(self) -> subprocess.Popen[bytes]:
        directory = self._directory
        hashed = bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(4)).decode()
        (directory / "htpasswd").write_text(f"{self.user}:{hashed}\n")
        config = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
            "http": {
                "addr": self.host,
                "tls": {
                    "certificate": str(directory / "server.pem"),
                    "key": str(directory / "server.key"),
                },
            },
            "auth": {
                "htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}
            },
        }
        # JSON is valid YAML.
        (directory / "config.yml").write_text(json.dumps(config))
        with (directory / "log").open("wb") as log:
            return subprocess.Popen(
                [
                    "nsenter",
                    f"--net=/run/netns/{self._namespace}",
                    PROGRAM,
                    "serve",
                    str(directory / "config.yml"),
                ],
                # REGISTRY_* variables would override its configuration.
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START
        while True:
            try:
                self._call("GET", f"https://{self.host}/v2/")
                return
            except requests.RequestException:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"the registry did not start: {self._log()}"
                    ) from None
                time.sleep(0.05)

    def _log(self) -> str:
        return (self._directory / "log").read_text()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _set_up(route: Any, device: str, address: str) -> None:
    index = route.link_lookup(ifname=device)[0]
    route.addr("add", index=index, address=address, prefixlen=PREFIX)
    route.link("set", index=index, state="up")


def _write_certificates(directory: pathlib.Path, address: str) -> None:
    """Write ca.pem, server.pem and server.key."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    ca = _certificate(
        "nova-docker test CA",
        ca_key.public_key(),
        ca_key,
        {
            x509.BasicConstraints(ca=True, path_length=0): True,
            x509.KeyUsage(
                digital_signature=False, key_cert_sign=True, crl_sign=True, **usage
            ): True,
        },
    )
    name = x509.IPAddress(ipaddress.ip_address(address))
    server = _certificate(
        "nova-docker test registry",
        key.public_key(),
        ca_key,
        {
            x509.BasicConstraints(ca=False, path_length=None): True,
            x509.SubjectAlternativeName([name]): False,
        },
    )
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca.public_bytes(pem))
    (directory / "server.pem").write_bytes(server.public_bytes(pem))
    (directory / "server.key").write_bytes(
        key.private_bytes(
            pem,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _certificate(
    name: str, key: Any, signer: Any, extensions: Mapping[Any, bool]
) -> Any:
    """Return a certificate, valid for a few hours, signed by "nova-docker test CA"."""
    now = datetime.datetime.now(datetime.UTC)
    common_name = x509.oid.NameOID.COMMON_NAME
    issuer = x509.NameAttribute(common_name, "nova-docker test CA")
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(common_name, name)]))
        .issuer_name(x509.Name([issuer]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=6))
        # Python 3.13 rejects certificates without these two.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            False,
        )
    )
    for extension, critical in extensions.items():
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())
