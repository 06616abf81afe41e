"""Which raw transactions this gateway takes: pure checks of signed bytes, before anything is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.calls import Call, function_name
from contracts.calls import decode as decode_call
from contracts.errors import MalformedCalldata, MalformedTerms, UnknownCall
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from eth_hash.auto import keccak
from eth_utils import to_checksum_address

from gateway.config import Limits
from gateway.errors import Code, Refusal

_DYNAMIC_FEE_TYPE = 2
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_MAX_RAW_BYTES = 8192


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


def check(raw: bytes, *, chain_id: int, targets: frozenset[str], limits: Limits) -> CheckedTransaction:
    """Check a raw transaction from anywhere. Raises `Refusal` (400 or 422) with a stable code."""
    fields = _fields(raw)
    if fields["chainId"] != chain_id:
        raise Refusal(422, Code.WRONG_CHAIN, f"signed for chain {fields['chainId']}; this gateway serves {chain_id}")
    target = to_checksum_address(fields["to"]) if len(fields["to"]) == 20 else "contract creation"
    if target not in targets:
        raise Refusal(422, Code.FOREIGN_TARGET, f"to {target}; allowed are {', '.join(sorted(targets))}")
    gas, fee_cap, value = fields["gas"], fields["maxFeePerGas"], fields["value"]
    if gas > limits.max_gas:
        raise Refusal(422, Code.GAS_ABOVE_CAP, f"gas {gas} is above {limits.max_gas}")
    if gas * fee_cap > limits.max_fee_wei:
        raise Refusal(422, Code.FEE_ABOVE_CAP, f"may cost {gas * fee_cap} wei, above {limits.max_fee_wei}")
    if value > limits.max_value_wei:
        raise Refusal(422, Code.VALUE_ABOVE_CAP, f"sends {value} wei, above {limits.max_value_wei}")
    if not 0 < fields["s"] <= _HALF_ORDER:
        raise Refusal(400, Code.BAD_SIGNATURE, "the signature's s is in the upper half of its range")
    try:
        call = decode_call(bytes(fields["data"]))
    except UnknownCall as error:
        raise Refusal(422, Code.UNKNOWN_CALL, str(error)) from error
    except (MalformedCalldata, MalformedTerms) as error:
        raise Refusal(400, Code.MALFORMED_TRANSACTION, str(error)) from error
    try:
        sender = Account.recover_transaction(raw)
    except Exception as error:  # any library's complaint about foreign bytes
        raise Refusal(400, Code.BAD_SIGNATURE, "no account can be recovered from the signature") from error
    return CheckedTransaction(
        digest=keccak(raw), raw=raw, sender=sender, nonce=fields["nonce"], target=target, call=call
    )


def _fields(raw: bytes) -> Mapping[str, int | bytes]:  # type: ignore[misc]
    if not raw or len(raw) > _MAX_RAW_BYTES:
        raise Refusal(400, Code.MALFORMED_TRANSACTION, f"a raw transaction has 1 to {_MAX_RAW_BYTES} bytes")
    if raw[0] != _DYNAMIC_FEE_TYPE:
        raise Refusal(400, Code.MALFORMED_TRANSACTION, "only EIP-1559 transactions (type 2) are taken")
    try:
        return TypedTransaction.from_bytes(raw).as_dict()
    except Exception as error:  # any library's complaint about foreign bytes
        raise Refusal(400, Code.MALFORMED_TRANSACTION, "not a well-formed EIP-1559 transaction") from error
