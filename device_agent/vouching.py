"""With which an account vouches for the key of its device's link. Pure.

A radio shows ids that change and a certificate shows a key: this statement says whose key it is. It ends, so that a key
that was lost does not count for ever; but devices have no good clocks, so its end is taken with two days' leeway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from eth_hash.auto import keccak
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts import signing
from contracts.addresses import checksum_address
from contracts.identity import Identity
from device_agent.errors import PeerFault, first_fault

VALID_S: Final = 30 * 86_400
"""How long a statement is good: many times longer than a device is switched off, and than clocks are wrong."""
LEEWAY_S: Final = 2 * 86_400
"""How wrong the clocks of two devices may be against each other."""
MAX_BYTES: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouching:
    """An account's word for a key.

    Attributes:
        account: checksum address.
        link_key: 32 bytes, the public Ed25519 key of its link.
        expires_s: the end, in Unix s.
        signature: 64 bytes of the account, over the rest.
    """

    account: str
    link_key: bytes
    expires_s: int
    signature: bytes


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    account: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    link_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    expires_s: Annotated[int, Field(ge=0, lt=1 << 40)]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


def vouch(identity: Identity, link_key: bytes, *, now_s: int) -> Vouching:
    """Let an account vouch for a key for `VALID_S` from `now_s` (Unix s) on."""
    expires_s = now_s + VALID_S
    digest = _digest(identity.address, link_key, expires_s)
    signature = identity.sign_digest(digest)
    return Vouching(account=identity.address, link_key=link_key, expires_s=expires_s, signature=signature)


def verify(vouching: Vouching, *, now_s: int) -> None:
    """Raise `PeerFault` unless the account signed this, and it has not ended at `now_s` (Unix s)."""
    digest = _digest(vouching.account, vouching.link_key, vouching.expires_s)
    if signing.signer(digest, vouching.signature) != vouching.account:
        raise PeerFault("the vouching is not signed by its account")
    if vouching.expires_s + LEEWAY_S < now_s:
        raise PeerFault(f"the vouching ended {(now_s - vouching.expires_s) // 86_400} days ago")
    if vouching.expires_s > now_s + VALID_S + LEEWAY_S:
        raise PeerFault("the vouching is good for longer than any is, or a clock is wrong by days")


def write(vouching: Vouching) -> bytes:
    """Write a statement as JSON."""
    written = _Written(
        account=vouching.account,
        link_key=vouching.link_key.hex(),
        expires_s=vouching.expires_s,
        signature=vouching.signature.hex(),
    )
    return written.model_dump_json().encode()


def read(data: bytes) -> Vouching:
    """Read a statement; its signature is not looked at. Raises `PeerFault` for what `write` would not have written."""
    if len(data) > MAX_BYTES:
        raise PeerFault(f"a vouching of {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        written = _Written.model_validate_json(data)
    except ValidationError as error:
        raise PeerFault(f"vouching: {first_fault(error)}") from error
    if checksum_address(written.account) != written.account:
        raise PeerFault("vouching: the account is not written with its checksum")
    vouching = Vouching(
        account=written.account,
        link_key=bytes.fromhex(written.link_key),
        expires_s=written.expires_s,
        signature=bytes.fromhex(written.signature),
    )
    if write(vouching) != data:
        raise PeerFault("vouching: it is not in the form in which statements are written")
    return vouching


def _digest(account: str, link_key: bytes, expires_s: int) -> bytes:
    return keccak("\n".join(("iDML vouching", account, link_key.hex(), str(expires_s))).encode())
