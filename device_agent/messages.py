"""What two devices say to each other, as JSON. Bytes from a peer are hostile until `parse` has taken them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from contracts.errors import MalformedTerms
from contracts.terms import Terms, both_salts
from device_agent.errors import PeerFault, first_fault

MAX_MESSAGE_BYTES = 4096

Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
Label = Annotated[str, Field(pattern=r"^[ -~]{1,31}$")]


class Refusal(StrEnum):
    """Why a peer declines a proposal."""

    BUSY = "busy"
    ARCHITECTURE = "unknown architecture"
    ALGORITHM = "other algorithm"
    TERMS = "unacceptable terms"
    STAKE = "not enough stake"
    CONTACT = "contact too short"
    UNFIT = "not fit for work now"
    AWAY = "no gateway in reach: only on credit"
    CREDIT = "no credit"
    AVOIDED = "bad memories"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Propose(_Message):
    """Learner to Neighbor: the terms but for the Neighbor's part. Amounts in token base units, times in Unix s.

    `commitment` is the Learner's, and names the encounter. `credit`: both sides sign before anything is on chain, and
    go on without it; the deadlines are so far ahead that either of them gets to a gateway in time.
    """

    kind: Literal["propose"] = "propose"
    learner: Address
    algorithm: Label
    architecture: Hex32
    previous: Hex32
    size_bytes: int = Field(ge=1, le=1 << 30)
    age: int = Field(ge=0, lt=1 << 48)
    reward: int = Field(ge=1, lt=1 << 96)
    tolerance_bps: int = Field(ge=0, le=10_000)
    parameter_set: int = Field(ge=0, lt=1 << 16)
    open_by: int = Field(ge=0, lt=1 << 40)
    report_by: int = Field(ge=0, lt=1 << 40)
    seats: int = Field(ge=0, lt=1 << 24)
    nonce: int = Field(ge=0, lt=1 << 32)
    commitment: Hex32
    credit: bool = False

    def terms(self, *, neighbor: str, commitment: bytes) -> Terms:
        """Complete the terms with the Neighbor's part. Raises `PeerFault` if they make no sense together."""
        try:
            return Terms(
                learner=self.learner,
                neighbor=neighbor,
                algorithm=self.algorithm.encode().ljust(32, b"\0"),
                architecture=bytes.fromhex(self.architecture),
                previous=bytes.fromhex(self.previous),
                reward=self.reward,
                tolerance_bps=self.tolerance_bps,
                parameter_set=self.parameter_set,
                open_by=self.open_by,
                report_by=self.report_by,
                salts=both_salts(bytes.fromhex(self.commitment), commitment),
                seats=self.seats,
                nonce=self.nonce,
            )
        except MalformedTerms as error:
            raise PeerFault(str(error)) from error


class Accept(_Message):
    """Neighbor to Learner: its part of the terms. `key` is the Learner's commitment, `commitment` the Neighbor's.

    `signature` is the Neighbor's of the terms, with which the Learner opens the encounter; in the direct door none.
    """

    kind: Literal["accept"] = "accept"
    key: Hex32
    neighbor: Address
    commitment: Hex32
    signature: Hex64 | None = None


class Agree(_Message):
    """Learner to Neighbor, on credit: its signature of the terms, with which either side can open the encounter."""

    kind: Literal["agree"] = "agree"
    key: Hex32
    signature: Hex64


class Decline(_Message):
    """Neighbor to Learner: no, and why."""

    kind: Literal["decline"] = "decline"
    key: Hex32
    reason: Refusal


class Offer(_Message):
    """Neighbor to Learner: the work is done; the model is given for the Learner's salt."""

    kind: Literal["offer"] = "offer"
    key: Hex32
    updated: Hex32
    size_bytes: int = Field(ge=1, le=1 << 30)
    age: int = Field(ge=0, lt=1 << 48)


class Reveal(_Message):
    """Either way: the sender's salt. The Learner's pays for the model, the Neighbor's lets it be fetched."""

    kind: Literal["reveal"] = "reveal"
    key: Hex32
    salt: Hex32


Message = Propose | Accept | Agree | Decline | Offer | Reveal

_adapter: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def encode(message: Message) -> bytes:
    """Write a message."""
    return message.model_dump_json().encode()


def parse(data: bytes) -> Message:
    """Read a message from a peer. Raises `PeerFault` for anything `encode` would not have written."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise PeerFault(f"a message of {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are read")
    try:
        return _adapter.validate_json(data)
    except ValidationError as error:
        raise PeerFault(first_fault(error, "message")) from error
