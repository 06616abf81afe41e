"""Calldata of every transaction a device or an operator sends: values in, bytes out, and back.

One frozen dataclass per function. `encode` and `decode` are inverse to each other; the ``encode_*`` functions
are the short way to write one call. In the direct door the transaction is signed; ``Open``, ``Settle`` and the
``Signed`` calls carry the signatures of `contracts.signing`, and anyone may send them.
"""

from dataclasses import dataclass, fields
from typing import Any, Final

from eth_hash.auto import keccak

from contracts import panel
from contracts.addresses import checksum_address
from contracts.encoding import abi_decode, abi_encode
from contracts.errors import MalformedCalldata, MalformedTerms, UnknownCall
from contracts.settlement import ParameterSet
from contracts.states import ActionKind, VoteReason
from contracts.terms import TERMS_TYPES, Domain, Terms, encounter_id, terms_from_tuple

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
    learner_salt: bytes
    neighbor_salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """Cast the vote of one panel position (iDML step 5)."""

    encounter: bytes
    updated: bytes
    panel: tuple[int, ...]
    position: int
    valid: bool
    reason: VoteReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalise:
    """Pay (iDML steps 6 and 7)."""

    terms: Terms
    updated: bytes
    panel: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire:
    """Return all locks of an encounter that missed a deadline before voting."""

    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Stake:
    """Move approved tokens into the escrow (token base units)."""

    amount: int
    nonce: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StakeWithPermit:
    """Move tokens into the escrow with an ERC-2612 permit of the same amount (token base units)."""

    amount: int
    nonce: int
    deadline: int
    v: int
    r: bytes
    s: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Hand a permit for the escrow to the token."""

    owner: str
    amount: int
    deadline: int
    v: int
    r: bytes
    s: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbond:
    """Start to withdraw free tokens (token base units)."""

    amount: int
    nonce: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Take out what has finished unbonding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterValidator:
    """Take (or take again) a validator seat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveValidator:
    """Announce leaving: the seat is drawn for one more unbonding period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dismiss:
    """Empty the seat of a validator that announced leaving an unbonding period ago."""

    validator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What an account asks for by signature; anyone may send it in `Act`.

    Attributes:
        account: who signs.
        kind: what is asked for.
        amount: token base units, for stake and unbond.
        nonce: any number this account has not used yet, also not as a Learner.
        deadline: Unix time (s) until when it may be sent.
    """

    account: str
    kind: ActionKind
    amount: int
    nonce: int
    deadline: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Do what an account has signed."""

    action: Action
    r: bytes
    vs: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Both check-ins at once, by signature of the terms."""

    terms: Terms
    learner_r: bytes
    learner_vs: bytes
    neighbor_r: bytes
    neighbor_vs: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSigned:
    """Start the voting on a signed report; ``signatures``: the Learner's (zeros if missing) and the Neighbor's."""

    terms: Terms
    updated: bytes
    learner_salt: bytes
    neighbor_salt: bytes
    signatures: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteSigned:
    """Cast a signed vote."""

    encounter: bytes
    updated: bytes
    panel: tuple[int, ...]
    position: int
    valid: bool
    reason: VoteReason
    r: bytes
    vs: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """Seal a vote, `contracts.signing.seal_commitment`."""

    encounter: bytes
    updated: bytes
    panel: tuple[int, ...]
    position: int
    commitment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SealSigned:
    """Seal a vote by signature."""

    encounter: bytes
    updated: bytes
    panel: tuple[int, ...]
    position: int
    commitment: bytes
    r: bytes
    vs: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealVote:
    """Open a sealed vote."""

    encounter: bytes
    position: int
    voter: str
    valid: bool
    reason: VoteReason
    salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Report, votes and payment in one step; see `contracts.signing.evidence`."""

    terms: Terms
    updated: bytes
    learner_salt: bytes
    neighbor_salt: bytes
    evidence: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Many calls of the escrow in one transaction; one that fails is skipped."""

    calls: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnFines:
    """Destroy the fines collected so far at the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddParameterSet:
    """Append a parameter set (owner only)."""

    number: int
    parameters: ParameterSet


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireParameterSet:
    """Allow no new encounters under a parameter set (owner only)."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Buy:
    """Exchange the native coin sent along for tokens (iDML step 0)."""

    nonce: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sell:
    """Exchange tokens back (token base units)."""

    amount: int
    nonce: int


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
    | Open
    | ReportSigned
    | VoteSigned
    | Seal
    | SealSigned
    | RevealVote
    | Settle
    | Batch
    | Act
    | Stake
    | StakeWithPermit
    | Permit
    | Unbond
    | Withdraw
    | RegisterValidator
    | LeaveValidator
    | Dismiss
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
PARAMETERS: Final = "(uint8,uint16,uint16,uint16,uint32,uint32,bool,bool)"
"""The ABI type of a parameter set."""

