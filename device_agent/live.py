"""An agent on a device: the composition root for real radios, a real link, and a real gateway.

Read `live` from top to bottom: the folder, the identity, learning, link and radios, the agent, and what ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.identity import Identity
from device_agent.agent import Agent
from device_agent.agent_config import AgentConfig
from device_agent.clock import SystemClock
from device_agent.contact_log import SILENCE_S, ContactLog
from device_agent.errors import AgentError, GatewayRefused, GatewayUnreachable, JournalFault, StorageFault, WorkerDied
from device_agent.gateway import GatewayClient
from device_agent.health import unfit, vitals_reader
from device_agent.journal import Journal
from device_agent.keystore import Keys
from device_agent.learning import Model
from device_agent.learning.choices import Rows, held_out
from device_agent.learning.compose import adapter_of, trainer_of
from device_agent.learning.local import LocalAssessor, LocalSnapshots, LocalTrainer, wait_in_thread
from device_agent.learning.worker import Child, Failed, FreshTask, Kind, LocalData, Share, ShareTask, Trained
from device_agent.link.lan import LanLink
from device_agent.observation import Observe
from device_agent.own_model import remembered_model
from device_agent.pinning import read_fingerprint
from device_agent.radio import Endpoint, NamedRadio, RadioId, link_record
from device_agent.radio.addresses import own_addresses
from device_agent.radio.duty_cycle import duty_of
from device_agent.radio.ids import changes_in_s, radio_id
from device_agent.radio.mdns import MdnsRadio
from device_agent.status import Json, answer, remembered
from device_agent.systemd import READY, STOPPING, keep_alive, notify
from device_agent.told import Told
from models.registry import Architecture, named

if TYPE_CHECKING:
    from device_agent.radio.ble import BleRadio

JOURNAL, PARTS, LOCK, CONTACTS = "journal.sqlite", "parts", "lock", "contacts.jsonl"
_ENROLLED = "enrolled"
_ASK_S = 3.0
_FULL_S = 15.0
"""How long a full disk is left alone before the agent tries again."""
_REST_S = 300.0
"""A process that computes is ended if it had nothing to do for so long, at most twice so long."""
_MDNS_FIRST_S = 15.0
"""How long mDNS has to find whom Bluetooth shows, before a connection is made to ask."""
_MISSED = 2.5
"""Of the usual intervals between two sightings, so many without one end a contact."""
_FAMILIES = {"cnn6": 6, "cnn10": 10, "cnn14": 14}
"""What the one byte for the family of models on the radio says; 0 for a network of one's own."""


@dataclass
class _Shown:
    """What the device shows on its radios now."""

    radio_id: RadioId


@dataclass(frozen=True, kw_only=True)
class _Learning:
    """What learns and measures on this device."""

    architecture: Architecture
    training: Child
    validation: Child
    trainer: LocalTrainer
    assessor: LocalAssessor
    snapshots: LocalSnapshots


async def live(config: AgentConfig, keys: Keys, told: Told) -> None:
    """Be an agent until SIGTERM or SIGINT. Raises an `AgentError` for what no part of the agent can repair.

    A full disk passes: then the agent begins anew, from its journal, until there is room.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, what: told("fault", where="event loop", reason=_plainly(what)))
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stopping.set)
    alive = asyncio.create_task(keep_alive())
    try:
        with claimed(config.state) as folder:
            while not stopping.is_set():
                try:
                    await _live_once(config, keys, told, folder, stopping)
                except (AgentError, ExceptionGroup) as error:
                    reason = _want_of_room(error)
                    if reason is None:
                        raise
                    told("fault", where="disk", reason=f"{reason}: free some space in {folder}")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stopping.wait(), _FULL_S)
        told("stopped")
    finally:
        notify(STOPPING)
        alive.cancel()


def _plainly(what: dict[str, Any]) -> str:
    """What asyncio has to say of something that nobody waited for, as of a library whose connection broke."""
    return ": ".join(str(one) for one in (what.get("message"), what.get("exception")) if one)


def _want_of_room(error: BaseException) -> str | None:
    """Return what could not be written if a full disk is the reason of a fault, also of one among others."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_want_of_room, error.exceptions)), None)
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        full = cause.sqlite_errorcode == sqlite3.SQLITE_FULL
    else:
        full = isinstance(cause, OSError) and cause.errno == errno.ENOSPC
    return str(error) if full and isinstance(error, JournalFault | StorageFault) else None


