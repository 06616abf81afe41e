"""Runs a scenario: puts the world together, lets it live, and hands over what was seen.

Read `simulate` from top to bottom: chain and contracts, gateway, children that compute, devices, then time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from eth_hash.auto import keccak

from contracts.chain import PROFILES
from contracts.deploy import Deployment, EscrowSettings, deploy_local, reader
from contracts.localchain import LocalChain, open_chain
from contracts.settlement import ParameterSet
from device_agent.agent import Agent
from device_agent.errors import ConfigError, WorkerDied
from device_agent.gateway import GatewayClient
from device_agent.health import Vitals
from device_agent.identity import Identity
from device_agent.journal import Journal
from device_agent.learning import Adapter, Model
from device_agent.learning.gossip import Gossip
from device_agent.learning.local import LocalAssessor, LocalTrainer, TrainingRates
from device_agent.learning.oppcl import OppCL
from device_agent.learning.worker import Child, FreshTask, Kind, LocalData, Trained
from device_agent.loopback.bank import Balance, Bank, Books
from device_agent.loopback.clock import VirtualClock, VirtualLoop
from device_agent.loopback.contacts import Contact, random_contacts, trace_contacts
from device_agent.loopback.recorder import EventLog, Referee
from device_agent.loopback.scenario import TOKEN, Scenario
from device_agent.loopback.world import Air, InProcessTransport, World, wait_virtually
from device_agent.radio import PeerId
from device_agent.settings import Settings
from gateway.app import create_app
from gateway.config import Limits
from gateway.node import Node
from gateway.shelf import Shelf
from gateway.store import Store
from gateway.worker import Worker
from models.data import Dataset, load
from models.partition import dirichlet, iid, label_shards
from models.registry import Architecture, architecture

GENESIS_TIME_S = 1_767_225_600
"""2026-01-01 00:00 UTC, when every simulated world begins."""

_SETUP_S = 1_000
_HEARTBEAT_S = 30.0
_SAMPLE_S = 60.0
_NATIVE_WEI = 10**20
_DRAIN_S = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One simulated device."""

    name: PeerId
    honest: bool
    agent: Agent
    journal: Journal


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a run has shown so far; complete once `finished`.

    Attributes:
        chain_kind: of the chain it ran on.
        chain_id: its id.
        honest: device name -> whether it is honest.
        addresses: device name -> account.
        started_models: device name -> digest of its model before the first encounter.
        models: device name -> digest of its model now.
        adopted: (virtual s, device, digest) for every model a device moved on to, in order.
        feed: the gateway's events, in order.
        previous: encounter id -> digest of the Learner's model before it.
        min_stake: below it an account can take no role (token base units).
        samples: (block, chain time s, account -> balance) over time.
        books: the token books at the end.
        referee: accuracies on the full test set.
        log: the agents' events.
        finished: whether the run came to its own end.
        virtual_s: virtual time that passed.
        wall_s: real time that passed.
    """

    chain_kind: str
    chain_id: int
    honest: dict[str, bool]
    addresses: dict[str, str]
    referee: Referee
    log: EventLog
    min_stake: int
    previous: dict[str, bytes] = field(default_factory=dict)
    started_models: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, bytes] = field(default_factory=dict)
    adopted: list[tuple[float, str, bytes]] = field(default_factory=list)
    feed: list[dict[str, Any]] = field(default_factory=list)
    samples: list[tuple[int, int, dict[str, Balance]]] = field(default_factory=list)
    books: Books | None = None
    finished: bool = False
    virtual_s: float = 0.0
    wall_s: float = 0.0

    def count(self, name: str) -> int:
        """Return how many contract events of one name there were."""
        return sum(one["name"] == name for one in self.feed)


Progress = Callable[[Seen], None]
"""Told now and then how far a run is."""


@contextlib.contextmanager
def simulate(
    scenario: Scenario, out: Path, *, chain_kind: str | None = None, data_root: Path | None = None, progress: Progress
) -> Iterator[Seen]:
    """Run a scenario and yield what was seen; on leaving, everything that was started is ended.

    Ctrl-C ends the run early: what was seen so far is yielded with `finished` false. Raises what the parts raise
    when they cannot start: `ChainUnreachable`, `ToolMissing`, `DatasetMissing`, `DatasetCorrupt`, `CodeMismatch`.

    Args:
        scenario: what to simulate.
        out: an existing folder, which gets `events.jsonl` and the devices' and the gateway's files.
        chain_kind: goes before the scenario's own.
        data_root: where datasets lie; None = the usual place.
        progress: called after each block with what was seen so far.
    """
    started_s = time.monotonic()
    dataset = load(scenario.data.dataset, data_root)
    arch = architecture(scenario.learning.architecture, dataset.input_shape, dataset.classes)
    rows = spread(scenario, dataset)
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner(loop_factory=VirtualLoop))
        chain = stack.enter_context(open_chain(chain_kind or scenario.chain.kind, genesis_time_s=GENESIS_TIME_S))
        children = _Children()
        stack.callback(children.close)
        seen = runner.run(_live(scenario, dataset, arch, rows, chain, children, out, data_root, stack, progress))
        seen.wall_s = time.monotonic() - started_s
        seen.log.flush()
        yield seen


class _Children:
    """The processes that compute for all devices."""

    def __init__(self) -> None:
        self.training = Child(Kind.TRAINING)
        self.validation = Child(Kind.VALIDATION)
        self.referee = Child(Kind.VALIDATION)

    def close(self) -> None:
        for child in (self.training, self.validation, self.referee):
            child.close()


async def _live(
    scenario: Scenario,
    dataset: Dataset,
    arch: Architecture,
    rows: list[np.ndarray[Any, np.dtype[np.int64]]],
    chain: LocalChain,
    children: _Children,
    out: Path,
    data_root: Path | None,
    stack: contextlib.ExitStack,
    progress: Progress,
) -> Seen:
    loop = asyncio.get_running_loop()
    clock = VirtualClock(loop, epoch_s=GENESIS_TIME_S + _SETUP_S)
    names = [PeerId(f"device-{number:02d}") for number in range(scenario.devices.count)]
    identities = [Identity(_secret(scenario, "key", name)) for name in names]
    deployment = deploy_local(chain, _escrow(scenario))
    chain.fund([one.address for one in identities], _NATIVE_WEI)
    store, worker, client = _gateway(chain, deployment, clock, out, stack)
    referee = Referee(children.referee, architecture=arch.name, dataset=dataset.name, root=data_root)
    log = EventLog(out / "events.jsonl", loop.time)
    stack.callback(log.close)
    honest_count = scenario.devices.count - scenario.attackers.count
    seen = Seen(
        chain_kind=chain.kind,
        chain_id=chain.chain_id,
        honest={name: number < honest_count for number, name in enumerate(names)},
        addresses={name: one.address for name, one in zip(names, identities, strict=True)},
        referee=referee,
        log=log,
        min_stake=_base_units(scenario.incentives.min_stake),
    )
    air = scenario.air
    world = World(
        Air(sighting_every_s=air.sighting_every_s, latency_s=air.latency_s, bytes_per_s=air.bytes_per_s), names
    )
    shelf = Path(out / "models")
    bank = Bank(reader(chain.web3, deployment), list(seen.addresses.values()))

    fresh = children.training.answer(
        children.training.give(FreshTask(architecture=arch.name, codec=scenario.learning.codec, seed=scenario.seed))
    )
    if not isinstance(fresh, Trained):
        raise WorkerDied(f"no initial model could be made: {fresh}")
    blank = Model(data=fresh.snapshot, digest=fresh.digest, age=0)

    devices: list[Device] = []
    for number, (name, identity) in enumerate(zip(names, identities, strict=True)):
        devices.append(
            await _device(
                scenario, dataset, arch, rows[number], children, world, client, clock, out, data_root,
                device=name, identity=identity, honest=seen.honest[name],
                validator=scenario.devices.validators is None or number < scenario.devices.validators,
                # Nodes order transactions by price, and equal ones each in its own way: so none are equal.
                extra_tip_wei=len(names) - number,
                blank=blank, seen=seen,
            )
        )  # fmt: skip
        stack.callback(devices[-1].journal.close)
    contacts = _contacts(scenario)
    blocks = _Blocks(scenario, chain, worker, store, bank, clock, seen, shelf, progress)

    lives: list[asyncio.Future[Any]] = [asyncio.ensure_future(one.agent.run()) for one in devices]
    lives += [asyncio.ensure_future(world.play(contacts, names)), asyncio.ensure_future(blocks.run())]
    over = asyncio.ensure_future(_until_over(scenario, devices, seen, contacts))
    try:
        done, _ = await asyncio.wait([over, *lives], return_when=asyncio.FIRST_COMPLETED)
        while over not in done:
            for life in done:
                life.result()  # raises what ended it
                lives.remove(life)
            done, _ = await asyncio.wait([over, *lives], return_when=asyncio.FIRST_COMPLETED)
        seen.finished = over.result()
    except asyncio.CancelledError:
        seen.finished = False  # Ctrl-C: keep what there is
    finally:
        for life in [over, *lives]:
            life.cancel()
        await asyncio.gather(over, *lives, return_exceptions=True)
        await client.close()
    blocks.look()
    blocks.sample()
    seen.virtual_s = loop.time()
    seen.models = {one.name: one.agent.model.digest for one in devices}
    seen.books = bank.books(
        bought=sum(int(one["args"]["amount"]) for one in seen.feed if one["name"] == "Bought"),
        fined=sum(int(one["args"]["burned"]) for one in seen.feed if one["name"] == "Settled"),
    )
    while referee.outstanding:
        referee.step(block=True)
        progress(seen)
    return seen


def spread(scenario: Scenario, dataset: Dataset) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Return each device's rows of the training part, in the order it goes round in them."""
    rng = np.random.default_rng([scenario.seed, 1])
    data, count = scenario.data, scenario.devices.count
    labels = dataset.train_labels
    try:
        if data.partition == "iid":
            parts = iid(labels, count, rng)
        elif data.partition == "label_shards":
            parts = label_shards(labels, count, data.labels_per_device, data.samples_per_label, rng)
        else:
            parts = dirichlet(labels, count, data.alpha, rng, min_samples=20)
    except (ValueError, ArithmeticError) as error:
        raise ConfigError(f"data.partition = {data.partition!r} cannot be made: {error}") from error
    if data.partition == "label_shards":
        return [rng.permutation(part) for part in parts]
    return [rng.permutation(part)[: data.samples_per_device] for part in parts]


