"""One device's parts around fakes of link and gateway, for the tests of the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent_values import SEATS, WORKING

from contracts import signing
from contracts.identity import Fees, Identity
from contracts.settlement import DEFAULT_PARAMETERS
from contracts.states import EncounterState
from contracts.terms import encounter_id
from device_agent.acquaintances import Acquaintances
from device_agent.conversation import Conversation
from device_agent.effects import Effects
from device_agent.encounter import ChainView, Encounter
from device_agent.encounters import Encounters
from device_agent.gateway import AccountFacts, ChainFacts, Job
from device_agent.journal import Journal
from device_agent.last_view import LastView
from device_agent.learning import Assessor, Model
from device_agent.learning.weights import SnapshotsHere
from device_agent.own_model import OwnModel
from device_agent.pace import Pace
from device_agent.settings import Door, Settings
from device_agent.transport import Request, Response
from models.registry import Architecture, TensorSpec

ESCROW, TOKEN = "0x" + "e" * 40, "0x" + "d" * 40
NOW_S = 900
SETTINGS = Settings(reward=10**18, tolerance_bps=200, parameter_set=0, stake=10**19, door=Door.DIRECT)
BATCHED = replace(SETTINGS, door=Door.BATCHED)
ARCHITECTURE = Architecture(
    name="tiny",
    family="tiny",
    input_shape=(1, 2, 2),
    classes=10,
    tensors=(TensorSpec(name="w", shape=(2,)),),
    graph=Path("tiny.onnx"),
    digest=b"\xa1" * 32,
)
FACTS = ChainFacts(
    chain_id=1337,
    escrow=ESCROW,
    token=TOKEN,
    chain_time_s=NOW_S,
    min_stake=10**18,
    seat_count=SEATS,
    tokens_per_wei=1,
    fees=Fees(tip_wei=1, max_fee_wei=100),
    parameter_sets={0: DEFAULT_PARAMETERS},
)


def account(**changes: Any) -> AccountFacts:
    values = {
        "next_nonce": 0,
        "native_wei": 10**20,
        "tokens": 0,
        "permit_nonce": 0,
        "free": 10**19,
        "locked": 0,
        "seat": 1,
    }
    return AccountFacts(**(values | {"active": True} | changes))


def chain_view(state: EncounterState, **changes: Any) -> ChainView:
    values: dict[str, Any] = {"salts": None, "updated": None, "panel": (), "yes": 0, "no": 0, "vote_by": None}
    values["chain_time_s"] = NOW_S
    return ChainView(state=state, **(values | changes))


@dataclass
class FakeGateway:
    """Answers what it is set to; an exception as an answer is raised. A list is answered from the front."""

    facts: ChainFacts = FACTS
    accounts: dict[str, AccountFacts] = field(default_factory=dict)
    submits: list[Exception | None] = field(default_factory=list)
    submitted: list[bytes] = field(default_factory=list)
    relayed: list[bytes] = field(default_factory=list)
    views: list[ChainView] = field(default_factory=list)
    models: dict[bytes, Any] = field(default_factory=dict)
    votes: tuple[list[Job], int] = ([], NOW_S)
    first_nonce: int = 0
    nonce: int | None = None
    away: bool = False

    async def chain(self) -> ChainFacts:
        await asyncio.sleep(0)
        return self.facts

    async def account(self, address: str) -> AccountFacts:
        await asyncio.sleep(0)
        known = self.first_nonce + len(set(self.submitted)) if self.nonce is None else self.nonce
        return replace(self.accounts.get(address) or account(), next_nonce=known)

    async def submit(self, raw: bytes) -> str:
        await asyncio.sleep(0)
        fault = self.submits.pop(0) if self.submits else None
        if fault is not None:
            raise fault
        self.submitted.append(raw)
        return "id"

    async def relay(self, call: bytes) -> str:
        await asyncio.sleep(0)
        fault = self.submits.pop(0) if self.submits else None
        if fault is not None:
            raise fault
        self.relayed.append(call)
        return "id"

    async def encounter(self, _name: bytes) -> ChainView:
        return self.views.pop(0) if len(self.views) > 1 else self.views[0]

    async def put_model(self, digest: bytes, data: bytes) -> None:
        self.models[digest] = data

    async def get_model(self, digest: bytes, *, max_bytes: int) -> bytes | None:
        found = self.models.get(digest)
        if isinstance(found, Exception):
            raise found
        return found

    async def jobs(self, _validator: str, *, wait_s: int) -> tuple[list[Job], int]:
        return self.votes


@dataclass
class FakeLink:
    """Keeps what is sent; `fault` is raised instead. Fetches give `data`."""

    sent: list[bytes] = field(default_factory=list)
    fault: Exception | None = None
    data: bytes = b""
    accounts: dict[str, str] = field(default_factory=dict)

    def attach(self, _deliver: object, _serve: object, _greeted: object) -> None:
        return None

    def account(self, peer: str) -> str | None:
        return self.accounts.get(peer)

    async def send(self, _peer: str, message: bytes) -> None:
        await asyncio.sleep(0)
        if self.fault:
            raise self.fault
        self.sent.append(message)

    async def fetch(self, _peer: str, _digest: bytes, *, max_bytes: int) -> bytes:
        if self.fault:
            raise self.fault
        return self.data


@dataclass(frozen=True)
class FakeTransport:
    """The way to a gateway that answers everything alike."""

    response: Response

    async def ask(self, request: Request, *, silence_s: float, max_bytes: int) -> Response:
        return self.response

    async def close(self) -> None:
        return None


class FakeAdapter:
    """Makes one fixed model; `fault` is raised instead."""

    label = "oppcl"

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.makes = Model(data=b"made", digest=b"m" * 32, age=(1 << 48) + 5)

    async def contribute(self, _previous: Model, _own: Model) -> Model:
        if self.fault:
            raise self.fault
        return self.makes

    async def adopt(self, _updated: Model) -> Model:
        return self.makes


class StillClock:
    """Stands still until told otherwise."""

    now_s = 5.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s


class Party:
    """One side: journal, encounters, effects and conversation, wired as the agent wires them."""

    def __init__(self, journal: Journal, identity: Identity = WORKING, assessor: Assessor | None = None) -> None:
        self.journal = journal
        self.link, self.gateway, self.adapter = FakeLink(), FakeGateway(), FakeAdapter()
        self.clock = StillClock()
        self.told: list[tuple[str, dict[str, object]]] = []
        self.own = OwnModel(journal, Model(data=b"own", digest=b"\xb2" * 32, age=3))
        self.acquaintances = Acquaintances(journal, self.clock.wall_s, avoid_below=SETTINGS.avoid_below)
        self.encounters = Encounters(journal, self.acquaintances, self.observe)
        self.considered: list[object] = []
        self.declined: list[object] = []
        self.reminded: list[Encounter] = []
        self.conversation = Conversation(
            encounters=self.encounters,
            own=self.own,
            consider=lambda *what: self.considered.append(what),
            declined=lambda *what: self.declined.append(what),
            account=self.link.account,
            again=self.reminded.append,
            signer=lambda terms, signature: signing.signer(encounter_id(terms, FACTS.domain), signature),
            observe=self.observe,
        )
        self.view = LastView(self.gateway, journal, self.clock)  # type: ignore[arg-type]
        self.effects = Effects(
            encounters=self.encounters,
            link=self.link,
            gateway=self.gateway,  # type: ignore[arg-type]
            view=self.view,
            adapter=self.adapter,
            assessor=assessor,
            snapshots=SnapshotsHere(ARCHITECTURE),
            own=self.own,
            settings=SETTINGS,
            identity=identity,
            computing=asyncio.Lock(),
            clock=self.clock,
            pace=Pace(SETTINGS.expected_encounter_s),
            observe=self.observe,
        )

    def observe(self, name: str, **fields: object) -> None:
        self.told.append((name, fields))

    def reasons(self, name: str) -> list[object]:
        return [fields.get("reason") for told, fields in self.told if told == name]

    def live(self, *plays: Callable[[], object]) -> None:
        """Start, play each in turn, and let everything due be performed after each."""

        async def main() -> None:
            async with asyncio.TaskGroup() as tasks:
                self.encounters.start(tasks, self.effects.perform)
                for play in plays:
                    play()
                    for _ in range(50):
                        await asyncio.sleep(0)

        asyncio.run(main())
