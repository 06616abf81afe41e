"""A signed EIP-1559 transaction, read strictly: bytes from anywhere in, values or a `Refusal` out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eth_hash.auto import keccak

from contracts import curve
from contracts.addresses import checksum_address
from contracts.encoding import rlp_decode, rlp_encode, rlp_list, rlp_members
from contracts.identity import Fees
from gateway.errors import Code, Refusal

MAX_RAW_BYTES: Final = 8192
"""Of a device: no call of theirs is longer than 1 KiB."""
MAX_BATCH_BYTES: Final = 131_072
"""Of the gateway itself; nodes take none that is longer."""

_DYNAMIC_FEE_TYPE: Final = 2
_MAX_NONCE: Final = 2**63 - 1
"""What the database holds; EIP-2681 allows twice that, and no account gets there."""

_FIELDS: Final = (
    ("chainId", 32),
    ("nonce", 8),
    ("maxPriorityFeePerGas", 32),
    ("maxFeePerGas", 32),
    ("gas", 8),
    ("to", 20),
    ("value", 32),
    ("data", MAX_BATCH_BYTES),
    ("accessList", 0),
    ("yParity", 1),
    ("r", 32),
    ("s", 32),
)
"""Members of a signed EIP-1559 transaction in order, with their greatest length in bytes."""

_PLAIN: Final = frozenset({"to", "data", "accessList"})
_ACCESS_LIST: Final = 8
_SIGNATURE_FIELDS: Final = 3
_GAS_OF_A_TRANSACTION: Final = 21_000
_FLOOR_GAS_OF_A_TOKEN: Final = 10
"""The floor is the higher one: a token was 4 gas before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """The members of a well-formed signed EIP-1559 transaction, amounts in wei."""

    chain_id: int
    nonce: int
    tip_wei: int
    fee_cap_wei: int
    gas: int
    to: bytes
    value_wei: int
    data: bytes
    y_parity: int
    r: int
    s: int
    signed: bytes
    """What the signature signs the hash of."""

    @property
    def fees(self) -> Fees:
        """What it offers, in wei per gas."""
        return Fees(tip_wei=self.tip_wei, max_fee_wei=self.fee_cap_wei)

    @property
    def effect(self) -> tuple[bytes, int, bytes]:
        """What it does, whatever it costs: target, value in wei, calldata."""
        return self.to, self.value_wei, self.data

    @property
    def least_gas(self) -> int:
        """What it has to pay for at the least, by the floor of EIP-7623 (Prague); older rules ask less."""
        zeros = self.data.count(0)
        tokens = zeros + 4 * (len(self.data) - zeros)
        return _GAS_OF_A_TRANSACTION + _FLOOR_GAS_OF_A_TOKEN * tokens


def read(raw: bytes, *, most_bytes: int = MAX_RAW_BYTES) -> Transaction:
    """Read signed bytes. Raises `Refusal` 400 unless they are the one encoding of a transaction, and not longer."""
    if not 1 <= len(raw) <= most_bytes:
        raise malformed(f"a raw transaction has 1 to {most_bytes} bytes, got {len(raw)}")
    if raw[0] != _DYNAMIC_FEE_TYPE:
        raise malformed(f"only EIP-1559 transactions (first byte 0x02) are taken, got 0x{raw[0]:02x}")
    try:
        members = rlp_decode(raw[1:])
    except ValueError as error:
        raise malformed(f"not RLP: {error}") from error
    if not isinstance(members, list) or len(members) != len(_FIELDS):
        shape = f"a list of {len(members)}" if isinstance(members, list) else "a string"
        raise malformed(f"a signed EIP-1559 transaction is a list of {len(_FIELDS)} members, got {shape}")
    for (name, length), member in zip(_FIELDS, members, strict=True):
        _check_member(name, length, member)
    number = {
        name: int.from_bytes(member) for (name, _), member in zip(_FIELDS, members, strict=True) if name not in _PLAIN
    }
    if number["nonce"] > _MAX_NONCE:
        raise malformed(f"nonce {number['nonce']} is above {_MAX_NONCE}")
    if number["yParity"] not in (0, 1):
        raise malformed(f"yParity must be 0 or 1, got {number['yParity']}")
    if number["maxPriorityFeePerGas"] > number["maxFeePerGas"]:
        raise malformed("maxPriorityFeePerGas is above maxFeePerGas: no node takes it")
    return Transaction(
        chain_id=number["chainId"],
        nonce=number["nonce"],
        tip_wei=number["maxPriorityFeePerGas"],
        fee_cap_wei=number["maxFeePerGas"],
        gas=number["gas"],
        to=members[5],
        value_wei=number["value"],
        data=members[7],
        y_parity=number["yParity"],
        r=number["r"],
        s=number["s"],
        signed=_signed(raw, members[-_SIGNATURE_FIELDS:]),
    )


def _signed(raw: bytes, signature: list[bytes]) -> bytes:
    """All but the signature, out of the bytes of a transaction: a member has one encoding, so it is in there."""
    members = rlp_members(raw[1:])
    return raw[:1] + rlp_list(members[: -sum(len(rlp_encode(one)) for one in signature)])


def _check_member(name: str, length: int, member: object) -> None:
    if name == "accessList":
        if member != []:
            raise malformed("accessList must be empty: no call of ours gains by one")
        return
    if not isinstance(member, bytes):
        raise malformed(f"{name} must be a string of bytes, got a list")
    if name == "to" and len(member) not in (0, length):
        raise malformed(f"to must have 0 or {length} bytes, got {len(member)}")
    if len(member) > length:
        raise malformed(f"{name} has at most {length} bytes, got {len(member)}")
    if name not in _PLAIN and member[:1] == b"\0":
        raise malformed(f"{name} starts with a zero byte")


def sender(found: Transaction) -> str:
    """Return the checksum address that signed it. Raises `Refusal` 400."""
    if not 0 < found.r < curve.ORDER or not 0 < found.s <= curve.ORDER // 2:
        raise Refusal(400, Code.BAD_SIGNATURE, "r or s is out of range; s must be in the lower half (EIP-2)")
    who = curve.signer(keccak(found.signed), curve.Signature(r=found.r, s=found.s, y_parity=found.y_parity))
    if who is None:
        raise Refusal(400, Code.BAD_SIGNATURE, "no account can be recovered from the signature")
    return checksum_address(who)


def malformed(why: str) -> Refusal:
    """The refusal of bytes that are no transaction."""
    return Refusal(400, Code.MALFORMED_TRANSACTION, why)
