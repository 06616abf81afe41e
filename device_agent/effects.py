"""Effects in the world: what each line of the encounter table means in messages, models and transactions.

Each may be performed again after a crash, so each bears being performed twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from contracts import calls, signing
from contracts.identity import Identity
from contracts.states import EncounterState
from contracts.terms import Terms, commitment, encounter_id
from device_agent import messages
from device_agent.ballot import judge
from device_agent.clock import Clock
from device_agent.encounter import Effect, Encounter, Happening, Role, Stage, operation_label
from device_agent.encounters import Encounters
from device_agent.errors import GatewayRefused, GatewayUnreachable, LinkLost, PeerFault
from device_agent.gateway import ChainFacts, GatewayClient
from device_agent.journal import NewOperation
from device_agent.last_view import LastView
from device_agent.learning import Adapter, Assessor, Model, Snapshots
from device_agent.link import Link
from device_agent.messages import Accept, Agree, Message, Offer, Reveal
from device_agent.observation import Observe
from device_agent.own_model import MAX_AGE, OwnModel
from device_agent.pace import Pace
from device_agent.radio import PeerId
from device_agent.settings import Settings

T = TypeVar("T")

_RETRY_S = 15.0

_ONCE_OPEN = frozenset({Effect.FETCH_PREVIOUS, Effect.UPLOAD_PREVIOUS})
_BEFORE_OPENING = frozenset(
    {EncounterState.NONE, EncounterState.LEARNER_CHECKED_IN, EncounterState.NEIGHBOR_CHECKED_IN}
)


class Effects:
    """Performs the effects of one device's encounters."""

    def __init__(
        self,
        *,
        encounters: Encounters,
        link: Link,
        gateway: GatewayClient,
        view: LastView,
        adapter: Adapter,
        assessor: Assessor | None,
        snapshots: Snapshots,
        own: OwnModel,
        settings: Settings,
        identity: Identity,
        computing: asyncio.Lock,
        clock: Clock,
        pace: Pace,
        observe: Observe,
    ) -> None:
        self._clock = clock
        self._pace = pace
        self._encounters = encounters
        self._link = link
        self._gateway = gateway
        self._view = view
        self._adapter = adapter
        self._assessor = assessor
        self._snapshots = snapshots
        self._own = own
        self._settings = settings
        self._identity = identity
        self._computing = computing
        self._observe = observe
        self._actions: dict[Effect, Callable[[Encounter], Awaitable[None]]] = {
            Effect.PROPOSE: lambda one: self._send(one, one.proposal),
            Effect.ACCEPT: self._accept,
            Effect.AGREE: self._agree,
            Effect.FETCH_PREVIOUS: self._fetch_previous,
            Effect.WORK: self._work,
            Effect.OFFER: self._offer,
            Effect.REVEAL: self._reveal,
            Effect.FETCH_UPDATED: self._fetch_updated,
            Effect.UPLOAD_PREVIOUS: lambda one: self._upload(_previous(one)),
            Effect.UPLOAD_UPDATED: lambda one: self._upload(one.updated or b""),
            Effect.ADOPT_ON_CREDIT: self._adopt_on_credit,
            Effect.CONCLUDE: self._conclude,
        }

    async def perform(self, one: Encounter, effect: Effect) -> NewOperation | None:
        """Do one effect; return the operation it comes to, if it goes to the chain.

        Raises `LinkLost`, `PeerFault`, `WorkerDied`, `GatewayRefused` or a `ModelsError` if it cannot be done.
        """
        if effect is Effect.CHECK_IN and not one.proposal.credit:
            self._pace.began(one.key, self._clock.monotonic_s())
        elif effect in _ONCE_OPEN:
            self._pace.opened(one.key, self._clock.monotonic_s())
        if effect in self._actions:
            await self._actions[effect](one)
            return None
        facts = await self._patiently(self._view.known)
        signed = _agreed(one).nonce != 0
        call = self._signed_call(one, effect, facts) if signed else _call(one, effect)
        if call is None:
            return None
        data, label = calls.encode(call), operation_label(one, effect)
        return NewOperation(target=facts.escrow, data=data, label=label, relayed=signed)

    def _signed_call(self, one: Encounter, effect: Effect, facts: ChainFacts) -> calls.Call | None:
        """What an effect is in the batched door: this side's signature, or nothing where the other side acts for both.

        Raises `PeerFault` for a Neighbor that signed other terms.
        """
        terms = _agreed(one)
        encounter = encounter_id(terms, facts.domain)
        match effect:
            case Effect.CHECK_IN if one.role is Role.NEIGHBOR and not one.proposal.credit:
                return None  # its signature went out with `accept`: the Learner hands in both
            case Effect.CHECK_IN:
                own, theirs = self._identity.sign_digest(encounter), one.peer_signature or b""
                if one.role is Role.LEARNER:
                    _check_neighbor(terms, encounter, theirs)
                learners, neighbors = (own, theirs) if one.role is Role.LEARNER else (theirs, own)
                return calls.Open(
                    terms=terms,
                    learner_r=learners[:32],
                    learner_vs=learners[32:],
                    neighbor_r=neighbors[:32],
                    neighbor_vs=neighbors[32:],
                )
            case Effect.REPORT:
                updated = one.updated or b""
                own = self._identity.sign_digest(signing.report_digest(encounter, updated, facts.domain))
                halves = (own, signing.MISSING) if one.role is Role.LEARNER else (signing.MISSING, own)
                learner_salt, neighbor_salt = one.salts
                return calls.ReportSigned(
                    terms=terms,
                    updated=updated,
                    learner_salt=learner_salt,
                    neighbor_salt=neighbor_salt,
                    signatures=b"".join(halves),
                )
            case _:
                return _call(one, effect)  # anyone may send it, without a signature

    async def _send(self, one: Encounter, message: Message) -> None:
        """Say something to the peer, for as long as it may only be out of reach for a moment, as after a restart."""
        give_up_s = self._clock.monotonic_s() + self._settings.lost_after_s
        while True:
            try:
                await self._link.send(one.peer, messages.encode(message))
            except LinkLost:
                if self._clock.monotonic_s() >= give_up_s or self._encounters.get(one.key) is None:
                    raise
                await asyncio.sleep(self._settings.poll_s)
            else:
                return

    async def _accept(self, one: Encounter) -> None:
        own, signature = commitment(one.salt).hex(), None
        if _agreed(one).nonce:
            signature = self._identity.sign_digest(bytes.fromhex(await self._id(one))).hex()
        address = self._identity.address
        await self._send(one, Accept(key=one.key.hex(), neighbor=address, commitment=own, signature=signature))

    async def _agree(self, one: Encounter) -> None:
        """Learner, on credit: sign the terms that the Neighbor has signed, if it is known to be good for them."""
        terms = _agreed(one)
        name = bytes.fromhex(await self._id(one))
        _check_neighbor(terms, name, one.peer_signature or b"")
        facts = await self._patiently(self._view.known)
        free = await self._view.free(terms.neighbor)
        if free is None or free < facts.min_stake + terms.reward:
            reason = f"{terms.neighbor} is not known to have the stake for this"
            self._encounters.apply(one.key, Happening.FAILED, reason=reason)
            return
        await self._send(one, Agree(key=one.key.hex(), signature=self._identity.sign_digest(name).hex()))

    async def _offer(self, one: Encounter) -> None:
        await self._send(one, self._offered(one))

    def _offered(self, one: Encounter) -> Offer:
        updated = one.updated or b""
        size_bytes = len(self._own.snapshot(updated) or b"")
        return Offer(key=one.key.hex(), updated=updated.hex(), size_bytes=size_bytes, age=one.updated_age)

    async def _reveal(self, one: Encounter) -> None:
        """Give the own salt away; a Learner, only once the Neighbor's stake is locked, or can be without its help.

        A Neighbor that had both salts before its check-in would know the validators, and could stay away from those
        it does not like. On credit its signature is here already.
        """
        if one.role is Role.LEARNER and not one.proposal.credit:
            name = bytes.fromhex(await self._id(one))
            while (await self._patiently(lambda: self._gateway.encounter(name))).state in _BEFORE_OPENING:
                await asyncio.sleep(self._settings.poll_s)
                if not self._still(one, Stage.OFFERED):
                    return
        await self._send(one, Reveal(key=one.key.hex(), salt=one.salt.hex()))

    async def remind(self, one: Encounter) -> None:
        """Say once more what the peer may not have heard; that it does not hear this either is no fault."""
        if self._encounters.is_due(one.key, Effect.REVEAL) or self._encounters.is_due(one.key, Effect.OFFER):
            return  # it is being said
        message = self._said(one)
        if message is not None:
            with suppress(LinkLost, PeerFault):
                await self._link.send(one.peer, messages.encode(message))

    def _said(self, one: Encounter) -> Message | None:
        """What this device said last to the peer of an encounter."""
        if Effect.REVEAL in one.done:
            return Reveal(key=one.key.hex(), salt=one.salt.hex())
        return self._offered(one) if Effect.OFFER in one.done else None

    def _still(self, one: Encounter, stage: Stage) -> bool:
        now = self._encounters.get(one.key)
        return now is not None and now.stage is stage

    async def _fetch_previous(self, one: Encounter) -> None:
        digest = _previous(one)
        data = await self._fetch(one.peer, digest)
        self._encounters.apply(one.key, Happening.PREVIOUS_ARRIVED, snapshot=(digest, data))

    async def _fetch_updated(self, one: Encounter) -> None:
        digest = one.updated or b""
        data = await self._fetch(one.peer, digest)
        how = Happening.ARRIVED_ON_CREDIT if one.proposal.credit else Happening.UPDATED_ARRIVED
        self._encounters.apply(one.key, how, snapshot=(digest, data))

    async def _fetch(self, peer: PeerId, digest: bytes) -> bytes:
        began_s = self._clock.monotonic_s()
        data = await self._link.fetch(peer, digest, max_bytes=self._settings.max_model_bytes)
        now_s = self._clock.monotonic_s()
        self._pace.fetched(len(data), now_s - began_s, now_s)
        if hashlib.sha256(data).digest() != digest:
            raise PeerFault("the snapshot's SHA-256 is not the one agreed on")
        await self._snapshots.check(data)
        return data

    async def _work(self, one: Encounter) -> None:
        digest = _previous(one)
        data = self._own.snapshot(digest)
        if data is None:
            raise PeerFault("the previous model is not in the journal")
        previous = Model(data=data, digest=digest, age=one.proposal.age)
        async with self._computing:
            if not self._still(one, Stage.WORKING):
                return  # it ended while other work was done, or this was done before a crash
            began_s = self._clock.monotonic_s()
            updated = await self._adapter.contribute(previous, self._own.current)
            now_s = self._clock.monotonic_s()
            self._pace.worked(now_s - began_s, now_s)
        if updated.digest == previous.digest:
            raise PeerFault("this device has nothing to add to the model")
        self._observe("contributed", key=one.key.hex(), encounter=await self._id(one), updated=updated.digest.hex())
        self._encounters.apply(
            one.key,
            Happening.WORKED,
            snapshot=(updated.digest, updated.data),
            updated=updated.digest,
            updated_age=min(updated.age, MAX_AGE),
        )

    async def _upload(self, digest: bytes) -> None:
        data = self._own.snapshot(digest)
        if data is not None:
            await self._patiently(lambda: self._gateway.put_model(digest, data))

    async def _adopt_on_credit(self, one: Encounter) -> None:
        """Learner: go on from an updated model at once if this device's own data speak for it."""
        previous, updated = (self._own.snapshot(digest) for digest in (_previous(one), one.updated or b""))
        if self._assessor is None or previous is None or updated is None:
            return  # it waits for the votes
        async with self._computing:
            assessment = await self._assessor.assess(previous, updated)
        if judge(assessment, tolerance_bps=_agreed(one).tolerance_bps).valid and self._is_unchanged(one):
            await self._adopt(one, one.updated or b"", on_credit=True)

    async def _conclude(self, one: Encounter) -> None:
        """Learner: adopt a model that was found valid, unless the own model has moved on meanwhile.

        What was adopted on credit and is found invalid is taken back, unless more was built on it.
        """
        try:
            if one.role is Role.LEARNER and one.verdict and one.updated and self._is_unchanged(one):
                await self._adopt(one, one.updated)
            if one.role is Role.LEARNER and one.verdict is False and self._own.take_back(one.key, _previous(one)):
                self._observe("taken back", key=one.key.hex(), model=self._own.current.digest.hex())
        finally:
            self._own.tidy(self._encounters.live)

    def _is_unchanged(self, one: Encounter) -> bool:
        """Whether the own model is still the one that this encounter began with."""
        return _previous(one) == self._own.current.digest

    async def _adopt(self, one: Encounter, digest: bytes, *, on_credit: bool = False) -> None:
        limit = self._settings.max_model_bytes
        data = self._own.snapshot(digest)
        if data is None:
            # The link broke after the Neighbor had reported; what was paid for is at the gateway.
            data = await self._patiently(lambda: self._gateway.get_model(digest, max_bytes=limit))
        if data is None:
            self._observe("fault", where="adopt", reason="the updated model is nowhere to be had")
            return
        await self._snapshots.check(data)
        updated = Model(data=data, digest=digest, age=max(one.updated_age, self._own.current.age))
        async with self._computing:
            if not self._is_unchanged(one):
                return  # a stranded encounter was settled at the same time
            model = await self._adapter.adopt(updated)
            self._own.move_on(model, on_credit=one.key if on_credit else None)
        name = await self._id(one)
        told = {"key": one.key.hex(), "encounter": name, "model": model.digest.hex(), "age": model.age}
        self._observe("adopted", **told, on_credit=on_credit or None)

    async def _id(self, one: Encounter) -> str:
        facts = await self._patiently(self._view.known)
        return encounter_id(_agreed(one), facts.domain).hex()

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the gateway until it answers; a refusal for now counts as no answer."""
        while True:
            try:
                return await ask()
            except (GatewayUnreachable, GatewayRefused) as fault:
                if isinstance(fault, GatewayRefused) and not fault.retry:
                    raise
                self._observe("waiting", reason=str(fault))
                await asyncio.sleep(_RETRY_S)


def _call(one: Encounter, effect: Effect) -> calls.Call:
    """The transaction that an effect is."""
    terms = _agreed(one)
    match effect:
        case Effect.CHECK_IN:
            return calls.CheckIn(terms=terms)
        case Effect.REPORT:
            learner_salt, neighbor_salt = one.salts
            return calls.Report(
                terms=terms,
                updated=one.updated or b"",
                learner_salt=learner_salt,
                neighbor_salt=neighbor_salt,
            )
        case Effect.CLOSE_REPORTING:
            learner_salt, neighbor_salt = one.salts
            return calls.CloseReporting(terms=terms, learner_salt=learner_salt, neighbor_salt=neighbor_salt)
        case Effect.FINALISE:
            return calls.Finalise(terms=terms, updated=one.judged or b"", panel=one.panel)
        case Effect.EXPIRE:
            return calls.Expire(terms=terms)
    raise ValueError(f"{effect} is no transaction")


def _check_neighbor(terms: Terms, encounter: bytes, signature: bytes) -> None:
    if signing.signer(encounter, signature) != terms.neighbor:
        raise PeerFault("the Neighbor's signature is not one of these terms")


def _previous(one: Encounter) -> bytes:
    return bytes.fromhex(one.proposal.previous)


def _agreed(one: Encounter) -> Terms:
    if one.terms is None:
        raise ValueError("the terms are not complete yet")
    return one.terms
