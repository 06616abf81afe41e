"""Runs a scenario: puts the world together, lets it live, and hands over what was seen.

Read `simulate`, then `_live` from top to bottom: chain and contracts, gateway, devices, then time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts.deploy import deploy_local, reader
from contracts.identity import Identity
from contracts.localchain import LocalChain, open_chain
from device_agent.errors import WorkerDied
from device_agent.learning import Model
from device_agent.learning.choices import base_units
from device_agent.learning.shares import spread
from device_agent.learning.worker import Child, FreshTask, Kind, Trained
from device_agent.loopback.bank import Bank
from device_agent.loopback.blocks import Blocks, escrow_settings, open_relay
from device_agent.loopback.clock import VirtualClock, VirtualLoop
from device_agent.loopback.contacts import Contact, random_contacts, trace_contacts
from device_agent.loopback.devices import Device, Place, make_device, names
from device_agent.loopback.given import Given
from device_agent.loopback.recorder import EventLog, Referee
from device_agent.loopback.scenario import Scenario
from device_agent.loopback.seen import Progress, Seen
from device_agent.loopback.world import Air, World
from models.data import load
from models.registry import architecture

GENESIS_TIME_S = 1_767_225_600
"""2026-01-01 00:00 UTC, when every simulated world begins."""

_SETUP_S = 1_000
_NATIVE_WEI = 10**20
_DRAIN_S = 3_600.0
_LOOK_S = 10.0


@contextlib.contextmanager
def simulate(
    scenario: Scenario, out: Path, *, chain_kind: str | None = None, data_root: Path | None = None, progress: Progress
) -> Iterator[Seen]:
    """Run a scenario and yield what was seen; on leaving, everything that was started is ended.

    Ctrl-C ends the run early: what was seen so far is yielded with `finished` false. Raises what the parts raise
    when they cannot start: `ChainUnreachable`, `ToolMissing`, `DatasetMissing`, `DatasetCorrupt`, `CodeMismatch`;
    and `WorkerDied` if a process that computes dies on the way, for then the results would be wrong.

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
    given = Given(scenario=scenario, dataset=dataset, arch=arch, out=out, data_root=data_root)
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner(loop_factory=VirtualLoop))
        chain = stack.enter_context(open_chain(chain_kind or scenario.chain.kind, genesis_time_s=GENESIS_TIME_S))
        children = _Children()
        stack.callback(children.close)
        seen = runner.run(_live(given, chain, children, stack, progress))
        seen.wall_s = time.monotonic() - started_s
        seen.log.flush()
        yield seen


class _Children:
    """The processes that compute for all devices."""

    def __init__(self) -> None:
        self.training = Child(Kind.TRAINING)
        self.validation = Child(Kind.VALIDATION)
        self.referee = Child(Kind.VALIDATION)

    @property
    def _all(self) -> tuple[Child, ...]:
        return (self.training, self.validation, self.referee)

    async def watch(self) -> None:
        """Wait until one of them has died, and raise `WorkerDied`: devices would go on, with wrong results."""
        while not any(child.deaths for child in self._all):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(_LOOK_S)
        dead = next(child for child in self._all if child.deaths)
        raise WorkerDied(f"the {dead.kind.value} process died during the run; is memory short?")

    def close(self) -> None:
        """End them."""
        for child in self._all:
            child.close()


async def _live(
    given: Given, chain: LocalChain, children: _Children, stack: contextlib.ExitStack, progress: Progress
) -> Seen:
    scenario, out = given.scenario, given.out
    loop = asyncio.get_running_loop()
    clock = VirtualClock(loop, epoch_s=GENESIS_TIME_S + _SETUP_S)
    peers = names(scenario)
    identities = [Identity(given.secret("key", name)) for name in peers]
    deployment = deploy_local(chain, escrow_settings(scenario))
    operator = Identity(given.secret("key", "operator"))
    chain.fund([operator.address, *(one.address for one in identities)], _NATIVE_WEI)
    relay = open_relay(given, chain, deployment, clock, operator)
    stack.callback(relay.gateway.close)
    referee = Referee(children.referee, architecture=given.arch.name, dataset=given.dataset.name, root=given.data_root)
    log = EventLog(out / "events.jsonl", loop.time)
    stack.callback(log.close)
    honest_count = scenario.devices.count - scenario.attackers.count
    seen = Seen(
        chain_kind=chain.kind,
        chain_id=chain.chain_id,
        honest={name: number < honest_count for number, name in enumerate(peers)},
        addresses={name: one.address for name, one in zip(peers, identities, strict=True)},
        referee=referee,
        log=log,
        min_stake=base_units(scenario.incentives.min_stake),
    )
    air = scenario.air
    world = World(
        Air(sighting_every_s=air.sighting_every_s, latency_s=air.latency_s, bytes_per_s=air.bytes_per_s), peers
    )
    bank = Bank(reader(chain.web3, deployment), list(seen.addresses.values()))

    place = Place(
        world=world, gateway=relay.client, clock=clock, training=children.training, validation=children.validation
    )
    blank = _blank(given, children.training)
    rows = spread(scenario.data, given.dataset, count=scenario.devices.count, seed=scenario.seed)
    devices: list[Device] = []
    for number, identity in enumerate(identities):
        device = await make_device(
            given, place, number=number, identity=identity, rows=rows[number], blank=blank, seen=seen
        )
        stack.callback(device.journal.close)
        devices.append(device)
    contacts = _contacts(given)
    blocks = Blocks(given, chain, relay, bank=bank, clock=clock, seen=seen, progress=progress)

    lives: list[asyncio.Future[Any]] = [asyncio.ensure_future(one.agent.run()) for one in devices]
    lives += [asyncio.ensure_future(world.play(contacts, peers)), asyncio.ensure_future(blocks.run())]
    lives.append(asyncio.ensure_future(children.watch()))
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
        await relay.client.close()
    seen.virtual_s = loop.time()
    _close_books(seen, blocks, bank, progress)
    return seen


def _close_books(seen: Seen, blocks: Blocks, bank: Bank, progress: Progress) -> None:
    """Take what is still to be seen, balance the tokens, and wait for the last measurements."""
    blocks.look()
    blocks.sample()
    seen.books = bank.books(
        bought=sum(int(one["args"]["amount"]) for one in seen.feed if one["name"] == "Bought"),
        fined=sum(int(one["args"]["burned"]) for one in seen.feed if one["name"] == "Settled"),
    )
    while seen.referee.outstanding:
        seen.referee.step(block=True)
        progress(seen)


def _blank(given: Given, training: Child) -> Model:
    """Make the model that all devices begin with."""
    learning = given.scenario.learning
    task = FreshTask(architecture=given.arch.name, codec=learning.codec, seed=given.scenario.seed)
    fresh = training.answer(training.give(task))
    if not isinstance(fresh, Trained):
        raise WorkerDied(f"no initial model could be made: {fresh}")
    return Model(data=fresh.snapshot, digest=fresh.digest, age=0)


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


def _contacts(given: Given) -> list[Contact]:
    scenario = given.scenario
    chosen = scenario.contacts
    if chosen.file is not None:
        return trace_contacts(chosen.file, devices=scenario.devices.count, gap_s=chosen.merge_gap_s)
    return random_contacts(
        scenario.devices.count,
        mean_gap_s=chosen.mean_gap_s,
        mean_contact_s=chosen.mean_contact_s,
        min_contact_s=chosen.min_contact_s,
        until_s=scenario.run.max_hours * 3600,
        rng=random.Random(given.secret("contacts")),  # noqa: S311 - a simulation must be repeatable
    )
