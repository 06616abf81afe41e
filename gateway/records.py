"""What the store hands out and takes: plain values of the gateway's tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.calls import Call
from contracts.identity import Fees
from gateway.answers import Outcome
from gateway.submission import State
from gateway.transaction import MAX_BATCH_BYTES, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One signed transaction that would do what a submission is to do.

    Attributes:
        hash: of the transaction, 0x-prefixed.
        raw: the signed bytes.
        sent_at_s: when a node was last handed it, or last seen to have it, Unix seconds; None = it is due.
        sends: how often it was handed over.
    """

    hash: str
    raw: bytes
    sent_at_s: float | None
    sends: int

    @property
    def fees(self) -> Fees:
        """What it offers for gas."""
        return read(self.raw, most_bytes=MAX_BATCH_BYTES).fees


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One accepted transaction and what became of it: one effect under one nonce, under one hash or several.

    Attributes:
        id: hash of its first attempt.
        sender: whose nonce it takes.
        nonce: of the sender's account.
        function: the called function's Solidity name, "" if it calls none.
        state: where it stands.
        attempts: oldest first; all are watched, the newest is sent.
        said: what the node last found wrong with it, None while that is nothing.
        mined: hash of the attempt that a block holds.
        block: that block's number.
        succeeded: whether it was not reverted there.
        gas: used there.
        note: what else there is to say about it.
    """

    id: str
    sender: str
    nonce: int
    function: str
    state: State
    attempts: tuple[Attempt, ...]
    said: Outcome | None
    mined: str | None
    block: int | None
    succeeded: bool | None
    gas: int | None
    note: str | None

    @property
    def newest(self) -> Attempt:
        """The attempt to send."""
        return self.attempts[-1]

    @property
    def sends(self) -> int:
        """How often a node was handed any of its attempts."""
        return sum(one.sends for one in self.attempts)


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
        mined: the transaction that carried it into a block.
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
    mined: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block the index has consumed."""

    number: int
    hash: str
    time_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A transaction seen in a block; `why` it was reverted, if it was."""

    hash: str
    succeeded: bool
    gas: int
    why: str | None = None


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