async def _live_once(config: AgentConfig, keys: Keys, told: Told, folder: Path, stopping: asyncio.Event) -> None:
    async with contextlib.AsyncExitStack() as stack:
        journal = Journal(folder / JOURNAL)
        stack.callback(journal.close)
        clock = SystemClock()
        identity = Identity(keys.account_key)
        gateway = gateway_of(config, identity)
        stack.push_async_callback(gateway.close)
        shown = _Shown(radio_id(keys.radio_key, clock.wall_s()))
        link = LanLink(
            identity=identity,
            key=keys.link_key,
            radio_id=lambda: shown.radio_id,
            clock=clock,
            random_bytes=secrets.token_bytes,
            parts=folder / PARTS,
            observe=told,
        )
        await link.open(config.link.host, config.link.port)
        stack.push_async_callback(link.close)
        agent: Agent | None = None

        def known(radio_id: RadioId) -> bool:
            return agent is not None and agent.knows(radio_id)

        radios: list[NamedRadio] = []
        if config.mdns.on:
            radios.append(await stack.enter_async_context(_mdns(config, link.port, shown, clock, told)))
        if config.ble.on:
            radios.append(await stack.enter_async_context(_ble(config, link.port, shown, known, clock, told)))
        learning = await _learning(config)
        stack.callback(learning.training.retire)
        stack.callback(learning.validation.retire)
        contacts = None
        if config.trial.contacts:
            silence_s = max(SILENCE_S, _MISSED * 60 / config.ble.sightings_per_min) if config.ble.on else SILENCE_S
            contacts = ContactLog(
                folder / CONTACTS, own=lambda: shown.radio_id, clock=clock, observe=told, silence_s=silence_s
            )
            stack.callback(contacts.close)
        told("started", address=identity.address, port=link.port, folder=str(folder))
        agent = Agent(
            radios=radios,
            link=link,
            adapter=adapter_of(config.learning, learning.trainer, learning.snapshots),
            assessor=learning.assessor,
            snapshots=learning.snapshots,
            gateway=gateway,
            clock=clock,
            journal=journal,
            identity=identity,
            architecture=learning.architecture,
            initial=remembered_model(journal) or await _first_model(config, learning),
            settings=config.settings,
            vitals=vitals_reader(folder),
            random_bytes=secrets.token_bytes,
            observe=told,
            contacts=contacts,
        )
        status = _Status(agent=agent, identity=identity, journal=journal, gateway=gateway, config=config, told=told)
        server = await answer(folder, status.now)
        stack.callback(server.close)
        await _until(
            stopping,
            [
                _run(agent, gateway, journal, config, told),
                _rotate(keys.radio_key, shown, radios, clock, told),
                _rest(learning),
            ],
        )


