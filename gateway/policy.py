"""Which raw transactions this gateway takes: pure checks of signed bytes, before anything is stored.

Only what a device of ours has to send: one call of the escrow or the token, EIP-1559 (type 2), without an
access list, within the caps. All else goes to a node directly: the owner's calls, token calls that only move tokens
about, and the calls of the signed door, which say nothing about who sends them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import rlp  # type: ignore[import-untyped]
from eth_hash.auto import keccak
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.address import to_checksum_address

from contracts.calls import (
    AddParameterSet,
    Approve,
    BurnFines,
    Buy,
    Call,
    CheckIn,
    CloseReporting,
    Dismiss,
    Expire,
    Finalise,
    LeaveValidator,
    RegisterValidator,
    Report,
    RetireParameterSet,
    RevealVote,
    Seal,
    Sell,
    Stake,
    StakeWithPermit,
    Unbond,
    Vote,
    Withdraw,
    function_name,
)
from contracts.calls import decode as decode_call
from contracts.errors import MalformedCalldata, MalformedTerms, UnknownCall
from gateway.config import Limits
from gateway.errors import Code, Refusal

MAX_RAW_BYTES: Final = 8192
"""No call of ours is longer than 1 KiB."""

_DYNAMIC_FEE_TYPE: Final = 2
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
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
    ("data", MAX_RAW_BYTES),
    ("accessList", 0),
    ("yParity", 1),
    ("r", 32),
    ("s", 32),
)
"""Members of a signed EIP-1559 transaction in order, with their greatest length in bytes."""

_PLAIN: Final = frozenset({"to", "data", "accessList"})
_ACCESS_LIST: Final = 8
_SIGNATURE_FIELDS: Final = 3

_TOKEN_CALLS: Final = (Buy, Sell, Approve)
_ESCROW_CALLS: Final = (
    CheckIn,
    Report,
    CloseReporting,
    Vote,
    Seal,
    RevealVote,
    Finalise,
    Expire,
    Stake,
    StakeWithPermit,
    Unbond,
    Withdraw,
    RegisterValidator,
    LeaveValidator,
    Dismiss,
    BurnFines,
)
_OWNER_CALLS: Final = (AddParameterSet, RetireParameterSet)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTransaction:
    """A signed transaction that passed every check; its hash is its identity.

    Attributes:
        digest: 32-byte transaction hash, also the submission's id.
        raw: the signed bytes as they go to a node.
        sender: checksum address recovered from the signature.
        nonce: the sender's account nonce.
        target: checksum address of the contract called.
        call: what it calls.
    """

    digest: bytes
    raw: bytes
    sender: str
    nonce: int
    target: str
    call: Call

    @property
    def name(self) -> str:
        """The called function's Solidity name."""
        return function_name(self.call)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transaction:
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
    unsigned: list[bytes | list[bytes]]

    @property
    def signed_hash(self) -> bytes:
        """What the signature signs."""
        return keccak(bytes([_DYNAMIC_FEE_TYPE]) + rlp.encode(self.unsigned))


def check(raw: bytes, *, chain_id: int, token: str, escrow: str, limits: Limits) -> CheckedTransaction:
    """Check a raw transaction from anywhere.

    Args:
        raw: the signed bytes.
        chain_id: the only chain this gateway relays to.
        token: checksum address of the token.
        escrow: checksum address of the escrow.
        limits: caps on gas, fee and value.

    Raises `Refusal` with a stable code and nothing else: 400 for bytes that are no transaction, 422 for a
    transaction this gateway does not relay.
    """
    found = _read(raw)
    if found.chain_id != chain_id:
        raise Refusal(422, Code.WRONG_CHAIN, f"signed for chain {found.chain_id}; this gateway serves {chain_id}")
    if not found.to:
        raise Refusal(422, Code.FOREIGN_TARGET, "it creates a contract; only calls of the iDML contracts are relayed")
    target = to_checksum_address(found.to)
    if target not in (token, escrow):
        raise Refusal(422, Code.FOREIGN_TARGET, f"to {target}; allowed are the escrow {escrow} and the token {token}")
    _check_caps(found, limits)
    call = _call(found.data)
    _check_call(call, target=target, token=token, escrow=escrow, value_wei=found.value_wei)
    return CheckedTransaction(
        digest=keccak(raw), raw=raw, sender=_sender(found), nonce=found.nonce, target=target, call=call
    )


