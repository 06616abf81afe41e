"""TLS 1.3 between devices that know each other by their link keys, and by nothing else.

A certificate only carries the key: nobody signed it but itself, and its names and dates play no part.
"""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from device_agent.errors import PeerFault

_BEGIN, _END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Of every certificate: a device that was just switched on may have no clock, and says when by none."""
_MAX_CERTIFICATE_BYTES = 4096


def server_context(key: Ed25519PrivateKey) -> ssl.SSLContext:
    """Return a context that shows the certificate of `key`. The key is written to memory only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + _certificate(key)
    memory = os.memfd_create("link key")
    try:
        os.write(memory, pem)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    return context


def client_context() -> ssl.SSLContext:
    """Return a context that takes any certificate: who asks looks at the key, see `key_of`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def key_of(certificate: bytes | None) -> bytes:
    """Return the 32 bytes of a DER certificate's Ed25519 key. Raises `PeerFault` for any other certificate."""
    if certificate is None or len(certificate) > _MAX_CERTIFICATE_BYTES:
        raise PeerFault("the certificate is missing, or too large")
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except Exception as error:
        raise PeerFault(f"the certificate cannot be read: {type(error).__name__}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise PeerFault("the certificate is not of an Ed25519 key")
    return key.public_bytes_raw()


def _certificate(key: Ed25519PrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idml")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    dated = builder.serial_number(1).not_valid_before(_BEGIN).not_valid_after(_END)
    return dated.sign(key, None).public_bytes(Encoding.PEM)
