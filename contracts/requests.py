"""What a device signs for a gateway: the requests it makes, and the redemption of the token that enrols it.

A signed request proves who made it, what it asked for and with which body, and that it is made for the first time. Its
digests share no preimage with those of `contracts.signing`: theirs begin with 0x1901, these with a word of their own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from eth_hash.auto import keccak

MAX_COUNTER: Final = 2**62 - 1
EMPTY_SHA256: Final = hashlib.sha256(b"").digest()
SCHEME: Final = "iDML"

_PROOF: Final = re.compile(
    r"iDML account=(?P<account>0x[0-9a-fA-F]{40}), "
    r"counter=(?P<counter>[0-9]{1,19}), "
    r"signature=(?P<signature>[0-9a-f]{128})"
)
_CONTENT_DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Who says to have made a request.

    Attributes:
        account: checksum address of the device.
        counter: number of the request; one device uses no number twice.
        signature: 64 bytes over `request_digest`.
    """

    account: str
    counter: int
    signature: bytes


def request_digest(*, realm: str, account: str, counter: int, method: str, target: str, body_sha256: bytes) -> bytes:
    """What a device signs for one request.

    Args:
        realm: the gateway it is meant for: no other one can be handed it.
        account: checksum address of the device.
        counter: number of the request.
        method: in upper case.
        target: path and query, as they are sent.
        body_sha256: of the body, 32 bytes.
    """
    lines = ("iDML request", realm, account, str(counter), method, target, body_sha256.hex())
    return keccak("\n".join(lines).encode())


def enrolment_digest(*, token: str, account: str) -> bytes:
    """What a device signs to be enrolled by a token: the key of the account is its own."""
    return keccak("\n".join(("iDML enrolment", token, account)).encode())


def write_proof(proof: Proof) -> str:
    """Return a proof as the value of the header Authorization."""
    return f"{SCHEME} account={proof.account}, counter={proof.counter}, signature={proof.signature.hex()}"


def read_proof(text: str) -> Proof:
    """Read a header Authorization. Raises ValueError."""
    found = _PROOF.fullmatch(text)
    if found is None:
        raise ValueError(f"Authorization must be `{SCHEME} account=0x..., counter=..., signature=...`")
    counter = int(found["counter"])
    if not 0 < counter <= MAX_COUNTER:
        raise ValueError(f"counter must be from 1 to {MAX_COUNTER}")
    return Proof(account=found["account"], counter=counter, signature=bytes.fromhex(found["signature"]))


def write_content_digest(sha256: bytes) -> str:
    """Return a body's SHA-256 as the value of the header Content-Digest (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def read_content_digest(text: str) -> bytes:
    """Read a header Content-Digest that holds a SHA-256 and nothing else. Raises ValueError."""
    found = _CONTENT_DIGEST.fullmatch(text)
    if found is None:
        raise ValueError("Content-Digest must be `sha-256=:...:` with the SHA-256 of the body in base 64")
    try:
        return base64.b64decode(found[1], validate=True)
    except binascii.Error:  # the pattern leaves room for bits that no byte has
        raise ValueError("Content-Digest is no base 64") from None
