"""Getting into encounters: whom to ask as a Learner, and whom to answer yes as a Neighbor."""

from __future__ import annotations

from collections.abc import Callable

from contracts.terms import commitment
from device_agent import messages
from device_agent.clock import Clock
from device_agent.encounter import Effect, Encounter, Happening, Role, Stage
from device_agent.encounters import Encounters
from device_agent.errors import LinkLost, PeerFault
from device_agent.gateway import ChainFacts, GatewayClient
from device_agent.health import Vitals, unfit
from device_agent.learning import Adapter
from device_agent.link import Link
from device_agent.messages import Decline, Propose, Refusal
from device_agent.neighborhood import Neighborhood
from device_agent.observation import Observe
from device_agent.own_model import OwnModel
from device_agent.radio import PeerId
from device_agent.settings import Door, Settings
from models.registry import Architecture

_SALT_BYTES = 32
_DIRECT = 0
"""The nonce of terms for which each side sends its own transactions."""
_MOST_AT_ONCE = 8
"""Proposals considered at the same time; each asks the gateway."""
_WORKING_FOR_ANOTHER = frozenset({Stage.CHECKING_IN, Stage.OPEN, Stage.WORKING, Stage.OFFERED})


class Proposals:
    """Makes and answers proposals; one encounter at a time on either side."""

    def __init__(
        self,
        *,
        encounters: Encounters,
        neighborhood: Neighborhood,
        link: Link,
        gateway: GatewayClient,
        adapter: Adapter,
        architecture: Architecture,
        own: OwnModel,
        settings: Settings,
        address: str,
        clock: Clock,
        vitals: Callable[[], Vitals],
        random_bytes: Callable[[int], bytes],
        observe: Observe,
    ) -> None:
        self._encounters = encounters
        self._neighborhood = neighborhood
        self._link = link
        self._gateway = gateway
        self._adapter = adapter
        self._architecture = architecture
        self._own = own
        self._settings = settings
        self._address = address
        self._clock = clock
        self._vitals = vitals
        self._random_bytes = random_bytes
        self._observe = observe
        self._asked_at_s: dict[PeerId, float] = {}
        self._unanswered: dict[bytes, float] = {}
        self._considering: set[PeerId] = set()

    async def seek(self) -> None:
        """Propose an encounter to the neighbour not asked for longest, if one is possible now."""
        if self._encounters.learning:
            return
        now_s = self._clock.monotonic_s()
        candidates = [one.peer for one in self._neighborhood.neighbors if self._worth_asking(one.peer, now_s)]
        if not candidates or unfit(self._vitals(), self._settings.guards):
            return
        facts = await self._gateway.chain()
        if not self._in_force(self._settings.parameter_set, facts):
            self._observe("waiting", reason=f"parameter set {self._settings.parameter_set} is not in force")
            return
        account = await self._gateway.account(self._address)
        if account.free < facts.min_stake + self._settings.reward:
            return
        peer = min(candidates, key=lambda one: self._asked_at_s.get(one, 0.0))
        self._asked_at_s[peer] = now_s
        one = self._proposal(peer, facts)
        self._encounters.begin(one, (Effect.PROPOSE,))

    def give_up_waiting(self) -> None:
        """Fail the proposals that got no answer in time, also those from before a restart."""
        now_s = self._clock.monotonic_s()
        proposed = [one.key for one in self._encounters.live if one.stage is Stage.PROPOSED]
        self._unanswered = {key: self._unanswered.get(key, now_s) for key in proposed}
        for key, at_s in self._unanswered.items():
            if now_s - at_s > self._settings.answer_within_s:
                self._encounters.apply(key, Happening.FAILED, reason="no answer to the proposal")

    async def consider(self, peer: PeerId, proposal: Propose) -> None:
        """Answer a proposal. Raises `PeerFault` if its terms make no sense, or what the gateway raises."""
        if peer in self._considering or len(self._considering) >= _MOST_AT_ONCE:
            raise PeerFault("a proposal while others are still being considered")
        self._considering.add(peer)
        try:
            await self._consider(peer, proposal)
        finally:
            self._considering.discard(peer)

    async def _consider(self, peer: PeerId, proposal: Propose) -> None:
        key = bytes.fromhex(proposal.commitment)
        if self._encounters.known(key):
            return  # a duplicate
        # The gateway is asked in between, so whether this device is free is looked at again.
        reason = await self._objection(peer, proposal) or self._busy()
        if self._encounters.known(key):
            return  # another peer brought the same one meanwhile
        if reason is not None:
            self._observe("declined", peer=peer, reason=reason)
            try:
                await self._link.send(peer, messages.encode(Decline(key=proposal.commitment, reason=reason)))
            except LinkLost:
                self._observe("neighbor down", peer=peer)
            return
        salt = self._random_bytes(_SALT_BYTES)
        one = Encounter(
            key=key,
            role=Role.NEIGHBOR,
            stage=Stage.CHECKING_IN,
            peer=peer,
            proposal=proposal,
            salt=salt,
            terms=proposal.terms(neighbor=self._address, commitment=commitment(salt)),
        )
        self._encounters.begin(one, (Effect.ACCEPT, Effect.CHECK_IN))

    def _worth_asking(self, peer: PeerId, now_s: float) -> bool:
        rested_s = now_s - self._asked_at_s.get(peer, -self._settings.cooldown_s)
        left_s = self._neighborhood.expected_remaining_s(peer, now_s)
        return rested_s >= self._settings.cooldown_s and left_s >= self._settings.expected_encounter_s

    def _proposal(self, peer: PeerId, facts: ChainFacts) -> Encounter:
        salt = self._random_bytes(_SALT_BYTES)
        key = commitment(salt)
        model = self._own.current
        proposal = Propose(
            learner=self._address,
            algorithm=self._adapter.label,
            architecture=self._architecture.digest.hex(),
            previous=model.digest.hex(),
            size_bytes=len(model.data),
            age=model.age,
            reward=self._settings.reward,
            tolerance_bps=self._settings.tolerance_bps,
            parameter_set=self._settings.parameter_set,
            open_by=facts.chain_time_s + self._settings.open_within_s,
            report_by=facts.chain_time_s + self._settings.report_within_s,
            seats=facts.seat_count,
            nonce=_DIRECT if self._settings.door is Door.DIRECT else self._encounters.new_nonce(facts.chain_time_s),
            commitment=key.hex(),
        )
        return Encounter(key=key, role=Role.LEARNER, stage=Stage.PROPOSED, peer=peer, proposal=proposal, salt=salt)

    def _busy(self) -> Refusal | None:
        working = any(one.role is Role.NEIGHBOR and one.stage in _WORKING_FOR_ANOTHER for one in self._encounters.live)
        return Refusal.BUSY if working else None

    async def _objection(self, peer: PeerId, proposal: Propose) -> Refusal | None:
        """Say what speaks against working for a proposal, the cheapest to find out first."""
        if self._busy():
            return Refusal.BUSY
        if proposal.algorithm != self._adapter.label:
            return Refusal.ALGORITHM
        if proposal.architecture != self._architecture.digest.hex():
            return Refusal.ARCHITECTURE
        if unfit(self._vitals(), self._settings.guards):
            return Refusal.UNFIT
        left_s = self._neighborhood.expected_remaining_s(peer, self._clock.monotonic_s())
        if left_s < self._settings.expected_encounter_s:
            return Refusal.CONTACT
        facts = await self._gateway.chain()  # as they are now: seats may have been taken since the last look
        if not self._acceptable(proposal, facts):
            return Refusal.TERMS
        needed = facts.min_stake + proposal.reward
        for account in (self._address, proposal.learner):
            if (await self._gateway.account(account)).free < needed:
                return Refusal.STAKE
        return None

    def _in_force(self, number: int, facts: ChainFacts) -> bool:
        """Whether these rules take new encounters, and are ones that devices here can play by: not sealed votes."""
        rules = facts.parameter_sets.get(number)
        return rules is not None and not rules.retired and not rules.sealed_votes

    def _acceptable(self, proposal: Propose, facts: ChainFacts) -> bool:
        settings, now_s = self._settings, facts.chain_time_s
        return (
            proposal.parameter_set == settings.parameter_set
            and self._in_force(proposal.parameter_set, facts)
            and proposal.reward >= settings.reward
            and proposal.tolerance_bps <= settings.tolerance_bps
            and proposal.size_bytes <= settings.max_model_bytes
            and now_s + settings.open_within_s // 4 < proposal.open_by <= now_s + 2 * settings.open_within_s
            and proposal.open_by + settings.expected_encounter_s < proposal.report_by
            and proposal.report_by <= now_s + 2 * settings.report_within_s
            # Fewer seats would let the Learner choose who may be drawn; more, take the missing ones itself.
            and proposal.seats == facts.seat_count
            and (proposal.nonce == _DIRECT) is (settings.door is Door.DIRECT)
        )
