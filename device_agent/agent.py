"""The agent: everything a device does, put together from parts that are passed in.

A real device and a simulated one differ only in those parts (radios, link, trainer, gateway transport, clock).
Nothing in here asks which one it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from contracts import calls
from contracts.errors import MalformedTerms
from contracts.terms import Domain, Terms, commitment, encounter_id
from models.errors import ModelsError
from models.registry import Architecture
from models.snapshot import pack, parse, unpack

from device_agent import messages
from device_agent.clock import Clock
from device_agent.duty import Duty
from device_agent.encounter import (
    ChainView,
    Effect,
    Encounter,
    Happening,
    Role,
    Stage,
    seen_on_chain,
    step,
)
from device_agent.errors import (
    AgentError,
    GatewayRefused,
    GatewayUnreachable,
    LinkLost,
    PeerFault,
    WorkerDied,
)
from device_agent.gateway import ChainFacts, GatewayClient
from device_agent.health import Vitals, unfit
from device_agent.identity import Identity
from device_agent.journal import Journal, NewOperation
from device_agent.learning import Adapter, Assessor, Model
from device_agent.link import Link
from device_agent.messages import Accept, Decline, Message, Offer, Propose, Refusal, Reveal
from device_agent.neighborhood import Neighborhood
from device_agent.observation import Observe
from device_agent.outbox import Outbox
from device_agent.radio import PeerId, Radio
from device_agent.settings import Settings

T = TypeVar("T")

_SALT_BYTES = 32
_RETRY_S = 15.0
_WAITS_FOR_PEER = {
    Role.LEARNER: frozenset({Stage.PROPOSED, Stage.OPEN, Stage.OFFERED}),
    Role.NEIGHBOR: frozenset({Stage.OFFERED}),
}
_BUSY_NEIGHBOR = frozenset({Stage.CHECKING_IN, Stage.OPEN, Stage.WORKING, Stage.OFFERED})


class Agent:
    """One device."""

    def __init__(
        self,
        *,
        radios: Sequence[Radio],
        link: Link,
        adapter: Adapter,
        assessor: Assessor | None,
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
    ) -> None:
        """Put the parts together; `run` does the rest.

        Args:
            radios: where sightings come from.
            link: messages and snapshots to and from peers.
            adapter: the learning algorithm.
            assessor: measures models for votes; None on a device that does not validate.
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
        """
        self._radios = radios
        self._link = link
        self._adapter = adapter
        self._gateway = gateway
        self._clock = clock
        self._journal = journal
        self._identity = identity
        self._architecture = architecture
        self._settings = settings
        self._vitals = vitals
        self._random_bytes = random_bytes
        self._observe = observe
        self._outbox = Outbox(
            journal, gateway, identity, extra_tip_wei=settings.extra_tip_wei, observe=observe
        )
        self._neighborhood = Neighborhood(
            lost_after_s=settings.lost_after_s, usual_contact_s=settings.usual_contact_s
        )
        self._computing = asyncio.Lock()
        self._duty = None
        if assessor is not None:
            self._duty = Duty(
                address=identity.address,
                assessor=assessor,
                gateway=gateway,
                journal=journal,
                architecture=architecture,
                settings=settings,
                computing=self._computing,
                observe=observe,
            )
        self._live = {one.key: one for one in journal.live_encounters()}
        self._model = self._remembered(initial)
        self._facts: ChainFacts | None = None
        self._asked_at_s: dict[PeerId, float] = {}
        self._proposed_at_s: dict[bytes, float] = {}
        self._concluding: set[bytes] = set()
        self._seeking = settings.learner
        self._tasks: asyncio.TaskGroup | None = None
        self._effects: dict[Effect, Callable[[Encounter], Awaitable[None]]] = {
            Effect.PROPOSE: self._send_proposal,
            Effect.ACCEPT: self._send_acceptance,
            Effect.FETCH_PREVIOUS: self._fetch_previous,
            Effect.WORK: self._work,
            Effect.OFFER: self._send_offer,
            Effect.REVEAL: self._send_salt,
            Effect.FETCH_UPDATED: self._fetch_updated,
            Effect.UPLOAD_PREVIOUS: self._upload_previous,
            Effect.UPLOAD_UPDATED: self._upload_updated,
            Effect.CONCLUDE: self._conclude,
        }

    @property
    def model(self) -> Model:
        """The device's own model, as it is now."""
        return self._model

    @property
    def address(self) -> str:
        """The device's account."""
        return self._identity.address

    @property
    def idle(self) -> bool:
        """Whether nothing is under way: no encounter, no effect, nothing waiting for the gateway."""
        return not self._live and not self._concluding and not self._journal.undelivered()

    def stop_learning(self) -> None:
        """Propose no more encounters; what is under way goes on."""
        self._seeking = False

    async def run(self) -> None:
        """Stake, then live until cancelled. Raises only what no part of the agent can repair."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._link.attach(self._deliver, self._serve)
            await self._join()
            for effect_id, key, effect in self._journal.pending_effects():
                tasks.create_task(self._perform(key, effect_id, effect))
            for radio in self._radios:
                tasks.create_task(self._listen(radio))
            tasks.create_task(self._every(self._settings.poll_s, self._beat))
            if self._duty is not None and self._settings.validator:
                tasks.create_task(self._every(self._settings.jobs_poll_s, self._validate))

    # -- staking (iDML step 0) ------------------------------------------------------------------------------

    async def _join(self) -> None:
        """Buy, stake and register what the settings ask for, and wait until the chain shows it."""
        while True:
            try:
                facts = self._facts = await self._gateway.chain()
                account = await self._gateway.account(self.address)
                if account.free + account.locked > 0 and (account.seat or not self._settings.validator):
                    self._observe("joined", address=self.address, free=account.free, seat=account.seat)
                    return
                self._journal.enter(*self._joining(facts))
                await self._outbox.pump()
            except GatewayUnreachable as fault:
                self._observe("waiting", reason=str(fault))
            await asyncio.sleep(self._settings.poll_s)

    def _joining(self, facts: ChainFacts) -> list[NewOperation]:
        stake = self._settings.stake
        price_wei = -(-stake // facts.tokens_per_wei)
        steps = [
            ("buy", facts.token, calls.Buy(), price_wei),
            ("approve", facts.token, calls.Approve(spender=facts.escrow, amount=stake), 0),
            ("stake", facts.escrow, calls.Stake(amount=stake), 0),
        ]
        if self._settings.validator:
            steps.append(("register", facts.escrow, calls.RegisterValidator(), 0))
        return [
            NewOperation(target=target, data=calls.encode(call), label=f"join:{name}", value_wei=value_wei)
            for name, target, call, value_wei in steps
        ]

    # -- the loops ------------------------------------------------------------------------------------------

    async def _listen(self, radio: Radio) -> None:
        async for sighting in radio.sightings():
            if self._neighborhood.observe(sighting) is not None:
                self._observe("neighbor up", peer=sighting.peer)

    async def _every(self, seconds: float, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await look()
            except (GatewayUnreachable, GatewayRefused) as fault:
                self._observe("fault", where=look.__name__.strip("_"), reason=str(fault))
            await asyncio.sleep(seconds)

    async def _validate(self) -> None:
        if self._duty is not None:
            await self._duty.look()
            await self._outbox.pump()

    async def _beat(self) -> None:
        now_s = self._clock.monotonic_s()
        for down in self._neighborhood.forget_silent(now_s):
            self._observe("neighbor down", peer=down.neighbor.peer)
            for one in list(self._live.values()):
                if one.peer == down.neighbor.peer and one.stage in _WAITS_FOR_PEER[one.role]:
                    self._apply(one.key, Happening.FAILED, reason="the peer went out of range")
        for key, at_s in list(self._proposed_at_s.items()):
            if now_s - at_s > self._settings.answer_within_s:
                del self._proposed_at_s[key]
                self._apply(key, Happening.FAILED, reason="no answer to the proposal")
        for one in list(self._live.values()):
            if one.terms is not None:
                await self._watch(one, one.terms)
        await self._outbox.pump()
        await self._seek()

    async def _watch(self, one: Encounter, terms: Terms) -> None:
        facts = await self._chain()
        view = await self._gateway.encounter(encounter_id(terms, _domain(facts)))
        rules = facts.parameter_sets[terms.parameter_set]
        happening = seen_on_chain(
            one, view, validators=rules.validators, grace_s=self._settings.grace_s
        )
        if happening is Happening.SETTLED:
            self._apply(one.key, happening, verdict=_verdict(view), updated=view.updated or one.updated)
        elif happening is not None:
            self._apply(one.key, happening)

    async def _chain(self) -> ChainFacts:
        if self._facts is None:
            self._facts = await self._gateway.chain()
        return self._facts

    # -- becoming a Learner ---------------------------------------------------------------------------------

    async def _seek(self) -> None:
        """Propose an encounter to the neighbour not asked for longest, if one is possible now."""
        if not self._seeking or self._learning():
            return
        now_s = self._clock.monotonic_s()
        candidates = [
            one.peer
            for one in self._neighborhood.neighbors
            if now_s - self._asked_at_s.get(one.peer, -self._settings.cooldown_s) >= self._settings.cooldown_s
            and self._neighborhood.expected_remaining_s(one.peer, now_s) >= self._settings.expected_encounter_s
        ]
        if not candidates or unfit(self._vitals(), self._settings.guards):
            return
        facts = self._facts = await self._gateway.chain()
        account = await self._gateway.account(self.address)
        if account.free < max(facts.min_stake, self._settings.reward) or not self._seeking:
            return
        peer = min(candidates, key=lambda one: self._asked_at_s.get(one, 0.0))
        self._asked_at_s[peer] = now_s
        self._propose(peer, facts)

    def _learning(self) -> bool:
        busy = any(one.role is Role.LEARNER and one.stage is not Stage.STRANDED for one in self._live.values())
        return busy or bool(self._concluding)

    def _propose(self, peer: PeerId, facts: ChainFacts) -> None:
        salt = self._random_bytes(_SALT_BYTES)
        key = commitment(salt)
        proposal = Propose(
            learner=self.address,
            algorithm=self._adapter.label,
            architecture=self._architecture.digest.hex(),
            previous=self._model.digest.hex(),
            size_bytes=len(self._model.data),
            age=self._model.age,
            reward=self._settings.reward,
            tolerance_bps=self._settings.tolerance_bps,
            parameter_set=self._settings.parameter_set,
            open_by=facts.chain_time_s + self._settings.open_within_s,
            report_by=facts.chain_time_s + self._settings.report_within_s,
            commitment=key.hex(),
        )
        one = Encounter(
            key=key, role=Role.LEARNER, stage=Stage.PROPOSED, peer=peer, proposal=proposal, salt=salt
        )
        self._proposed_at_s[key] = self._clock.monotonic_s()
        self._begin(one, (Effect.PROPOSE,))

    # -- becoming a Neighbor --------------------------------------------------------------------------------

    async def _consider(self, peer: PeerId, proposal: Propose) -> None:
        """Answer a proposal."""
        key = bytes.fromhex(proposal.commitment)
        if key in self._live or self._journal.encounter(key) is not None:
            return  # a duplicate
        reason = await self._objection(peer, proposal)
        if reason is None and self._serving():
            reason = Refusal.BUSY
        if reason is not None:
            self._observe("declined", peer=peer, reason=reason)
            try:
                await self._link.send(peer, messages.encode(Decline(key=proposal.commitment, reason=reason)))
            except LinkLost:
                pass
            return
        salt = self._random_bytes(_SALT_BYTES)
        terms = proposal.terms(neighbor=self.address, commitment=commitment(salt))
        one = Encounter(
            key=key,
            role=Role.NEIGHBOR,
            stage=Stage.CHECKING_IN,
            peer=peer,
            proposal=proposal,
            salt=salt,
            terms=terms,
        )
        self._begin(one, (Effect.ACCEPT, Effect.CHECK_IN))

    def _serving(self) -> bool:
        return any(
            one.role is Role.NEIGHBOR and one.stage in _BUSY_NEIGHBOR for one in self._live.values()
        )

    async def _objection(self, peer: PeerId, proposal: Propose) -> Refusal | None:  # noqa: PLR0911
        if self._serving():
            return Refusal.BUSY
        if proposal.algorithm != self._adapter.label:
            return Refusal.ALGORITHM
        if proposal.architecture != self._architecture.digest.hex():
            return Refusal.ARCHITECTURE
        if unfit(self._vitals(), self._settings.guards):
            return Refusal.UNFIT
        needed_s = self._settings.expected_encounter_s
        if self._neighborhood.expected_remaining_s(peer, self._clock.monotonic_s()) < needed_s:
            return Refusal.CONTACT
        facts = self._facts = await self._gateway.chain()
        settings = self._settings
        rules = facts.parameter_sets.get(proposal.parameter_set)
        if (
            rules is None
            or proposal.parameter_set != settings.parameter_set
            or proposal.reward < settings.reward
            or proposal.tolerance_bps > settings.tolerance_bps
            or not facts.chain_time_s < proposal.open_by <= facts.chain_time_s + 2 * settings.open_within_s
            or not proposal.open_by + needed_s < proposal.report_by
            or proposal.report_by > facts.chain_time_s + 2 * settings.report_within_s
            or proposal.size_bytes > settings.max_model_bytes
        ):
            return Refusal.TERMS
        needed = max(facts.min_stake, proposal.reward)
        for account in (self.address, proposal.learner):
            if (await self._gateway.account(account)).free < needed:
                return Refusal.STAKE
        return None

    # -- what happens, and what follows ---------------------------------------------------------------------

    def _begin(self, one: Encounter, effects: tuple[Effect, ...]) -> None:
        due = self._journal.record(one, effects=effects)
        self._live[one.key] = one
        self._tell(one, "begun")
        self._start(one.key, due)

    def _apply(
        self, key: bytes, happening: Happening, *, snapshot: tuple[bytes, bytes] | None = None, **learned: object
    ) -> bool:
        """Move an encounter along its table: commit, then perform. Return whether it was in place."""
        one = self._live.get(key)
        result = None if one is None else step(one, happening, **learned)
        if result is None:
            return False
        after, effects = result
        due = self._journal.record(after, effects=effects, snapshot=snapshot)
        self._proposed_at_s.pop(key, None)
        if after.live:
            self._live[key] = after
        else:
            del self._live[key]
            self._concluding.add(key)
        if one is not None and (after.stage is not one.stage or effects):
            self._tell(after, happening.value)
        self._start(key, due)
        return True

    def _start(self, key: bytes, due: list[tuple[int, Effect]]) -> None:
        if self._tasks is None:
            raise RuntimeError("the agent is not running")
        for effect_id, effect in due:
            self._tasks.create_task(self._perform(key, effect_id, effect))

    async def _perform(self, key: bytes, effect_id: int, effect: Effect) -> None:
        """Do one effect, then strike it off. A fault of the peer or the link fails the encounter."""
        one = self._journal.encounter(key)
        if one is None:
            raise AgentError(f"the journal lists an effect of an unknown encounter {key.hex()}")
        operation = self._operation(one, effect)
        fault: str | None = None
        if operation is None:
            try:
                await self._effects[effect](one)
            except (LinkLost, PeerFault, ModelsError, WorkerDied, GatewayRefused, MalformedTerms) as error:
                fault = f"{effect}: {error}"
        else:
            facts = await self._patiently(self._chain)
            target = facts.escrow
            operation = NewOperation(target=target, data=operation.data, label=operation.label)
        self._journal.performed(effect_id, operation)
        if fault is not None:
            self._apply(key, Happening.FAILED, reason=fault)
        if operation is not None:
            await self._outbox.pump()

    def _operation(self, one: Encounter, effect: Effect) -> NewOperation | None:
        """Return the transaction that an effect is, None if it is no transaction."""
        terms = one.terms
        if terms is None:
            return None
        call: calls.Call
        match effect:
            case Effect.CHECK_IN:
                call = calls.CheckIn(terms=terms)
            case Effect.REPORT:
                learner_salt, neighbor_salt = one.salts
                call = calls.Report(
                    terms=terms,
                    updated=one.updated or b"",
                    learner_salt=learner_salt,
                    neighbor_salt=neighbor_salt,
                )
            case Effect.CLOSE_REPORTING:
                call = calls.CloseReporting(terms=terms)
            case Effect.FINALISE:
                call = calls.Finalise(terms=terms)
            case Effect.EXPIRE:
                call = calls.Expire(terms=terms)
            case _:
                return None
        return NewOperation(target="", data=calls.encode(call), label=f"{effect}:{one.key.hex()}")

    # -- what peers send ------------------------------------------------------------------------------------

    def _deliver(self, peer: PeerId, data: bytes) -> None:
        try:
            message = messages.parse(data)
            self._take(peer, message)
        except PeerFault as fault:
            self._observe("peer fault", peer=peer, reason=str(fault))

    def _take(self, peer: PeerId, message: Message) -> None:
        if isinstance(message, Propose):
            if self._tasks is not None:
                self._tasks.create_task(self._answer(peer, message))
            return
        key = bytes.fromhex(message.key)
        one = self._live.get(key)
        if one is None or one.peer != peer:
            raise PeerFault(f"{message.kind} for an encounter that is not under way with this peer")
        if isinstance(message, Accept) and one.role is Role.LEARNER:
            terms = one.proposal.terms(neighbor=message.neighbor, commitment=bytes.fromhex(message.commitment))
            in_place = self._apply(key, Happening.ACCEPTED, terms=terms)
        elif isinstance(message, Decline) and one.role is Role.LEARNER:
            in_place = self._apply(key, Happening.DECLINED, reason=message.reason.value)
        elif isinstance(message, Offer) and one.role is Role.LEARNER:
            updated = bytes.fromhex(message.updated)
            in_place = self._apply(key, Happening.OFFERED, updated=updated, updated_age=message.age)
        elif isinstance(message, Reveal) and one.terms is not None:
            in_place = self._take_salt(one, one.terms, bytes.fromhex(message.salt))
        else:
            in_place = False
        if not in_place:
            raise PeerFault(f"{message.kind} is out of place for a {one.role} that is {one.stage}")

    def _take_salt(self, one: Encounter, terms: Terms, salt: bytes) -> bool:
        theirs = terms.neighbor_commitment if one.role is Role.LEARNER else terms.learner_commitment
        if commitment(salt) != theirs:
            raise PeerFault("the salt does not match its commitment")
        return self._apply(one.key, Happening.REVEALED, peer_salt=salt)

    async def _answer(self, peer: PeerId, proposal: Propose) -> None:
        try:
            await self._consider(peer, proposal)
        except (GatewayUnreachable, GatewayRefused, PeerFault) as fault:
            self._observe("fault", where="answer", reason=str(fault))

    def _serve(self, peer: PeerId, digest: bytes) -> bytes | None:
        for one in self._live.values():
            if one.peer != peer:
                continue
            previous = bytes.fromhex(one.proposal.previous)
            lends = one.role is Role.LEARNER and digest == previous and one.stage is not Stage.PROPOSED
            returns = one.role is Role.NEIGHBOR and digest == one.updated and Effect.REVEAL in one.done
            if lends or returns:
                data = self._model.data if digest == self._model.digest else self._journal.snapshot(digest)
                return None if data is None else pack(data)
        return None

    # -- effects --------------------------------------------------------------------------------------------

    async def _send_proposal(self, one: Encounter) -> None:
        await self._link.send(one.peer, messages.encode(one.proposal))

    async def _send_acceptance(self, one: Encounter) -> None:
        terms = _agreed(one)
        accept = Accept(key=one.key.hex(), neighbor=self.address, commitment=terms.neighbor_commitment.hex())
        await self._link.send(one.peer, messages.encode(accept))

    async def _send_offer(self, one: Encounter) -> None:
        updated = one.updated or b""
        data = self._journal.snapshot(updated) or b""
        offer = Offer(key=one.key.hex(), updated=updated.hex(), size_bytes=len(data), age=one.updated_age)
        await self._link.send(one.peer, messages.encode(offer))

    async def _send_salt(self, one: Encounter) -> None:
        await self._link.send(one.peer, messages.encode(Reveal(key=one.key.hex(), salt=one.salt.hex())))

    async def _fetch_previous(self, one: Encounter) -> None:
        data = await self._fetch(one.peer, bytes.fromhex(one.proposal.previous))
        digest = bytes.fromhex(one.proposal.previous)
        self._apply(one.key, Happening.PREVIOUS_ARRIVED, snapshot=(digest, data))

    async def _fetch_updated(self, one: Encounter) -> None:
        digest = one.updated or b""
        data = await self._fetch(one.peer, digest)
        self._apply(one.key, Happening.UPDATED_ARRIVED, snapshot=(digest, data))

    async def _fetch(self, peer: PeerId, digest: bytes) -> bytes:
        limit = self._settings.max_model_bytes
        wire = await self._link.fetch(peer, digest, max_bytes=limit)
        data = unpack(wire, limit)
        if hashlib.sha256(data).digest() != digest:
            raise PeerFault("the snapshot's SHA-256 is not the one agreed on")
        parse(data, self._architecture)
        return data

    async def _work(self, one: Encounter) -> None:
        digest = bytes.fromhex(one.proposal.previous)
        data = self._journal.snapshot(digest)
        if data is None:
            raise PeerFault("the previous model is not in the journal")
        previous = Model(data=data, digest=digest, age=one.proposal.age)
        async with self._computing:
            updated = await self._adapter.contribute(previous, self._model)
        self._observe("contributed", encounter=self._id(one), updated=updated.digest.hex())
        self._apply(
            one.key,
            Happening.WORKED,
            snapshot=(updated.digest, updated.data),
            updated=updated.digest,
            updated_age=updated.age,
        )

    async def _upload_previous(self, one: Encounter) -> None:
        await self._upload(bytes.fromhex(one.proposal.previous))

    async def _upload_updated(self, one: Encounter) -> None:
        await self._upload(one.updated or b"")

    async def _upload(self, digest: bytes) -> None:
        data = self._model.data if digest == self._model.digest else self._journal.snapshot(digest)
        if data is not None:
            await self._patiently(lambda: self._gateway.put_model(digest, data))

    async def _conclude(self, one: Encounter) -> None:
        """Learner: adopt a model that was found valid, unless the own model has moved on meanwhile."""
        try:
            previous = bytes.fromhex(one.proposal.previous)
            if one.role is Role.LEARNER and one.verdict and one.updated and previous == self._model.digest:
                await self._adopt(one, one.updated)
        finally:
            self._concluding.discard(one.key)
            self._tidy()

    async def _adopt(self, one: Encounter, digest: bytes) -> None:
        limit = self._settings.max_model_bytes
        data = self._journal.snapshot(digest)
        if data is None:
            # The link broke after the Neighbor had reported; what was paid for is at the gateway.
            data = await self._patiently(lambda: self._gateway.get_model(digest, max_bytes=limit))
        if data is None:
            self._observe("fault", where="adopt", reason="the updated model is nowhere to be had")
            return
        parse(data, self._architecture)
        updated = Model(data=data, digest=digest, age=max(one.updated_age, self._model.age))
        async with self._computing:
            model = await self._adapter.adopt(updated)
        fact = json.dumps({"digest": model.digest.hex(), "age": model.age})
        self._journal.keep(model.digest, model.data, fact=("model", fact))
        self._model = model
        self._observe("adopted", encounter=self._id(one), model=model.digest.hex(), age=model.age)

    # -- small things ---------------------------------------------------------------------------------------

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the gateway until it answers."""
        while True:
            try:
                return await ask()
            except GatewayUnreachable as fault:
                self._observe("waiting", reason=str(fault))
                await asyncio.sleep(_RETRY_S)

    def _tidy(self) -> None:
        keep = {self._model.digest}
        for one in self._live.values():
            keep.add(bytes.fromhex(one.proposal.previous))
            keep.update({one.updated} if one.updated else ())
        self._journal.discard_snapshots(frozenset(keep))

    def _remembered(self, initial: Model) -> Model:
        fact = self._journal.fact("model")
        if fact is None:
            return initial
        value = json.loads(fact)
        digest = bytes.fromhex(value["digest"])
        data = self._journal.snapshot(digest)
        return initial if data is None else Model(data=data, digest=digest, age=value["age"])

    def _id(self, one: Encounter) -> str | None:
        if one.terms is None or self._facts is None:
            return None
        return encounter_id(one.terms, _domain(self._facts)).hex()

    def _tell(self, one: Encounter, happening: str) -> None:
        self._observe(
            "encounter",
            key=one.key.hex(),
            encounter=self._id(one),
            role=one.role,
            stage=one.stage,
            happening=happening,
            peer=one.peer,
            reason=one.reason,
            verdict=one.verdict,
        )


def _domain(facts: ChainFacts) -> Domain:
    return Domain(chain_id=facts.chain_id, escrow=facts.escrow)


def _agreed(one: Encounter) -> Terms:
    if one.terms is None:
        raise ValueError("the terms are not complete yet")
    return one.terms


def _verdict(view: ChainView) -> bool | None:
    return None if view.yes == view.no else view.yes > view.no
