"""TLS with a gateway that is known by the SHA-256 of its certificate, and by nothing else.

The device was told it when it was set up. Names, dates and who signed the certificate play no part: a device that was
just switched on has no clock, and nobody vouches for a certificate that a gateway made for itself.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def read_fingerprint(text: str) -> bytes:
    """Read 64 hex digits, in pairs with colons or not. Raises ValueError."""
    digits = text.strip().replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(digits):
        raise ValueError(f"a fingerprint has 64 hex digits, got {text[:80]!r}")
    return bytes.fromhex(digits)


def pinned_context(fingerprint: bytes) -> ssl.SSLContext:
    """Return a context whose handshakes fail with any certificate but the one of this SHA-256.

    They fail before the first byte of a request: it is the handshake itself that checks.
    """

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            found = hashlib.sha256(self.getpeercert(binary_form=True) or b"").digest()
            if not hmac.compare_digest(found, fingerprint):
                raise ssl.SSLCertVerificationError(
                    f"the gateway's certificate has the SHA-256 {found.hex()}, not {fingerprint.hex()}"
                )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # `Pinned` does more
    context.sslobject_class = Pinned
    return context
