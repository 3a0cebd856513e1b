"""TLS towards clients: one listening context whose certificate follows its files.

Certificates are short-lived and get replaced under a running router, as mounted secrets are. A new file counts for
new connections, running ones keep what they began with, and a broken file leaves the certificate as it was.
"""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

from pointsman.contracts.config import Tls

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


class TlsError(Exception):
    """The certificate and its key can't be used; the message names the files and says why."""


class Certificates:
    """The certificate and the key at the two paths of `tls`. Raises `TlsError` where they can't be used now."""

    def __init__(self, tls: Tls) -> None:
        self._certificate = Path(tls.certificate)
        self._key = Path(tls.private_key)
        self._stamp = self._look()
        self._newest = self._load()
        self.context = self._load()
        """What the listening socket takes; each handshake is given the newest certificate."""
        self.context.sni_callback = self._give_newest

    def refresh(self) -> None:
        """Read the files again if they have changed; called every now and then."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._newest = self._load()
        except TlsError as error:
            log.error("the certificate stays as it was: %s", error)
        else:
            log.info("the certificate in %s has been read again", self._certificate)

    def _give_newest(self, connection: ssl.SSLObject, server_name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _load(self) -> ssl.SSLContext:
        for path in (self._certificate, self._key):
            try:
                path.read_bytes()
            except OSError as error:
                reason = (error.strerror or type(error).__name__).lower()
                raise TlsError(f"router.tls: {path} cannot be read ({reason}).") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise TlsError(
                    f"router.tls: the key in {self._key} is not that of the certificate in {self._certificate}."
                ) from None
            raise TlsError(
                f"router.tls: {self._certificate} and {self._key} must hold a certificate and its private key in "
                "PEM format, the key without a passphrase."
            ) from None
        return context

    def _look(self) -> _Stamp:
        """What changes when a file is written or replaced."""
        found = []
        for path in (self._certificate, self._key):
            try:
                status = os.stat(path)
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)


def _no_password() -> bytes:
    """Without this, OpenSSL would ask for a passphrase on the terminal."""
    return b""
