"""The server's certificate: read, checked, watched for its end, and read again when its files change. Knows no gRPC.

Only for code that has made sure of the extra `keda`; see `server.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.keda.config import TlsConfig

log = logging.getLogger(__name__)

MAX_BYTES = 1_048_576  # of one file; a bundle of all public CAs is a quarter of it


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a handshake needs, PEM, and until when it is good, unix time."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    ends_s: float

    def __repr__(self) -> str:  # the key goes into no log
        return f"Certificate(ends_s={self.ends_s:.0f})"


def read_certificate(tls: TlsConfig, now_s: float) -> Certificate:
    """Certificate, key and client CAs, checked at unix time `now_s`. Raises LiveConfigError."""
    chain, key = _read(tls.cert_file, "tls.cert_file"), _read(tls.key_file, "tls.key_file")
    own = _certificates(chain, tls.cert_file, "tls.cert_file")[0]
    _check_time(own, tls.cert_file, now_s)
    if _told(_public_key(own, tls.cert_file)) != _told(_private_key(key, tls.key_file).public_key()):
        raise LiveConfigError(
            f"tls.key_file {tls.key_file} is not the key of the certificate in {tls.cert_file}; give the pair"
        )
    client_ca = None
    if tls.client_ca_file is not None:
        client_ca = _read(tls.client_ca_file, "tls.client_ca_file")
        for authority in _certificates(client_ca, tls.client_ca_file, "tls.client_ca_file"):
            _check_time(authority, tls.client_ca_file, now_s)
    return Certificate(chain, key, client_ca, own.not_valid_after_utc.timestamp())


class Watched:
    """A certificate that follows its files. What cannot be used is logged and counted, and the last good one stays."""

    def __init__(self, tls: TlsConfig, unix_s: Callable[[], float]) -> None:
        self._tls, self._unix_s = tls, unix_s
        self._stamp = self._files()
        self.current = read_certificate(tls, unix_s())
        self.reloads = self.failed_reloads = 0
        self._warned_of: float | None = None
        self.look()

    def look(self) -> None:
        """Read the files if they changed, and warn once of a certificate near its end."""
        stamp = self._files()
        if stamp != self._stamp:
            self._stamp = stamp
            self._renew()
        if self.expiring and self._warned_of != self.current.ends_s:
            self._warned_of = self.current.ends_s
            log.warning("certificate %s ends in %.1f h; renew it", self._tls.cert_file, self.left_s / 3600)

    @property
    def left_s(self) -> float:
        """Seconds until the certificate ends; negative when it has."""
        return self.current.ends_s - self._unix_s()

    @property
    def expiring(self) -> bool:
        """Whether it is time to renew."""
        return self.left_s <= self._tls.warn_before_s

    def _renew(self) -> None:
        try:
            self.current = read_certificate(self._tls, self._unix_s())
        except LiveConfigError as error:
            self.failed_reloads += 1
            log.error("changed certificate not taken, the old one stays: %s", error)
        else:
            self.reloads += 1
            log.info("certificate %s read again", self._tls.cert_file)

    def _files(self) -> tuple[object, ...]:
        """Changes with the files; through symbolic links too, which is how Kubernetes renews a mounted secret."""
        paths = (self._tls.cert_file, self._tls.key_file, self._tls.client_ca_file)
        return tuple(_stamp(path) for path in paths if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _read(path: Path, field: str) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LiveConfigError(f"{field} {path} is larger than {MAX_BYTES} bytes; expected PEM")
        return path.read_bytes()
    except OSError as error:
        raise LiveConfigError(f"{field} {path} cannot be read ({error.strerror}); expected a PEM file") from None


def _certificates(pem: bytes, path: Path, field: str) -> list[x509.Certificate]:
    try:
        return list(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise LiveConfigError(f"{field} {path} holds no certificate; expected PEM, BEGIN CERTIFICATE") from None


def _private_key(pem: bytes, path: Path) -> Any:
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):  # a password makes it a TypeError
        raise LiveConfigError(f"tls.key_file {path} holds no private key without a password; expected PEM") from None


def _public_key(certificate: x509.Certificate, path: Path) -> Any:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise LiveConfigError(f"tls.cert_file {path} has a public key of an unknown kind; expected RSA or EC") from None


def _told(public_key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(public_key.public_bytes(serialization.Encoding.DER, form))


def _check_time(certificate: x509.Certificate, path: Path, now_s: float) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now_s >= ends.timestamp():
        raise LiveConfigError(f"the certificate in {path} expired on {ends:%Y-%m-%d %H:%M} UTC; renew it")
    if now_s < begins.timestamp():
        raise LiveConfigError(
            f"the certificate in {path} is not valid before {begins:%Y-%m-%d %H:%M} UTC; check the clock or the file"
        )