async def _device(
    scenario: Scenario,
    dataset: Dataset,
    arch: Architecture,
    rows: np.ndarray[Any, np.dtype[np.int64]],
    children: _Children,
    world: World,
    client: GatewayClient,
    clock: VirtualClock,
    out: Path,
    data_root: Path | None,
    *,
    device: PeerId,
    identity: Identity,
    honest: bool,
    validator: bool,
    extra_tip_wei: int,
    blank: Model,
    seen: Seen,
) -> Device:
    learning, incentives = scenario.learning, scenario.incentives
    held_out = max(1, round(len(rows) * scenario.data.validation_share))

    def local(part: np.ndarray[Any, np.dtype[np.int64]]) -> LocalData:
        return LocalData(dataset=dataset.name, root=data_root, rows=part, flipped=not honest)

    trainer = LocalTrainer(
        children.training,
        local(rows[held_out:]),
        arch,
        codec=learning.codec,
        rates=TrainingRates(
            batch_size=learning.batch_size, learning_rate=learning.learning_rate, momentum=learning.momentum
        ),
        seed=scenario.seed,
        wait=wait_virtually(scenario.devices.training_images_per_s),
    )
    adapter: Adapter
    if learning.algorithm == "oppcl":
        adapter = OppCL(trainer, max_rounds=learning.max_rounds, own_steps=learning.own_steps)
    else:
        adapter = Gossip(trainer, arch, codec=learning.codec, kind=learning.merge, own_steps=learning.own_steps)
    initial = await trainer.train(blank, steps=learning.warmup_steps) if learning.warmup_steps else blank
    seen.started_models[device] = initial.digest
    seen.adopted.append((0.0, device, initial.digest))
    seen.referee.ask(initial.digest, initial.data)
    folder = out / "devices" / device
    folder.mkdir(parents=True)
    journal = Journal(folder / "journal.sqlite")
    secrets = random.Random(_secret(scenario, "secrets", device))  # noqa: S311 - a simulation must be repeatable
    box: list[Agent] = []

    def observe(name: str, **fields: object) -> None:
        seen.log.write(device, name, **fields)
        if name == "adopted" and box:
            model = box[0].model
            seen.adopted.append((clock.monotonic_s(), device, model.digest))
            seen.referee.ask(model.digest, model.data)

    agent = Agent(
        radios=[world.radios[device]],
        link=world.links[device],
        adapter=adapter,
        assessor=LocalAssessor(
            children.validation,
            local(rows[:held_out]),
            arch,
            wait=wait_virtually(scenario.devices.validation_images_per_s),
        )
        if validator
        else None,
        gateway=client,
        clock=clock,
        journal=journal,
        identity=identity,
        architecture=arch,
        initial=initial,
        settings=Settings(
            reward=_base_units(incentives.reward),
            tolerance_bps=incentives.tolerance_bps,
            parameter_set=0,
            stake=_base_units(incentives.stake),
            validator=validator,
            extra_tip_wei=extra_tip_wei,
        ),
        vitals=Vitals,
        random_bytes=secrets.randbytes,
        observe=observe,
    )
    box.append(agent)
    return Device(name=device, honest=honest, agent=agent, journal=journal)