async def _until(stopping: asyncio.Event, lives: Sequence[Any]) -> None:
    """Let them live until it is time to stop, or one of them fails: then that is raised."""
    tasks = [asyncio.ensure_future(one) for one in lives]
    waiting = asyncio.ensure_future(stopping.wait())
    notify(READY)
    try:
        pending = {*tasks, waiting}
        while waiting in pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for one in done - {waiting}:
                one.result()
    finally:
        for one in [*tasks, waiting]:
            one.cancel()
        await asyncio.gather(*tasks, waiting, return_exceptions=True)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """Make the folder, and keep every other agent out of it. Raises `StorageFault`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFault(f"{folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    except BlockingIOError as error:
        raise StorageFault(f"{folder}: another agent runs there; one folder is one device") from error
    finally:
        os.close(lock)


def gateway_of(config: AgentConfig, identity: Identity | None, *, timeout_s: float = 20) -> GatewayClient:
    """Return a client of the gateway that the settings name; without an identity, one that signs nothing."""
    chosen = config.gateway
    return GatewayClient(
        chosen.url,
        identity=identity if chosen.enrolled else None,
        fingerprint=None if chosen.fingerprint is None else read_fingerprint(chosen.fingerprint),
        timeout_s=timeout_s,
    )


def _mdns(config: AgentConfig, port: int, shown: _Shown, clock: SystemClock, told: Told) -> MdnsRadio:
    return MdnsRadio(
        port=port,
        clock=clock,
        radio_id=shown.radio_id,
        family=_FAMILIES.get(config.learning.architecture, 0),
        interfaces=config.mdns.interfaces or None,
        observe=told,
    )


def _ble(
    config: AgentConfig, port: int, shown: _Shown, known: Callable[[RadioId], bool], clock: SystemClock, told: Told
) -> BleRadio:
    # Who does without does not carry it in memory.
    from device_agent.radio.asking import LinkRecords  # noqa: PLC0415
    from device_agent.radio.ble import BleRadio, Timing  # noqa: PLC0415

    def own_record() -> bytes:
        return link_record.encode(port, [one.text for one in own_addresses(config.mdns.interfaces or None)])

    def read(record: bytes) -> Endpoint | link_record.Reason:
        here = own_addresses(config.mdns.interfaces or None)
        return link_record.decode(record, [one.network for one in here], sorted({one.interface for one in here}))

    after_s = _MDNS_FIRST_S if config.mdns.on else 0.0
    return BleRadio(
        clock=clock,
        radio_id=shown.radio_id,
        family=_FAMILIES.get(config.learning.architecture, 0),
        adapter=config.ble.adapter,
        timing=Timing(quiet_s=config.ble.quiet_s, duty=duty_of(config.ble.sightings_per_min)),
        observe=told,
        links=LinkRecords(own=own_record, known=known, read=read, after_s=after_s) if config.ble.links else None,
    )


async def _rotate(
    key: bytes, shown: _Shown, radios: Sequence[NamedRadio], clock: SystemClock, observe: Observe
) -> None:
    """Show another id every few minutes, on all radios at once."""
    while True:
        await asyncio.sleep(changes_in_s(key, clock.wall_s()))
        shown.radio_id = radio_id(key, clock.wall_s())
        await asyncio.gather(*(one.rename(shown.radio_id) for one in radios))
        observe("radio id changed")


async def _learning(config: AgentConfig) -> _Learning:
    """Find out what this device learns on. The process that looked ends: an idle device has the memory for itself."""
    choices, share = config.learning, config.share
    trains, checks = Child(Kind.TRAINING), Child(Kind.VALIDATION)
    task = ShareTask(data=config.data, family=choices.architecture, number=share.number, of=share.of, seed=config.seed)
    found = await wait_in_thread(checks, task)
    await asyncio.to_thread(checks.close)
    if not isinstance(found, Share):
        raise AgentError(found.message if isinstance(found, Failed) else f"no data was found: {found}")
    arch = named(found.architecture)
    voting, training = held_out(found.rows, config.data.validation_share)

    def local(rows: Rows) -> LocalData:
        return LocalData(dataset=config.data.dataset, root=None, rows=rows, flipped=share.flipped)

    return _Learning(
        architecture=arch,
        training=trains,
        validation=checks,
        trainer=trainer_of(choices, trains, local(training), arch, seed=config.seed),
        assessor=LocalAssessor(checks, local(voting), arch),
        snapshots=LocalSnapshots(checks, arch),
    )


async def _first_model(config: AgentConfig, learning: _Learning) -> Model:
    """Make the model that all devices of the trial begin with, and train it alone for a while if that is wished."""
    task = FreshTask(architecture=learning.architecture.name, codec=config.learning.codec, seed=config.seed)
    made = await wait_in_thread(learning.training, task)
    if not isinstance(made, Trained):
        raise WorkerDied(f"no first model could be made: {made}")
    blank = Model(data=made.snapshot, digest=made.digest, age=0)
    steps = config.learning.warmup_steps
    first = await learning.trainer.train(blank, steps=steps) if steps else blank
    await asyncio.to_thread(learning.training.close)  # with torch it is larger than the agent: started anew with a task
    return first


async def _rest(learning: _Learning) -> None:
    """End the processes that have not been needed for a while: together they are several times the agent's size."""
    while True:
        await asyncio.sleep(_REST_S)
        for one in (learning.training, learning.validation):
            await asyncio.to_thread(one.rest)


