# ruff: noqa: RUF009  (`_indexed` and `_data` make fields, not defaults)
"""What the contracts say happened: one frozen dataclass per event.

Amounts are token base units, times are Unix seconds, encounters are 32-byte ids. Fields are in the order
of the ABI.
"""

from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final

from eth_hash.auto import keccak

from contracts import panel
from contracts.addresses import checksum_address
from contracts.encoding import WORD, abi_decode
from contracts.errors import MalformedLog
from contracts.settlement import ParameterSet
from contracts.states import EncounterState, VoteReason


def _indexed(solidity: str) -> Any:
    return field(metadata={"type": solidity, "indexed": True})


def _data(solidity: str) -> Any:
    return field(metadata={"type": solidity, "indexed": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class Staked:
    """Tokens entered the escrow; ``free`` is the account's free balance afterwards."""

    account: str = _indexed("address")
    amount: int = _data("uint96")
    free: int = _data("uint96")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbonding:
    """Free tokens began to unbond; ``total`` unbonds now, all of it released at ``release_at``."""

    account: str = _indexed("address")
    amount: int = _data("uint96")
    total: int = _data("uint96")
    release_at: int = _data("uint40")


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """Unbonded tokens left the escrow."""

    account: str = _indexed("address")
    amount: int = _data("uint96")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorRegistered:
    """A validator took a seat (numbered from 1), or took its old one again."""

    validator: str = _indexed("address")
    seat: int = _data("uint24")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorLeft:
    """A validator will leave; it is still drawn for one unbonding period."""

    validator: str = _indexed("address")
    seat: int = _data("uint24")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatVacated:
    """A seat is empty for good: its holder left, or lost its stake."""

    validator: str = _indexed("address")
    seat: int = _data("uint24")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A call of a batch was not done; `contracts.errors.decode_revert` reads the reason."""

    index: int = _indexed("uint256")
    reason: bytes = _data("bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedIn:
    """The first side locked its amount."""

    encounter: bytes = _indexed("bytes32")
    by: str = _indexed("address")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Both sides are in: learning may start."""

    encounter: bytes = _indexed("bytes32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One side reported the digest of the updated model, and the other has not yet."""

    encounter: bytes = _indexed("bytes32")
    by: str = _indexed("address")
    updated: bytes = _data("bytes32")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportVoided:
    """The Learner's earlier report is void: the Neighbor reported another digest."""

    encounter: bytes = _indexed("bytes32")
    updated: bytes = _data("bytes32")


@dataclass(frozen=True, slots=True, kw_only=True)
class VotingStarted:
    """Votes are taken until ``vote_by``; ``panel`` holds seats by position, the first V vote at once."""

    encounter: bytes = _indexed("bytes32")
    updated: bytes = _data("bytes32")
    panel: tuple[int, ...] = _data("uint192")
    vote_by: int = _data("uint40")


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteCast:
    """A validator voted."""

    encounter: bytes = _indexed("bytes32")
    voter: str = _indexed("address")
    valid: bool = _data("bool")
    reason: VoteReason = _data("uint8")


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteSealed:
    """A validator sealed its vote."""

    encounter: bytes = _indexed("bytes32")
    voter: str = _indexed("address")
    commitment: bytes = _data("bytes32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """An encounter was paid; `contracts.settlement.settle` tells each amount."""

    encounter: bytes = _indexed("bytes32")
    yes: int = _data("uint8")
    no: int = _data("uint8")
    burned: int = _data("uint96")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """An encounter ended before voting and all locks returned; ``state`` is the one it left."""

    encounter: bytes = _indexed("bytes32")
    state: EncounterState = _data("uint8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSetAdded:
    """A parameter set can be named from now on."""

    number: int = _indexed("uint16")
    parameters: ParameterSet = _data("(uint8,uint16,uint16,uint16,uint32,uint32,bool,bool)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSetRetired:
    """A parameter set takes no new encounters any more."""

    number: int = _indexed("uint16")


@dataclass(frozen=True, slots=True, kw_only=True)
class FinesBurned:
    """Collected fines were destroyed at the token."""

    amount: int = _data("uint256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """Native coin became tokens (iDML step 0)."""

    buyer: str = _indexed("address")
    value_wei: int = _data("uint256")
    amount: int = _data("uint256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """Tokens became native coin."""

    seller: str = _indexed("address")
    amount: int = _data("uint256")
    value_wei: int = _data("uint256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """ERC-20: tokens moved."""

    sender: str = _indexed("address")
    to: str = _indexed("address")
    amount: int = _data("uint256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """ERC-20: a spender may move tokens."""

    owner: str = _indexed("address")
    spender: str = _indexed("address")
    amount: int = _data("uint256")


Event = (
    Staked
    | Unbonding
    | Withdrawn
    | ValidatorRegistered
    | ValidatorLeft
    | SeatVacated
    | Skipped
    | CheckedIn
    | Opened
    | Reported
    | ReportVoided
    | VotingStarted
    | VoteCast
    | VoteSealed
    | Settled
    | Expired
    | ParameterSetAdded
    | ParameterSetRetired
    | FinesBurned
    | Bought
    | Sold
    | Transfer
    | Approval
)
"""Every event of ours."""

KINDS: Final[tuple[type[Event], ...]] = Event.__args__
"""The classes of all events."""


def signature(kind: type[Event]) -> str:
    """The canonical Solidity signature of an event, for example ``Withdrawn(address,uint96)``."""
    return f"{kind.__name__}({','.join(one.metadata['type'] for one in fields(kind))})"


TOPICS: Final[dict[type[Event], bytes]] = {kind: keccak(signature(kind).encode()) for kind in KINDS}
"""The first topic of each event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """An event's class, and its fields in the order of the ABI: those in topics of their own, and the others."""

    kind: type[Event]
    indexed: "tuple[Field[Any], ...]"
    plain: "tuple[Field[Any], ...]"
    indexed_types: tuple[str, ...]
    plain_types: tuple[str, ...]


def _shape(kind: type[Event]) -> _Shape:
    indexed = tuple(one for one in fields(kind) if one.metadata["indexed"])
    plain = tuple(one for one in fields(kind) if not one.metadata["indexed"])
    return _Shape(
        kind=kind,
        indexed=indexed,
        plain=plain,
        indexed_types=tuple(one.metadata["type"] for one in indexed),
        plain_types=tuple(one.metadata["type"] for one in plain),
    )


_BY_TOPIC: Final[dict[bytes, _Shape]] = {topic: _shape(kind) for kind, topic in TOPICS.items()}


def decode(topics: Sequence[bytes], data: bytes) -> Event | None:
    """Read one log; None when it is no event of ours.

    Raises `MalformedLog` when the first topic is ours but the rest does not fit it.
    """
    shape = _BY_TOPIC.get(bytes(topics[0])) if topics else None
    if shape is None:
        return None
    name = shape.kind.__name__
    if len(topics) != 1 + len(shape.indexed):
        raise MalformedLog(f"{name} has {1 + len(shape.indexed)} topics, got {len(topics)}")
    if any(len(topic) != WORD for topic in topics):
        raise MalformedLog(f"{name}: a topic has {WORD} bytes")
    try:
        decoded = (*abi_decode(shape.indexed_types, b"".join(topics[1:])), *abi_decode(shape.plain_types, bytes(data)))
        values = {
            one.name: _value(one, value) for one, value in zip((*shape.indexed, *shape.plain), decoded, strict=True)
        }
        return shape.kind(**values)
    except ValueError as error:
        raise MalformedLog(f"{name}: {error}") from error


def _value(one: "Field[Any]", value: Any) -> Any:
    """A decoded ABI value as the type its field declares."""
    if one.metadata["type"] == "address":
        return checksum_address(value)
    if one.type is VoteReason:
        return VoteReason(value)
    if one.type is EncounterState:
        return EncounterState(value)
    if one.type is ParameterSet:
        return ParameterSet(**{each.name: item for each, item in zip(fields(ParameterSet), value, strict=True)})
    if one.metadata["type"] == "uint192":
        return panel.unpack(value)
    return value
