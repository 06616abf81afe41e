"""Calldata of every transaction a device or an operator sends: values in, bytes out, and back.

One frozen dataclass per function. `encode` and `decode` are inverse to each other; the ``encode_*`` functions
are the short way to write one call. No call here carries a signature: the transaction does.
"""

from dataclasses import dataclass, fields
from typing import Any, Final

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from contracts.errors import MalformedCalldata, MalformedTerms, UnknownCall
from contracts.settlement import ParameterSet
from contracts.states import VoteReason
from contracts.terms import TERMS_TYPES, Terms, terms_from_tuple

__all__ = ["Call", "VoteReason", "decode", "encode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckIn:
    """Lock this side's amount; the second side's check-in opens the encounter (iDML step 1)."""

    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Report the digest of the updated model and reveal both salts (iDML step 3)."""

    terms: Terms
    updated: bytes
    learner_salt: bytes
    neighbor_salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseReporting:
    """Start the voting on the Neighbor's report alone, once the Learner's time is over."""

    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """Cast the vote of one panel position (iDML step 5)."""

    encounter: bytes
    updated: bytes
    position: int
    valid: bool
    reason: VoteReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalise:
    """Pay (iDML steps 6 and 7)."""

    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire:
    """Return all locks of an encounter that missed a deadline before voting."""

    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Stake:
    """Move approved tokens into the escrow (token base units)."""

    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbond:
    """Start to withdraw free tokens (token base units)."""

    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Take out what has finished unbonding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterValidator:
    """Take (or take again) a validator seat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveValidator:
    """Stop being drawn; the seat number stays reserved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnFines:
    """Destroy the fines collected so far at the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddParameterSet:
    """Append a parameter set (owner only)."""

    parameters: ParameterSet


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireParameterSet:
    """Allow no new encounters under a parameter set (owner only)."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Buy:
    """Exchange the native coin sent along for tokens (iDML step 0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sell:
    """Exchange tokens back (token base units)."""

    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """Destroy own tokens (token base units)."""

    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """Let a spender move own tokens (token base units)."""

    spender: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Send tokens (token base units)."""

    to: str
    amount: int


Call = (
    CheckIn
    | Report
    | CloseReporting
    | Vote
    | Finalise
    | Expire
    | Stake
    | Unbond
    | Withdraw
    | RegisterValidator
    | LeaveValidator
    | BurnFines
    | AddParameterSet
    | RetireParameterSet
    | Buy
    | Sell
    | Burn
    | Approve
    | Transfer
)
"""Every call of ours."""

_TERMS: Final = "(" + ",".join(TERMS_TYPES) + ")"
_PARAMETERS: Final = "(uint8,uint16,uint16,uint16,uint32,uint32,bool)"

_FUNCTIONS: Final[dict[type[Call], tuple[str, tuple[str, ...]]]] = {
    CheckIn: ("checkIn", (_TERMS,)),
    Report: ("report", (_TERMS, "bytes32", "bytes32", "bytes32")),
    CloseReporting: ("closeReporting", (_TERMS,)),
    Vote: ("vote", ("bytes32", "bytes32", "uint8", "bool", "uint8")),
    Finalise: ("finalise", (_TERMS,)),
    Expire: ("expire", (_TERMS,)),
    Stake: ("stake", ("uint96",)),
    Unbond: ("unbond", ("uint96",)),
    Withdraw: ("withdraw", ()),
    RegisterValidator: ("registerValidator", ()),
    LeaveValidator: ("leaveValidator", ()),
    BurnFines: ("burnFines", ()),
    AddParameterSet: ("addParameterSet", (_PARAMETERS,)),
    RetireParameterSet: ("retireParameterSet", ("uint16",)),
    Buy: ("buy", ()),
    Sell: ("sell", ("uint256",)),
    Burn: ("burn", ("uint256",)),
    Approve: ("approve", ("address", "uint256")),
    Transfer: ("transfer", ("address", "uint256")),
}


def signature(kind: type[Call]) -> str:
    """The canonical Solidity signature of a call, for example ``stake(uint96)``."""
    name, types = _FUNCTIONS[kind]
    return f"{name}({','.join(types)})"


def function_name(call: Call) -> str:
    """The Solidity name of a call's function, for logs and metrics."""
    return _FUNCTIONS[type(call)][0]


SELECTORS: Final[dict[type[Call], bytes]] = {kind: keccak(signature(kind).encode())[:4] for kind in _FUNCTIONS}
"""The four bytes every call starts with."""

_KINDS: Final[dict[bytes, type[Call]]] = {selector: kind for kind, selector in SELECTORS.items()}


def encode(call: Call) -> bytes:
    """The calldata of a call. Raises `MalformedCalldata` for a value the ABI cannot hold."""
    types = _FUNCTIONS[type(call)][1]
    values = [_to_abi(getattr(call, field.name)) for field in fields(call)]
    try:
        return SELECTORS[type(call)] + abi_encode(types, values)
    except (EncodingError, ValueError) as error:
        raise MalformedCalldata(f"{function_name(call)}: {error}") from error


def decode(data: bytes) -> Call:
    """Read calldata that came from anywhere.

    Raises `UnknownCall` for a foreign selector, `MalformedTerms` for terms no contract accepts, and
    `MalformedCalldata` for anything that `encode` would not have written, trailing bytes included.
    """
    if len(data) < 4:
        raise MalformedCalldata(f"calldata has at least 4 bytes, got {len(data)}")
    kind = _KINDS.get(bytes(data[:4]))
    if kind is None:
        raise UnknownCall(bytes(data[:4]))
    name, types = _FUNCTIONS[kind]
    try:
        values = abi_decode(types, bytes(data[4:]))
        named = {field.name: _from_abi(field.type, value) for field, value in zip(fields(kind), values, strict=True)}
        call: Call = kind(**named)
    except MalformedTerms:
        raise
    except (DecodingError, ValueError, OverflowError) as error:
        raise MalformedCalldata(f"{name}: {error}") from error
    if encode(call) != bytes(data):
        raise MalformedCalldata(f"{name}: {len(data)} bytes are not its canonical encoding")
    return call


def encode_check_in(terms: Terms) -> bytes:
    """Calldata of `CheckIn`."""
    return encode(CheckIn(terms=terms))


def encode_report(terms: Terms, updated: bytes, learner_salt: bytes, neighbor_salt: bytes) -> bytes:
    """Calldata of `Report`; all three values have 32 bytes."""
    return encode(Report(terms=terms, updated=updated, learner_salt=learner_salt, neighbor_salt=neighbor_salt))


def encode_close_reporting(terms: Terms) -> bytes:
    """Calldata of `CloseReporting`."""
    return encode(CloseReporting(terms=terms))


def encode_vote(encounter: bytes, updated: bytes, position: int, valid: bool, reason: VoteReason) -> bytes:
    """Calldata of `Vote`; ``position`` counts panel seats from 0."""
    return encode(Vote(encounter=encounter, updated=updated, position=position, valid=valid, reason=VoteReason(reason)))


def encode_finalise(terms: Terms) -> bytes:
    """Calldata of `Finalise`."""
    return encode(Finalise(terms=terms))


def encode_expire(terms: Terms) -> bytes:
    """Calldata of `Expire`."""
    return encode(Expire(terms=terms))


def encode_stake(amount: int) -> bytes:
    """Calldata of `Stake` (token base units)."""
    return encode(Stake(amount=amount))


def encode_unbond(amount: int) -> bytes:
    """Calldata of `Unbond` (token base units)."""
    return encode(Unbond(amount=amount))


def encode_withdraw() -> bytes:
    """Calldata of `Withdraw`."""
    return encode(Withdraw())


def encode_register_validator() -> bytes:
    """Calldata of `RegisterValidator`."""
    return encode(RegisterValidator())


def encode_leave_validator() -> bytes:
    """Calldata of `LeaveValidator`."""
    return encode(LeaveValidator())


def encode_burn_fines() -> bytes:
    """Calldata of `BurnFines`."""
    return encode(BurnFines())


def encode_add_parameter_set(parameters: ParameterSet) -> bytes:
    """Calldata of `AddParameterSet`."""
    return encode(AddParameterSet(parameters=parameters))


def encode_retire_parameter_set(number: int) -> bytes:
    """Calldata of `RetireParameterSet`."""
    return encode(RetireParameterSet(number=number))


def encode_buy() -> bytes:
    """Calldata of the token's `Buy`; the transaction's value is the price in wei."""
    return encode(Buy())


def encode_sell(amount: int) -> bytes:
    """Calldata of the token's `Sell` (token base units)."""
    return encode(Sell(amount=amount))


def encode_burn(amount: int) -> bytes:
    """Calldata of the token's `Burn` (token base units)."""
    return encode(Burn(amount=amount))


def encode_approve(spender: str, amount: int) -> bytes:
    """Calldata of the token's `Approve` (token base units)."""
    return encode(Approve(spender=spender, amount=amount))


def encode_transfer(to: str, amount: int) -> bytes:
    """Calldata of the token's `Transfer` (token base units)."""
    return encode(Transfer(to=to, amount=amount))


def _to_abi(value: object) -> object:
    if isinstance(value, Terms):
        return value.as_tuple()
    if isinstance(value, ParameterSet):
        return tuple(getattr(value, field.name) for field in fields(value))
    return value


def _from_abi(kind: Any, value: Any) -> Any:
    """One decoded ABI value as the type its field declares."""
    if kind is Terms:
        return terms_from_tuple(value)
    if kind is ParameterSet:
        return ParameterSet(**{field.name: item for field, item in zip(fields(ParameterSet), value, strict=True)})
    if kind is VoteReason:
        return VoteReason(value)
    if kind is str:
        return to_checksum_address(value)
    return value