_ACTION: Final = "(address,uint8,uint96,uint32,uint40)"

_FUNCTIONS: Final[dict[type[Call], tuple[str, tuple[str, ...]]]] = {
    CheckIn: ("checkIn", (_TERMS,)),
    Report: ("report", (_TERMS, "bytes32", "bytes32", "bytes32")),
    ReportSigned: ("reportSigned", (_TERMS, "bytes32", "bytes32", "bytes32", "bytes")),
    CloseReporting: ("closeReporting", (_TERMS, "bytes32", "bytes32")),
    Vote: ("vote", ("bytes32", "bytes32", "uint192", "uint8", "bool", "uint8")),
    VoteSigned: ("voteSigned", ("bytes32", "bytes32", "uint192", "uint8", "bool", "uint8", "bytes32", "bytes32")),
    Seal: ("seal", ("bytes32", "bytes32", "uint192", "uint8", "bytes32")),
    SealSigned: ("sealSigned", ("bytes32", "bytes32", "uint192", "uint8", "bytes32", "bytes32", "bytes32")),
    RevealVote: ("reveal", ("bytes32", "uint8", "address", "bool", "uint8", "bytes32")),
    Finalise: ("finalise", (_TERMS, "bytes32", "uint192")),
    Expire: ("expire", (_TERMS,)),
    Open: ("openSigned", (_TERMS, "bytes32", "bytes32", "bytes32", "bytes32")),
    Settle: ("settle", (_TERMS, "bytes32", "bytes32", "bytes32", "bytes")),
    Batch: ("batch", ("bytes[]",)),
    Act: ("act", (_ACTION, "bytes32", "bytes32")),
    Stake: ("stake", ("uint96", "uint32")),
    StakeWithPermit: ("stakeWithPermit", ("uint96", "uint32", "uint256", "uint8", "bytes32", "bytes32")),
    Permit: ("permit", ("address", "uint256", "uint256", "uint8", "bytes32", "bytes32")),
    Unbond: ("unbond", ("uint96", "uint32")),
    Withdraw: ("withdraw", ()),
    RegisterValidator: ("registerValidator", ()),
    LeaveValidator: ("leaveValidator", ()),
    Dismiss: ("dismiss", ("address",)),
    BurnFines: ("burnFines", ()),
    AddParameterSet: ("addParameterSet", ("uint16", PARAMETERS)),
    RetireParameterSet: ("retireParameterSet", ("uint16",)),
    Buy: ("buy", ("uint32",)),
    Sell: ("sell", ("uint256", "uint32")),
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


def terms_of(call: Call) -> Terms | None:
    """The terms a call carries, None for one without."""
    terms = getattr(call, "terms", None)
    return terms if isinstance(terms, Terms) else None


def encounter_of(call: Call, domain: Domain) -> bytes | None:
    """The id of the encounter a call is about; None for one that is about an account or the rules."""
    terms = terms_of(call)
    return getattr(call, "encounter", None) if terms is None else encounter_id(terms, domain)


SELECTORS: Final[dict[type[Call], bytes]] = {kind: keccak(signature(kind).encode())[:4] for kind in _FUNCTIONS}
"""The four bytes every call starts with."""

_KINDS: Final[dict[bytes, type[Call]]] = {selector: kind for kind, selector in SELECTORS.items()}


def encode(call: Call) -> bytes:
    """The calldata of a call. Raises `MalformedCalldata` for a value the ABI cannot hold."""
    types = _FUNCTIONS[type(call)][1]
    values = [_to_abi(one.type, getattr(call, one.name)) for one in fields(call)]
    try:
        return SELECTORS[type(call)] + abi_encode(types, values)
    except ValueError as error:
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
        named = {one.name: _from_abi(one.type, value) for one, value in zip(fields(kind), values, strict=True)}
        call: Call = kind(**named)
    except MalformedTerms:
        raise
    except ValueError as error:
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


def encode_close_reporting(terms: Terms, learner_salt: bytes, neighbor_salt: bytes) -> bytes:
    """Calldata of `CloseReporting`."""
    return encode(CloseReporting(terms=terms, learner_salt=learner_salt, neighbor_salt=neighbor_salt))


def encode_finalise(terms: Terms, updated: bytes, seats: tuple[int, ...]) -> bytes:
    """Calldata of `Finalise`; the panel as `contracts.events.VotingStarted` gave it."""
    return encode(Finalise(terms=terms, updated=updated, panel=seats))


def encode_expire(terms: Terms) -> bytes:
    """Calldata of `Expire`."""
    return encode(Expire(terms=terms))


def encode_stake(amount: int, nonce: int = 0) -> bytes:
    """Calldata of `Stake` (token base units)."""
    return encode(Stake(amount=amount, nonce=nonce))


def encode_unbond(amount: int, nonce: int) -> bytes:
    """Calldata of `Unbond` (token base units)."""
    return encode(Unbond(amount=amount, nonce=nonce))


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


def encode_add_parameter_set(number: int, parameters: ParameterSet) -> bytes:
    """Calldata of `AddParameterSet`; ``number`` is how many sets there are."""
    return encode(AddParameterSet(number=number, parameters=parameters))


def encode_retire_parameter_set(number: int) -> bytes:
    """Calldata of `RetireParameterSet`."""
    return encode(RetireParameterSet(number=number))


def encode_buy(nonce: int = 0) -> bytes:
    """Calldata of the token's `Buy`; the transaction's value is the price in wei."""
    return encode(Buy(nonce=nonce))


def encode_sell(amount: int, nonce: int) -> bytes:
    """Calldata of the token's `Sell` (token base units)."""
    return encode(Sell(amount=amount, nonce=nonce))


def encode_burn(amount: int) -> bytes:
    """Calldata of the token's `Burn` (token base units)."""
    return encode(Burn(amount=amount))


def encode_approve(spender: str, amount: int) -> bytes:
    """Calldata of the token's `Approve` (token base units)."""
    return encode(Approve(spender=spender, amount=amount))


def encode_transfer(to: str, amount: int) -> bytes:
    """Calldata of the token's `Transfer` (token base units)."""
    return encode(Transfer(to=to, amount=amount))


def _to_abi(kind: Any, value: Any) -> object:
    if isinstance(value, Terms):
        return value.as_tuple()
    if isinstance(value, ParameterSet | Action):
        return tuple(getattr(value, one.name) for one in fields(value))
    if kind == tuple[int, ...]:
        return panel.pack(value)
    return value


def _from_abi(kind: Any, value: Any) -> Any:
    """One decoded ABI value as the type its field declares."""
    if kind is Terms:
        return terms_from_tuple(value)
    if kind in (ParameterSet, Action):
        return kind(**{one.name: _from_abi(one.type, item) for one, item in zip(fields(kind), value, strict=True)})
    if kind in (VoteReason, ActionKind):
        return kind(value)
    if kind is str:
        return checksum_address(value)
    if kind == tuple[int, ...]:
        return panel.unpack(value)
    return value
