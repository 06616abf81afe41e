"""Getting into encounters: whom to ask as a Learner, and whom to answer yes as a Neighbor."""

from __future__ import annotations

from collections.abc import Callable

from contracts.terms import commitment
from device_agent import messages
from device_agent.acquaintances import Acquaintances
from device_agent.clock import Clock
from device_agent.encounter import Effect, Encounter, Happening, Role, Stage
from device_agent.encounters import Encounters
from device_agent.errors import LinkLost, PeerFault
from device_agent.gateway import ChainFacts
from device_agent.health import Vitals, unfit
from device_agent.last_view import LastView
from device_agent.learning import Adapter
from device_agent.link import Link
from device_agent.messages import Decline, Propose, Refusal
from device_agent.neighborhood import Neighborhood
from device_agent.observation import Observe
from device_agent.own_model import OwnModel
from device_agent.pace import Pace
from device_agent.radio import PeerId
from device_agent.settings import Door, Settings
from models.registry import Architecture

_SALT_BYTES = 32
_DIRECT = 0
"""The nonce of terms for which each side sends its own transactions."""
_MOST_AT_ONCE = 8
"""Proposals considered at the same time; each asks the gateway."""
_MOST_AWAY = 64
_MOST_ASKED = 1024
"""Remembered peers: accounts cost nothing."""
_KNOWN_SEATS = 0.75
"""Of all validator seats, the share that a Learner on credit must know of."""


