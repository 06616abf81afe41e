"""Which raw transactions this gateway takes: pure checks of signed bytes, before anything is stored.

Only what a device of ours has to send: one call of the escrow or the token, EIP-1559 (type 2), without an
access list, within the caps. All else goes to a node directly: the owner's calls, token calls that only move tokens
about, and the calls of the signed door, which say nothing about who sends them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eth_hash.auto import keccak

from contracts.addresses import checksum_address
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
from gateway.transaction import Transaction, malformed, read, sender

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
        call: what it calls; None for the gateway's own that does nothing but use up a nonce.
    """

    digest: bytes
    raw: bytes
    sender: str
    nonce: int
    target: str
    call: Call | None

    @property
    def id(self) -> str:
        """The transaction's hash, 0x-prefixed."""
        return "0x" + self.digest.hex()

    @property
    def name(self) -> str:
        """The called function's Solidity name, "" for nothing."""
        return "" if self.call is None else function_name(self.call)


def check(
    raw: bytes, *, chain_id: int, token: str, escrow: str, limits: Limits, tip_floor_wei: int = 0
) -> CheckedTransaction:
    """Check a raw transaction from anywhere.

    Args:
        raw: the signed bytes.
        chain_id: the only chain this gateway relays to.
        token: checksum address of the token.
        escrow: checksum address of the escrow.
        limits: caps on gas, fee and value.
        tip_floor_wei: the least tip per gas that any node of the chain takes.

    Raises `Refusal` with a stable code and nothing else: 400 for bytes that are no transaction, 422 for a
    transaction this gateway does not relay.
    """
    found = read(raw)
    if found.chain_id != chain_id:
        raise Refusal(422, Code.WRONG_CHAIN, f"signed for chain {found.chain_id}; this gateway serves {chain_id}")
    if not found.to:
        raise Refusal(422, Code.FOREIGN_TARGET, "it creates a contract; only calls of the iDML contracts are relayed")
    target = checksum_address(found.to)
    if target not in (token, escrow):
        raise Refusal(422, Code.FOREIGN_TARGET, f"to {target}; allowed are the escrow {escrow} and the token {token}")
    _check_caps(found, limits)
    call = _call(found.data)
    _check_call(call, target=target, token=token, escrow=escrow, value_wei=found.value_wei)
    signer = sender(found)
    if found.tip_wei < tip_floor_wei:
        words = (
            f"its tip of {found.tip_wei} wei per gas is below {tip_floor_wei}, the least that this chain's nodes take"
        )
        raise Refusal(422, Code.FEE_BELOW_FLOOR, words)
    return CheckedTransaction(digest=keccak(raw), raw=raw, sender=signer, nonce=found.nonce, target=target, call=call)


def _check_caps(found: Transaction, limits: Limits) -> None:
    if found.gas < found.least_gas:
        raise Refusal(422, Code.GAS_TOO_LOW, f"gas {found.gas} is below {found.least_gas}: no block can take it")
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
        raise malformed(str(error)) from error


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
