"""Signatures of accounts: secp256k1 with recovery, by libsecp256k1. Digests have 32 bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from coincurve import PrivateKey, PublicKey
from eth_hash.auto import keccak

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of the group: private keys, r and s are below it."""

_ADDRESS_BYTES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """r, s and the parity of the point that r came from (0 or 1)."""

    r: int
    s: int
    y_parity: int


def sign(key: bytes, digest: bytes) -> Signature:
    """Sign a digest, deterministically (RFC 6979), with s in the lower half. Raises ValueError for what is no key."""
    made = PrivateKey(key).sign_recoverable(digest, hasher=None)
    return Signature(r=int.from_bytes(made[:32]), s=int.from_bytes(made[32:64]), y_parity=made[64])


def signer(digest: bytes, signature: Signature) -> bytes | None:
    """Return the 20-byte address of who signed; None for nobody, or where s is in the upper half (EIP-2)."""
    if not 0 < signature.r < ORDER or not 0 < signature.s <= ORDER // 2 or signature.y_parity not in (0, 1):
        return None
    written = signature.r.to_bytes(32) + signature.s.to_bytes(32) + bytes([signature.y_parity])
    try:
        point = PublicKey.from_signature_and_message(written, digest, hasher=None)
    except Exception:  # the library raises no other where there is no such point
        return None
    return _address(point.format(compressed=False))


def address(key: bytes) -> bytes:
    """Return the 20-byte address of a private key of 32 bytes. Raises ValueError for what is no key."""
    if len(key) != 32:
        raise ValueError(f"a private key has 32 bytes, got {len(key)}")
    return _address(PrivateKey(key).public_key.format(compressed=False))


@lru_cache(maxsize=1024)
def _address(point: bytes) -> bytes:
    """The address of a public key; a few accounts are met over and over."""
    return keccak(point[1:])[-_ADDRESS_BYTES:]
