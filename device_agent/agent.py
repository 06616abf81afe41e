"""The agent: everything a device does, put together from parts that are passed in.

A real device and a simulated one differ only in those parts (radios, link, trainer, gateway transport, clock).
Nothing in here asks which one it is. Sighting, encounter, snapshot, contribution, vote, operation: the way of the
data through the modules is

    radio -> presence -> neighborhood -> proposals -> encounters <-> effects -> outbox -> gateway
                             conversation ^                duty ----^

What it goes by beside that: `last_view` (the chain as it was seen last), `acquaintances` (its peers as it knows them)
and `pace` (how long things take here).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from contracts import signing
from contracts.identity import Identity
from contracts.terms import Terms, encounter_id
from device_agent.acquaintances import Acquaintances
from device_agent.clock import Clock
from device_agent.contact_log import ContactLog
from device_agent.conversation import Conversation
from device_agent.duty import Duty
from device_agent.effects import Effects
from device_agent.encounter import (
    Effect,
    Encounter,
    Happening,
    Role,
    Stage,
    labelled,
    learned_on_chain,
    seen_on_chain,
    waits_for_word,
)
from device_agent.encounters import Encounters
from device_agent.errors import GatewayRefused, GatewayUnreachable, PeerFault
from device_agent.gateway import GatewayClient
from device_agent.health import Vitals
from device_agent.journal import Journal
from device_agent.last_view import LastView
from device_agent.learning import Adapter, Assessor, Model, Snapshots
from device_agent.link import Link
from device_agent.messages import Propose
from device_agent.neighborhood import Neighbor, Neighborhood
from device_agent.observation import Observe
from device_agent.outbox import Outbox
from device_agent.own_model import OwnModel
from device_agent.pace import Pace
from device_agent.presence import Presence
from device_agent.proposals import Proposals
from device_agent.radio import PeerId, Radio, RadioId
from device_agent.settings import Settings
from device_agent.staking import join, joined_before
from models.registry import Architecture

_AGAIN_S = 6.0
"""What a peer in reach may not have heard is said again after so long."""
_WAITS_FOR_PEER = {
    Role.LEARNER: frozenset({Stage.PROPOSED, Stage.OPEN, Stage.OFFERED}),
    Role.NEIGHBOR: frozenset({Stage.OFFERED}),
}


class Agent:
    """One device."""

    def __init__(
        self,
        *,
        radios: Sequence[Radio],
        link: Link,
        adapter: Adapter,
        assessor: Assessor | None,
        snapshots: Snapshots,
        gateway: GatewayClient,
        clock: Clock,
        journal: Journal,
        identity: Identity,
        architecture: Architecture,
        initial: Model,
        settings: Settings,
        vitals: Callable[[], Vitals],
        random_bytes: Callable[[int], bytes],
        observe: Observe,
        contacts: ContactLog | None = None,
    ) -> None:
        """Put the parts together; `run` does the rest.

        Args:
            radios: where sightings come from.
            link: messages and snapshots to and from peers.
            adapter: the learning algorithm.
            assessor: measures models for votes; None on a device that does not validate.
            snapshots: checks what peers send.
            gateway: the way to the chain.
            clock: monotonic and wall time.
            journal: what survives a crash.
            identity: the device's account.
            architecture: of the network it learns.
            initial: the model to start from if the journal has none.
            settings: plain values.
            vitals: reads the device's health.
            random_bytes: a source of secrets.
            observe: told what happens.
            contacts: where a field trial logs who was near; None: nowhere.
        """
        self._link = link
        self._gateway = gateway
        self._journal = journal
        self._identity = identity
        self._settings = settings
        self._observe = observe
        self._seeking = settings.learner
        self._tasks: asyncio.TaskGroup | None = None
        self._said_at_s: dict[bytes, float] = {}
        computing = asyncio.Lock()
        self._own = OwnModel(journal, initial)
        self._outbox = Outbox(
            journal,
            gateway,
            identity,
            extra_tip_wei=settings.extra_tip_wei,
            observe=observe,
            refused=self._given_up,
        )
        self._clock = clock
        self._acquaintances = acquaintances = Acquaintances(journal, clock.wall_s, avoid_below=settings.avoid_below)
        self._neighborhood = neighborhood = Neighborhood(
            lost_after_s=settings.lost_after_s,
            usual_contact_s=settings.usual_contact_s,
            ping_every_s=settings.ping_every_s,
            past_contacts_s=lambda peer: acquaintances.of(peer).contacts_s,
        )
        self._presence = Presence(
            radios=radios,
            link=link,
            neighborhood=neighborhood,
            acquaintances=acquaintances,
            clock=clock,
            contacts=contacts,
            observe=observe,
        )
        self._encounters = Encounters(journal, acquaintances, observe)
        self._view = LastView(gateway, journal, clock)
        pace = Pace(settings.expected_encounter_s)
        self._effects = Effects(
            encounters=self._encounters,
            link=link,
            gateway=gateway,
            view=self._view,
            adapter=adapter,
            assessor=assessor,
            snapshots=snapshots,
            own=self._own,
            settings=settings,
            identity=identity,
            computing=computing,
            clock=clock,
            pace=pace,
            observe=observe,
        )
        self._proposals = Proposals(
            encounters=self._encounters,
            neighborhood=neighborhood,
            acquaintances=acquaintances,
            link=link,
            view=self._view,
            adapter=adapter,
            architecture=architecture,
            own=self._own,
            settings=settings,
            address=identity.address,
            clock=clock,
            pace=pace,
            vitals=vitals,
            random_bytes=random_bytes,
            observe=observe,
        )
        self._conversation = Conversation(
            encounters=self._encounters,
            own=self._own,
            consider=self._consider,
            declined=self._proposals.declined,
            signer=self._signer,
            account=link.account,
            again=self._remind,
            observe=observe,
        )
        self._duty = None
        if assessor is not None and settings.validator:
            self._duty = Duty(
                identity=identity,
                assessor=assessor,
                gateway=gateway,
                view=self._view,
                journal=journal,
                architecture=architecture,
                settings=settings,
                computing=computing,
                observe=observe,
            )

    @property
    def model(self) -> Model:
        """The device's own model, as it is now."""
        return self._own.current

    @property
    def neighbors(self) -> tuple[Neighbor, ...]:
        """Everyone in range, first seen first."""
        return self._neighborhood.neighbors

    def knows(self, radio_id: RadioId) -> bool:
        """Return whether it is known who shows an id."""
        return self._neighborhood.knows(radio_id)

    def score(self, peer: PeerId) -> float:
        """Return what this device thinks of a peer."""
        return self._acquaintances.score(peer)

    def avoids(self, peer: PeerId) -> bool:
        """Return whether this device deals with a peer no more for now."""
        return self._acquaintances.avoided(peer)

    def expected_remaining_s(self, peer: PeerId) -> float:
        """Return how much longer a contact will probably last."""
        return self._neighborhood.expected_remaining_s(peer, self._clock.monotonic_s())

    @property
    def idle(self) -> bool:
        """Whether nothing is under way: no encounter, no effect, nothing waiting for the gateway."""
        return self._encounters.idle and not self._journal.undelivered()

    def stop_learning(self) -> None:
        """Propose no more encounters; what is under way goes on."""
        self._seeking = False

    async def run(self) -> None:
        """Stake, then live until cancelled. Raises only what no part of the agent can repair."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._encounters.start(tasks, self._effects.perform)
            self._link.attach(self._conversation.deliver, self._conversation.serve, self._presence.met)
            getting_in = join(
                identity=self._identity,
                gateway=self._gateway,
                journal=self._journal,
                outbox=self._outbox,
                settings=self._settings,
                observe=self._observe,
            )
            if joined_before(self._journal):
                tasks.create_task(getting_in)  # what is under way since then goes on meanwhile
            else:
                await getting_in
            self._presence.start(tasks)
            poll_s = self._settings.poll_s
            tasks.create_task(self._every(poll_s, self._look_around))
            tasks.create_task(self._every(poll_s, self._follow_chain))
            tasks.create_task(self._every(poll_s, self._seek))
            if self._duty is not None:
                tasks.create_task(self._every(self._settings.jobs_poll_s, self._vote))

    async def _every(self, seconds: float, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await look()
            except GatewayUnreachable as fault:
                self._observe("waiting", reason=str(fault))
            except GatewayRefused as refusal:
                self._observe("fault", where=look.__name__.strip("_"), reason=str(refusal))
            await asyncio.sleep(seconds)

    async def _look_around(self) -> None:
        """Look who is near and who has gone: waits for no gateway."""
        for down in self._presence.look():
            for one in self._encounters.live:
                if one.peer == down.neighbor.peer and one.stage in _WAITS_FOR_PEER[one.role]:
                    self._encounters.apply(one.key, Happening.FAILED, reason="the peer went out of range")
        self._proposals.give_up_waiting()
        now_s = self._clock.monotonic_s()
        silent = [one for one in self._encounters.live if waits_for_word(one) and one.peer in self._neighborhood]
        self._said_at_s = {one.key: self._said_at_s.get(one.key, now_s) for one in silent}
        for one in silent:
            if now_s - self._said_at_s[one.key] >= _AGAIN_S:
                self._said_at_s[one.key] = now_s
                self._remind(one)

    async def _follow_chain(self) -> None:
        """Look at the encounters under way, and hand over what waits; while the gateway is away, only look for it."""
        near = (self._link.account(one.peer) for one in self._neighborhood.neighbors)
        await self._view.refresh(self._identity.address, [one for one in near if one is not None])
        for one in self._encounters.live:
            if one.terms is not None:
                try:
                    await self._watch(one.key, one.terms)
                except GatewayRefused as fault:  # of this one: the others are watched all the same
                    self._observe("fault", where="watch", reason=str(fault))
        await self._outbox.pump()

    async def _vote(self) -> None:
        if self._duty is not None:
            await self._duty.look()
            await self._outbox.pump()

    async def _seek(self) -> None:
        if self._seeking:
            await self._proposals.seek()

    async def _watch(self, key: bytes, terms: Terms) -> None:
        facts = await self._view.known()
        if terms.parameter_set not in facts.parameter_sets:
            facts = await self._view.ask()  # it was added since
        rules = facts.parameter_sets.get(terms.parameter_set)
        view = await self._gateway.encounter(encounter_id(terms, facts.domain))
        one = self._encounters.get(key)  # as it is now: a peer may have spoken meanwhile
        if one is None or rules is None:
            return
        grace_s = self._settings.grace_s
        happening = seen_on_chain(one, view, rules=rules, grace_s=grace_s)
        if happening is not None:
            learned = learned_on_chain(one, happening, view)
            self._encounters.apply_on_chain(key, happening, now_s=view.chain_time_s, grace_s=grace_s, **learned)

    def _signer(self, terms: Terms, signature: bytes) -> str | None:
        facts = self._view.last
        return None if facts is None else signing.signer(encounter_id(terms, facts.domain), signature)

    def _given_up(self, label: str, reason: str) -> None:
        """Fail an encounter whose check-in or report no gateway will ever take, instead of waiting in silence."""
        effect, key = labelled(label) or (None, b"")
        if effect in (Effect.CHECK_IN, Effect.REPORT):
            self._encounters.apply(key, Happening.FAILED, reason=f"{effect}: {reason}")

    def _remind(self, one: Encounter) -> None:
        if self._tasks is not None:
            self._tasks.create_task(self._effects.remind(one))

    def _consider(self, peer: PeerId, proposal: Propose) -> None:
        if self._tasks is not None:
            self._tasks.create_task(self._answer(peer, proposal))

    async def _answer(self, peer: PeerId, proposal: Propose) -> None:
        try:
            await self._proposals.consider(peer, proposal)
        except (GatewayUnreachable, GatewayRefused, PeerFault) as fault:
            self._observe("fault", where="answer", reason=str(fault))
