"""Effects in the world: what each line of the encounter table means in messages, models and transactions.

Each may be performed again after a crash, so each bears being performed twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from contracts import calls, signing
from contracts.identity import Identity
from contracts.states import EncounterState
from contracts.terms import Terms, commitment, encounter_id
from device_agent import messages
from device_agent.clock import Clock
from device_agent.encounter import Effect, Encounter, Happening, Role, Stage, operation_label
from device_agent.encounters import Encounters
from device_agent.errors import GatewayRefused, GatewayUnreachable, LinkLost, PeerFault
from device_agent.gateway import ChainFacts, GatewayClient
from device_agent.journal import NewOperation
from device_agent.learning import Adapter, Model
from device_agent.link import Link
from device_agent.messages import Accept, Message, Offer, Reveal
from device_agent.observation import Observe
from device_agent.own_model import MAX_AGE, OwnModel
from device_agent.radio import PeerId
from device_agent.settings import Settings
from models.registry import Architecture
from models.snapshot import parse

T = TypeVar("T")

_RETRY_S = 15.0

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
        adapter: Adapter,
        architecture: Architecture,
        own: OwnModel,
        settings: Settings,
        identity: Identity,
        computing: asyncio.Lock,
        clock: Clock,
        observe: Observe,
    ) -> None:
        self._clock = clock
        self._encounters = encounters
        self._link = link
        self._gateway = gateway
        self._adapter = adapter
        self._architecture = architecture
        self._own = own
        self._settings = settings
        self._identity = identity
        self._computing = computing
        self._observe = observe
        self._actions: dict[Effect, Callable[[Encounter], Awaitable[None]]] = {
            Effect.PROPOSE: lambda one: self._send(one, one.proposal),
            Effect.ACCEPT: self._accept,
            Effect.FETCH_PREVIOUS: self._fetch_previous,
            Effect.WORK: self._work,
            Effect.OFFER: self._offer,
            Effect.REVEAL: self._reveal,
            Effect.FETCH_UPDATED: self._fetch_updated,
            Effect.UPLOAD_PREVIOUS: lambda one: self._upload(bytes.fromhex(one.proposal.previous)),
            Effect.UPLOAD_UPDATED: lambda one: self._upload(one.updated or b""),
            Effect.CONCLUDE: self._conclude,
        }

    async def perform(self, one: Encounter, effect: Effect) -> NewOperation | None:
        """Do one effect; return the operation it comes to, if it goes to the chain.

        Raises `LinkLost`, `PeerFault`, `WorkerDied`, `GatewayRefused` or a `ModelsError` if it cannot be done.
        """
        if effect in self._actions:
            await self._actions[effect](one)
            return None
        facts = await self._patiently(self._gateway.known_chain)
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
            case Effect.CHECK_IN if one.role is Role.NEIGHBOR:
                return None  # its signature went out with `accept`: the Learner hands in both
            case Effect.CHECK_IN:
                theirs = one.peer_signature or b""
                if signing.signer(encounter, theirs) != terms.neighbor:
                    raise PeerFault("the Neighbor's signature is not one of these terms")
                own = self._identity.sign_digest(encounter)
                return calls.Open(
                    terms=terms,
                    learner_r=own[:32],
                    learner_vs=own[32:],
                    neighbor_r=theirs[:32],
                    neighbor_vs=theirs[32:],
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

    async def _offer(self, one: Encounter) -> None:
        updated = one.updated or b""
        size_bytes = len(self._own.snapshot(updated) or b"")
        offer = Offer(key=one.key.hex(), updated=updated.hex(), size_bytes=size_bytes, age=one.updated_age)
        await self._send(one, offer)

    async def _reveal(self, one: Encounter) -> None:
        """Give the own salt away; a Learner, only once the Neighbor's stake is locked.

        A Neighbor that had both salts before its check-in would know the validators, and could stay away from those
        it does not like.
        """
        if one.role is Role.LEARNER:
            name = bytes.fromhex(await self._id(one))
            while (await self._patiently(lambda: self._gateway.encounter(name))).state in _BEFORE_OPENING:
                await asyncio.sleep(self._settings.poll_s)
                if not self._still(one, Stage.OFFERED):
                    return
        await self._send(one, Reveal(key=one.key.hex(), salt=one.salt.hex()))

    def _still(self, one: Encounter, stage: Stage) -> bool:
        now = self._encounters.get(one.key)
        return now is not None and now.stage is stage

    async def _fetch_previous(self, one: Encounter) -> None:
        digest = bytes.fromhex(one.proposal.previous)
        data = await self._fetch(one.peer, digest)
        self._encounters.apply(one.key, Happening.PREVIOUS_ARRIVED, snapshot=(digest, data))

    async def _fetch_updated(self, one: Encounter) -> None:
        digest = one.updated or b""
        data = await self._fetch(one.peer, digest)
        self._encounters.apply(one.key, Happening.UPDATED_ARRIVED, snapshot=(digest, data))

    async def _fetch(self, peer: PeerId, digest: bytes) -> bytes:
        data = await self._link.fetch(peer, digest, max_bytes=self._settings.max_model_bytes)
        if hashlib.sha256(data).digest() != digest:
            raise PeerFault("the snapshot's SHA-256 is not the one agreed on")
        parse(data, self._architecture)
        return data

    async def _work(self, one: Encounter) -> None:
        digest = bytes.fromhex(one.proposal.previous)
        data = self._own.snapshot(digest)
        if data is None:
            raise PeerFault("the previous model is not in the journal")
        previous = Model(data=data, digest=digest, age=one.proposal.age)
        async with self._computing:
            if not self._still(one, Stage.WORKING):
                return  # it ended while other work was done, or this was done before a crash
            updated = await self._adapter.contribute(previous, self._own.current)
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

    async def _conclude(self, one: Encounter) -> None:
        """Learner: adopt a model that was found valid, unless the own model has moved on meanwhile."""
        unchanged = bytes.fromhex(one.proposal.previous) == self._own.current.digest
        try:
            if one.role is Role.LEARNER and one.verdict and one.updated and unchanged:
                await self._adopt(one, one.updated)
        finally:
            self._own.tidy(self._encounters.live)

    async def _adopt(self, one: Encounter, digest: bytes) -> None:
        limit = self._settings.max_model_bytes
        data = self._own.snapshot(digest)
        if data is None:
            # The link broke after the Neighbor had reported; what was paid for is at the gateway.
            data = await self._patiently(lambda: self._gateway.get_model(digest, max_bytes=limit))
        if data is None:
            self._observe("fault", where="adopt", reason="the updated model is nowhere to be had")
            return
        parse(data, self._architecture)
        updated = Model(data=data, digest=digest, age=max(one.updated_age, self._own.current.age))
        async with self._computing:
            if bytes.fromhex(one.proposal.previous) != self._own.current.digest:
                return  # a stranded encounter was settled at the same time
            model = await self._adapter.adopt(updated)
            self._own.move_on(model)
        self._observe(
            "adopted", key=one.key.hex(), encounter=await self._id(one), model=model.digest.hex(), age=model.age
        )

    async def _id(self, one: Encounter) -> str:
        facts = await self._patiently(self._gateway.known_chain)
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


def _agreed(one: Encounter) -> Terms:
    if one.terms is None:
        raise ValueError("the terms are not complete yet")
    return one.terms
