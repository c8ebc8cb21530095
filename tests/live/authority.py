"""A certificate authority for a test: certificates of any name and age, as PEM files."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

REASON = "needs the extra keda; make test-live installs it"
x509 = pytest.importorskip("cryptography.x509", reason=REASON)
ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec", reason=REASON)
hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes", reason=REASON)
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization", reason=REASON)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs what it is asked to, in a folder of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        own = _built(self._name, self._name, self._key.public_key(), (-86_400.0, 60 * 86_400.0))
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, begins_s: float = -3_600.0, ends_s: float = 30 * 86_400.0) -> Pair:
        """A certificate for loopback, good between two times counted from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        cert = _built(_named(name), self._name, key.public_key(), (begins_s, ends_s))
        cert = cert.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pair.cert.write_bytes(cert.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair


def _named(name: str) -> Any:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _built(name: Any, issuer: Any, public_key: Any, span_s: tuple[float, float]) -> Any:
    now = datetime.now(UTC)
    begins, ends = (now + timedelta(seconds=offset_s) for offset_s in span_s)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public_key)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
