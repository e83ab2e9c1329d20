# SPDX-License-Identifier: Apache-2.0
"""TLS settings of a connection."""

from __future__ import annotations

import dataclasses
import ssl

from requests import utils


@dataclasses.dataclass(frozen=True)
class TLSConfig:
    """TLS settings for a ``tcp://`` engine; all files are PEM.

    :ivar ca_file: authority that signed the engine's certificate; None to use the
        authorities that requests trusts
    :ivar cert_file: client certificate
    :ivar key_file: private key of ``cert_file``; None if ``cert_file`` contains it
    :ivar verify: whether to verify the engine's certificate
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True

    @property
    def requests_verify(self) -> bool | str:
        """The value of requests' ``verify``."""
        return self.verify and (self.ca_file or True)

    @property
    def requests_cert(self) -> tuple[str, str | None] | None:
        """The value of requests' ``cert``."""
        return (self.cert_file, self.key_file) if self.cert_file else None

    def context(self) -> ssl.SSLContext:
        """Return the same settings for a connection that requests does not make.

        :raises OSError: if a file is missing or malformed
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.verify:
            context.hostname_checks_common_name = False
            context.load_verify_locations(self.ca_file or utils.DEFAULT_CA_BUNDLE_PATH)
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context