async def _run(agent: Agent, gateway: GatewayClient, journal: Journal, config: AgentConfig, observe: Observe) -> None:
    await _enrol(gateway, journal, config, observe)
    await agent.run()


async def _enrol(gateway: GatewayClient, journal: Journal, config: AgentConfig, observe: Observe) -> None:
    """Redeem the token, once, however long the gateway is away."""
    place = config.gateway.token_file
    while place is not None and journal.fact(_ENROLLED) is None:
        try:
            await gateway.enrol(place.read_text().strip())
            journal.set_fact(_ENROLLED, config.gateway.url)
            observe("enrolled")
        except OSError as error:
            raise StorageFault(f"{place}: {error.strerror}") from error
        except GatewayRefused as refusal:
            if not refusal.retry:
                raise
            observe("waiting", reason=str(refusal))
        except GatewayUnreachable as fault:
            observe("waiting", reason=str(fault))
        await asyncio.sleep(0 if journal.fact(_ENROLLED) else config.behaviour.poll_s)


@dataclass(frozen=True, kw_only=True)
class _Status:
    """Answers how the agent is doing."""

    agent: Agent
    identity: Identity
    journal: Journal
    gateway: GatewayClient
    config: AgentConfig
    told: Told

    async def now(self) -> Json:
        clock = SystemClock()
        now_s = clock.monotonic_s()
        vitals = vitals_reader(self.config.state)()
        model = self.agent.model
        return {
            "running": True,
            "address": self.identity.address,
            "model": {"digest": model.digest.hex(), "age": model.age},
            "neighbors": [
                {
                    "peer": one.peer,
                    "endpoint": str(one.endpoint),
                    "since_s": round(now_s - one.since_s, 1),
                    "last_seen_s": round(now_s - one.last_seen_s, 1),
                    "distance": None if one.proximity is None else one.proximity.distance.value,
                    "expected_s": round(self.agent.expected_remaining_s(one.peer), 1),
                    "score": round(self.agent.score(one.peer), 2),
                    "avoided": self.agent.avoids(one.peer),
                }
                for one in self.agent.neighbors
            ],
            **remembered(self.journal),
            "account": await self._account(),
            "gateway": self.config.gateway.url,
            "unfit": [one.value for one in unfit(vitals, self.config.settings.guards)],
            "seen": dict(self.told.counts),
            "last_faults": self.told.last_faults,
        }

    async def _account(self) -> Json:
        try:
            async with asyncio.timeout(_ASK_S):
                found = await self.gateway.account(self.identity.address)
        except (GatewayUnreachable, GatewayRefused, TimeoutError) as fault:
            return {"unknown": str(fault) or "the gateway does not answer"}
        return {
            "native_wei": str(found.native_wei),
            "tokens": str(found.tokens),
            "free": str(found.free),
            "locked": str(found.locked),
            "seat": found.seat,
            "active": found.active,
        }
