"""What the store hands out and takes: plain values of the gateway's tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.calls import Call
from gateway.submission import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One accepted transaction and what became of it."""

    id: str
    sender: str
    nonce: int
    function: str
    raw: bytes
    state: State
    sent_at_s: float | None
    attempts: int
    block: int | None
    succeeded: bool | None
    gas: int | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One accepted operation and what became of it.

    Attributes:
        number: its place in the order in which operations came.
        id: Keccak-256 of the calldata.
        function: the called function's Solidity name.
        call: what it says.
        encounter: the encounter it is about.
        account: who signed it.
        accepted_at_s: when it came, Unix seconds.
        batch: id of the submission that carries it, None while it waits.
        place: which call of that batch carries it.
        note: why it was not done the last time it was tried.
        over: whether it can do nothing any more.
        carried: state of that submission.
    """

    number: int
    id: str
    function: str
    call: Call
    encounter: str | None
    account: str | None
    accepted_at_s: float
    batch: str | None
    place: int | None
    note: str | None
    over: bool
    carried: State | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block the index has consumed."""

    number: int
    hash: str
    time_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A submission seen in a block."""

    id: str
    succeeded: bool
    gas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """A contract event to be stored; fields as in `EventRow`."""

    transaction: str
    place: int = 0
    function: str
    gas: int
    name: str
    encounter: str | None
    account: str | None
    args: dict[str, Any]