class _Blocks:
    """Makes blocks as a chain would, drives the gateway's worker, and looks on."""

    def __init__(
        self,
        scenario: Scenario,
        chain: LocalChain,
        worker: Worker,
        store: Store,
        bank: Bank,
        clock: VirtualClock,
        seen: Seen,
        shelf: Path,
        progress: Progress,
    ) -> None:
        self._block_time_s = scenario.chain.block_time_s
        self._chain = chain
        self._worker = worker
        self._store = store
        self._bank = bank
        self._clock = clock
        self._seen = seen
        self._shelf = shelf
        self._progress = progress
        self._sampled_s = -_SAMPLE_S

    async def run(self) -> None:
        mined_s = self._clock.wall_s()
        while True:
            await asyncio.sleep(self._block_time_s)
            now_s = self._clock.wall_s()
            if self._worker.broadcast() or now_s - mined_s >= _HEARTBEAT_S:
                self._chain.mine(int(now_s))
                mined_s = now_s
                self._worker.confirm()
                self.look()
            if now_s - self._sampled_s >= _SAMPLE_S:
                self.sample()
            self._seen.referee.step()
            self._progress(self._seen)

    def look(self) -> None:
        """Take the events that are new, and have the models they name measured."""
        after = self._seen.feed[-1]["number"] if self._seen.feed else 0
        for row in self._store.events_after(after, limit=10_000):
            self._seen.feed.append(row.as_json())
            if row.name == "VotingStarted":
                terms = self._store.terms(str(row.encounter)) or {}
                previous, updated = str(terms["previous"])[2:], str(row.args["updated"])[2:]
                self._seen.previous[str(row.encounter)] = bytes.fromhex(previous)
                self._measure(previous)
                self._measure(updated)

    def _measure(self, digest: str) -> None:
        path = self._shelf / digest[:2] / digest
        if path.exists():
            self._seen.referee.ask(bytes.fromhex(digest), path.read_bytes())

    def sample(self) -> None:
        """Write down everybody's balance."""
        self._sampled_s = self._clock.wall_s()
        head = self._store.head()
        if head is not None:
            self._seen.samples.append((head.number, head.time_s, self._bank.balances()))
        self._seen.log.flush()