def _read(raw: bytes) -> _Transaction:
    if not 1 <= len(raw) <= MAX_RAW_BYTES:
        raise _malformed(f"a raw transaction has 1 to {MAX_RAW_BYTES} bytes, got {len(raw)}")
    if raw[0] != _DYNAMIC_FEE_TYPE:
        raise _malformed(f"only EIP-1559 transactions (first byte 0x02) are taken, got 0x{raw[0]:02x}")
    try:
        members = rlp.decode(raw[1:])
    except (rlp.DecodingError, RecursionError) as error:  # the decoder calls itself for every list in a list
        raise _malformed(f"not RLP: {str(error) or 'lists nested too deeply'}") from error
    if not isinstance(members, list) or len(members) != len(_FIELDS):
        shape = f"a list of {len(members)}" if isinstance(members, list) else "a string"
        raise _malformed(f"a signed EIP-1559 transaction is a list of {len(_FIELDS)} members, got {shape}")
    for (name, length), member in zip(_FIELDS, members, strict=True):
        _check_member(name, length, member)
    if bytes([_DYNAMIC_FEE_TYPE]) + rlp.encode(members) != raw:
        raise _malformed("the bytes are not the canonical encoding of their content")
    number = {
        name: int.from_bytes(member) for (name, _), member in zip(_FIELDS, members, strict=True) if name not in _PLAIN
    }
    if number["nonce"] > _MAX_NONCE:
        raise _malformed(f"nonce {number['nonce']} is above {_MAX_NONCE}")
    if number["yParity"] not in (0, 1):
        raise _malformed(f"yParity must be 0 or 1, got {number['yParity']}")
    if number["maxPriorityFeePerGas"] > number["maxFeePerGas"]:
        raise _malformed("maxPriorityFeePerGas is above maxFeePerGas: no node takes it")
    return _Transaction(
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
        unsigned=members[:-_SIGNATURE_FIELDS],
    )


def _check_member(name: str, length: int, member: object) -> None:
    if name == "accessList":
        if member != []:
            raise _malformed("accessList must be empty: no call of ours gains by one")
        return
    if not isinstance(member, bytes):
        raise _malformed(f"{name} must be a string of bytes, got a list")
    if name == "to" and len(member) not in (0, length):
        raise _malformed(f"to must have 0 or {length} bytes, got {len(member)}")
    if len(member) > length:
        raise _malformed(f"{name} has at most {length} bytes, got {len(member)}")
    if name not in _PLAIN and member[:1] == b"\0":
        raise _malformed(f"{name} starts with a zero byte")


def _check_caps(found: _Transaction, limits: Limits) -> None:
    if found.gas > limits.max_gas:
        raise Refusal(422, Code.GAS_ABOVE_CAP, f"gas {found.gas} is above {limits.max_gas}")
    cost_wei = found.gas * found.fee_cap_wei
    if cost_wei > limits.max_fee_wei:
        raise Refusal(422, Code.FEE_ABOVE_CAP, f"gas may cost {cost_wei} wei, above {limits.max_fee_wei}")
    if found.value_wei > limits.max_value_wei:
        raise Refusal(422, Code.VALUE_ABOVE_CAP, f"sends {found.value_wei} wei, above {limits.max_value_wei}")


def _call(data: bytes) -> Call:
    try:
        return decode_call(data)
    except UnknownCall as error:
        raise Refusal(422, Code.UNKNOWN_CALL, str(error)) from error
    except (MalformedCalldata, MalformedTerms) as error:
        raise _malformed(str(error)) from error


def _check_call(call: Call, *, target: str, token: str, escrow: str, value_wei: int) -> None:
    name = function_name(call)
    if isinstance(call, _OWNER_CALLS):
        raise Refusal(
            422,
            Code.UNKNOWN_CALL,
            f"{name} is for the contracts' owner, who sends it to a node: it is not relayed",
        )
    if not isinstance(call, _TOKEN_CALLS + _ESCROW_CALLS):
        raise Refusal(422, Code.UNKNOWN_CALL, f"no device has to send {name}: send it to a node, it is not relayed")
    expected, called = (token, "token") if isinstance(call, _TOKEN_CALLS) else (escrow, "escrow")
    if target != expected:
        raise Refusal(422, Code.UNKNOWN_CALL, f"{name} is a function of the {called} {expected}, not of {target}")
    if isinstance(call, Approve) and call.spender != escrow:
        raise Refusal(422, Code.UNKNOWN_CALL, f"approve is relayed for the escrow {escrow} only, not {call.spender}")
    if value_wei and not isinstance(call, Buy):
        raise Refusal(422, Code.VALUE_ABOVE_CAP, f"sends {value_wei} wei, but {name} takes none")


def _sender(found: _Transaction) -> str:
    if not 0 < found.r < _ORDER or not 0 < found.s <= _ORDER // 2:
        raise Refusal(400, Code.BAD_SIGNATURE, "r or s is out of range; s must be in the lower half (EIP-2)")
    try:
        signature = Signature(vrs=(found.y_parity, found.r, found.s))
        return str(signature.recover_public_key_from_msg_hash(found.signed_hash).to_checksum_address())
    except BadSignature as error:
        raise Refusal(400, Code.BAD_SIGNATURE, "no account can be recovered from the signature") from error


def _malformed(why: str) -> Refusal:
    return Refusal(400, Code.MALFORMED_TRANSACTION, why)
