"""A certificate that the gateway makes for itself, and the fingerprint by which devices know it.

Nobody vouches for it: a device has its SHA-256 from who set the device up, and takes no other one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gevent import ssl

from gateway.errors import ConfigError, GatewayError

_VALID: Final = timedelta(days=20 * 365)
"""Devices compare the fingerprint and have no clock to trust: its end is far away."""
_BEFORE: Final = timedelta(days=2)


def make_certificate(file: Path, names: Sequence[str], *, now_s: float) -> None:
    """Write a new key and its certificate into one file, unless it is there. Raises `GatewayError`.

    Args:
        file: to write, for its owner alone to read.
        names: host names and addresses it is for.
        now_s: Unix seconds.
    """
    if file.exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.fromtimestamp(now_s, UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idml-gateway")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([_named(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_once(file, secret + certificate.public_bytes(pem))
    except OSError as error:
        raise GatewayError(f"cannot write the certificate {file}: {error.strerror}") from error


def fingerprint(file: Path) -> str:
    """Return the SHA-256 of a file's first certificate, 64 hex digits. Raises `ConfigError`."""
    try:
        certificate = x509.load_pem_x509_certificates(file.read_bytes())[0]
    except OSError as error:
        raise ConfigError(f"cannot read the certificate {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: there is no certificate in PEM in it") from error
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return what a server needs to speak TLS 1.3 and nothing older. Raises `ConfigError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the certificate {certificate} with its key: {error}") from error
    return context


def _named(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_once(file: Path, data: bytes) -> None:
    """Write a file whole, unless another process has written it meanwhile."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=file.name) as part:  # made for its owner alone
        part.write(data)
        part.flush()
        os.fsync(part.fileno())
        try:
            os.link(part.name, file)
        except FileExistsError:
            return
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