async def _until_over(scenario: Scenario, devices: list[Device], seen: Seen, contacts: list[Contact]) -> bool:
    """Wait for the scenario's end: enough encounters, and all of them over. Return whether it was reached."""
    last_s = min(scenario.run.max_hours * 3600, contacts[-1].end_s if contacts else 0.0)
    loop = asyncio.get_running_loop()
    while seen.count("Opened") < scenario.run.encounters and loop.time() < last_s:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(scenario.chain.block_time_s)
    for one in devices:
        one.agent.stop_learning()
    deadline_s = loop.time() + _DRAIN_S
    while not all(one.agent.idle for one in devices) and loop.time() < deadline_s:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(scenario.chain.block_time_s)
    await asyncio.sleep(2 * scenario.chain.block_time_s)
    return True


def _gateway(
    chain: LocalChain, deployment: Deployment, clock: VirtualClock, out: Path, stack: contextlib.ExitStack
) -> tuple[Store, Worker, GatewayClient]:
    store = Store(f"sqlite:///{out / 'gateway.sqlite'}")
    stack.callback(store.close)
    node = Node(chain.web3, PROFILES[chain.kind])
    worker = Worker(store, node, deployment, now_s=clock.wall_s, resend_after_s=_HEARTBEAT_S)
    worker.confirm()
    app = create_app(
        store=store,
        shelf=Shelf(out / "models"),
        node=node,
        deployment=deployment,
        limits=Limits(),
        now_s=clock.wall_s,
    )
    return store, worker, GatewayClient("http://gateway", transport=InProcessTransport(app))


def _escrow(scenario: Scenario) -> EscrowSettings:
    rules = scenario.incentives
    return EscrowSettings(
        min_stake=_base_units(rules.min_stake),
        unbonding_period_s=2 * 86_400,
        max_life_s=86_400,
        parameters=ParameterSet(
            validators=rules.validators,
            pn_bps=rules.pn_bps,
            q_bps=rules.q_bps,
            bond_bps=rules.bond_bps,
            standby_delay_s=rules.standby_delay_s,
            vote_time_s=rules.vote_time_s,
        ),
    )


def _contacts(scenario: Scenario) -> list[Contact]:
    chosen = scenario.contacts
    if chosen.file is not None:
        return trace_contacts(chosen.file, devices=scenario.devices.count, gap_s=chosen.merge_gap_s)
    return random_contacts(
        scenario.devices.count,
        mean_gap_s=chosen.mean_gap_s,
        mean_contact_s=chosen.mean_contact_s,
        min_contact_s=chosen.min_contact_s,
        until_s=scenario.run.max_hours * 3600,
        rng=random.Random(_secret(scenario, "contacts", "")),  # noqa: S311 - a simulation must be repeatable
    )


def _base_units(tokens: float) -> int:
    return int(Decimal(str(tokens)) * TOKEN)


def _secret(scenario: Scenario, purpose: str, name: str) -> bytes:
    return keccak(f"iDML simulation/{scenario.seed}/{purpose}/{name}".encode())