class Proposals:
    """Makes and answers proposals; one encounter at a time on either side."""

    def __init__(
        self,
        *,
        encounters: Encounters,
        neighborhood: Neighborhood,
        acquaintances: Acquaintances,
        link: Link,
        view: LastView,
        adapter: Adapter,
        architecture: Architecture,
        own: OwnModel,
        settings: Settings,
        address: str,
        clock: Clock,
        pace: Pace,
        vitals: Callable[[], Vitals],
        random_bytes: Callable[[int], bytes],
        observe: Observe,
    ) -> None:
        self._encounters = encounters
        self._neighborhood = neighborhood
        self._acquaintances = acquaintances
        self._link = link
        self._view = view
        self._adapter = adapter
        self._architecture = architecture
        self._own = own
        self._settings = settings
        self._address = address
        self._clock = clock
        self._pace = pace
        self._vitals = vitals
        self._random_bytes = random_bytes
        self._observe = observe
        self._asked_at_s: dict[PeerId, float] = {}
        self._waiting: dict[bytes, float] = {}
        self._peers_away: set[PeerId] = set()
        self._considering: set[PeerId] = set()

    async def seek(self) -> None:
        """Propose an encounter to the neighbour not asked for longest, if one is possible now."""
        if self._encounters.learning(away=self._view.away):
            return
        now_s = self._clock.monotonic_s()
        candidates = [one.peer for one in self._neighborhood.neighbors if self._worth_asking(one.peer, now_s)]
        if not candidates or unfit(self._vitals(), self._settings.guards):
            return
        facts = await self._view.now()
        away = facts is None
        peer = min(candidates, key=lambda one: self._asked_at_s.get(one, 0.0))
        on_credit = away or peer in self._peers_away
        facts = facts or self._view.last
        if facts is None or (on_credit and not self._gives_credit):
            self._observe("waiting", reason="no gateway in reach, and no credit")
            return
        if not self._in_force(self._settings.parameter_set, facts):
            self._observe("waiting", reason=f"parameter set {self._settings.parameter_set} is not in force")
            return
        reward = self._settings.reward
        free = await self._view.free(self._address)
        if free is None or free - (self._credit_with(None) if on_credit else 0) < facts.min_stake + reward:
            return
        self._note_asked(peer, now_s)
        if on_credit and (self._credit_with(peer) + reward > self._settings.credit or self._encounters.lanes_left < 1):
            return
        self._peers_away.discard(peer)  # it is asked again in the usual way the next time
        one = self._proposal(peer, facts, on_credit=on_credit)
        self._encounters.begin(one, (Effect.PROPOSE,))

    def declined(self, peer: PeerId, reason: Refusal) -> None:
        """Take a peer's no; if only its gateway is out of its reach, it is asked again at once, on credit."""
        if reason is Refusal.AWAY and self._gives_credit and len(self._peers_away) < _MOST_AWAY:
            self._peers_away.add(peer)
            self._asked_at_s.pop(peer, None)

    def give_up_waiting(self) -> None:
        """Fail what got no answer in time, also from before a restart: proposals, and a yes on credit."""
        now_s = self._clock.monotonic_s()
        waiting = [one for one in self._encounters.live if _waits_for_an_answer(one)]
        self._waiting = {one.key: self._waiting.get(one.key, now_s) for one in waiting}
        for key, at_s in self._waiting.items():
            if now_s - at_s > self._settings.answer_within_s:
                self._encounters.apply(key, Happening.FAILED, reason="no answer from the peer")

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
        if self._link.account(peer) not in (None, proposal.learner):
            raise PeerFault("a proposal in another account's name")
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
        signs_only = (Effect.ACCEPT,)  # on credit the check-in comes when there is something to gain by it
        self._encounters.begin(one, signs_only if proposal.credit else (Effect.ACCEPT, Effect.CHECK_IN))

    def _note_asked(self, peer: PeerId, now_s: float) -> None:
        self._asked_at_s.pop(peer, None)
        self._asked_at_s[peer] = now_s
        if len(self._asked_at_s) > _MOST_ASKED:
            del self._asked_at_s[next(iter(self._asked_at_s))]

    def _worth_asking(self, peer: PeerId, now_s: float) -> bool:
        rested_s = now_s - self._asked_at_s.get(peer, -self._settings.cooldown_s)
        if rested_s < self._settings.cooldown_s or self._acquaintances.avoided(peer):
            return False
        return self._fits(peer, len(self._own.current.data), on_credit=self._view.away or peer in self._peers_away)

    def _fits(self, peer: PeerId, size_bytes: int, *, on_credit: bool) -> bool:
        """Whether a whole encounter will probably be over before the contact is."""
        now_s = self._clock.monotonic_s()
        needed_s = self._pace.encounter_s(size_bytes, now_s, on_credit=on_credit)
        return self._neighborhood.expected_remaining_s(peer, now_s) >= needed_s

    @property
    def _gives_credit(self) -> bool:
        age_s = self._view.age_s
        fresh = age_s is not None and age_s <= self._settings.credit_view_s
        return fresh and self._settings.credit > 0 and self._settings.door is Door.BATCHED

    def _credit_with(self, peer: PeerId | None) -> int:
        """What is at stake in encounters on credit with one peer, or with all: token base units."""
        return sum(
            one.proposal.reward
            for one in self._encounters.live
            if one.proposal.credit and one.stage is not Stage.PROPOSED and peer in (None, one.peer)
        )

    def _proposal(self, peer: PeerId, facts: ChainFacts, *, on_credit: bool) -> Encounter:
        open_within_s = self._settings.credit_within_s if on_credit else self._settings.open_within_s
        report_within_s = self._settings.report_within_s + (open_within_s if on_credit else 0)
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
            open_by=facts.chain_time_s + open_within_s,
            report_by=facts.chain_time_s + report_within_s,
            seats=facts.seat_count,
            nonce=_DIRECT if self._settings.door is Door.DIRECT else self._encounters.new_nonce(facts.chain_time_s),
            commitment=key.hex(),
            credit=on_credit,
        )
        return Encounter(key=key, role=Role.LEARNER, stage=Stage.PROPOSED, peer=peer, proposal=proposal, salt=salt)

    def _busy(self) -> Refusal | None:
        return Refusal.BUSY if self._encounters.working(away=self._view.away) else None

    async def _objection(self, peer: PeerId, proposal: Propose) -> Refusal | None:
        """Say what speaks against working for a proposal, the cheapest to find out first."""
        if self._busy():
            return Refusal.BUSY
        if proposal.algorithm != self._adapter.label:
            return Refusal.ALGORITHM
        if proposal.architecture != self._architecture.digest.hex():
            return Refusal.ARCHITECTURE
        if self._acquaintances.avoided(peer):
            return Refusal.AVOIDED
        if unfit(self._vitals(), self._settings.guards):
            return Refusal.UNFIT
        if not self._fits(peer, proposal.size_bytes, on_credit=proposal.credit):
            return Refusal.CONTACT
        now = await self._view.now()  # seats may have been taken since the last look
        if now is None and not proposal.credit:
            return Refusal.AWAY
        facts = now or self._view.last
        if facts is None or (proposal.credit and not self._gives_credit):
            return Refusal.CREDIT
        if not self._acceptable(proposal, facts):
            return Refusal.TERMS
        if proposal.credit and self._credit_with(peer) + proposal.reward > self._settings.credit:
            return Refusal.CREDIT
        at_stake = {self._address: self._credit_with(None), proposal.learner: self._credit_with(peer)}
        for account, promised in at_stake.items():
            free = await self._view.free(account)
            if free is None or free - (promised if proposal.credit else 0) < facts.min_stake + proposal.reward:
                return Refusal.STAKE
        return None

    def _in_force(self, number: int, facts: ChainFacts) -> bool:
        """Whether these rules take new encounters, and are ones that devices here can play by: not sealed votes."""
        rules = facts.parameter_sets.get(number)
        return rules is not None and not rules.retired and not rules.sealed_votes

    def _acceptable(self, proposal: Propose, facts: ChainFacts) -> bool:
        settings, now_s = self._settings, facts.chain_time_s
        open_within_s = settings.credit_within_s if proposal.credit else settings.open_within_s
        report_within_s = settings.report_within_s + (open_within_s if proposal.credit else 0)
        least_seats = _KNOWN_SEATS * facts.seat_count if proposal.credit else facts.seat_count
        return (
            proposal.parameter_set == settings.parameter_set
            and self._in_force(proposal.parameter_set, facts)
            and proposal.reward >= settings.reward
            and proposal.tolerance_bps <= settings.tolerance_bps
            and proposal.size_bytes <= settings.max_model_bytes
            and now_s + open_within_s // 4 < proposal.open_by <= now_s + 2 * open_within_s
            and proposal.open_by + settings.expected_encounter_s < proposal.report_by
            and proposal.report_by <= now_s + 2 * report_within_s
            # Fewer seats would let the Learner choose who may be drawn; more, take the missing ones itself. On credit
            # it may know of a few less: both sides go by what they saw last.
            and least_seats <= proposal.seats <= facts.seat_count
            and (proposal.nonce == _DIRECT) is (settings.door is Door.DIRECT)
        )


def _waits_for_an_answer(one: Encounter) -> bool:
    """Whether the peer's word is due at once. A Neighbor that has offered is free for others while it waits on."""
    if one.role is Role.LEARNER:
        return one.stage is Stage.PROPOSED
    return one.stage is Stage.OFFERED or (one.proposal.credit and one.stage is Stage.CHECKING_IN)
