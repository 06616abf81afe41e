"""Getting into encounters: whom to ask as a Learner, and whom to answer yes as a Neighbor."""

from __future__ import annotations

from collections.abc import Callable

from contracts.terms import commitment
from device_agent import messages, offer
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
_MOST_AT_ONCE = 8
"""Proposals considered at the same time; each asks the gateway."""
_MOST_AWAY = 64
_MOST_ASKED = 1024
"""Remembered peers: accounts cost nothing."""


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
        if not offer.in_force(self._settings.parameter_set, facts):
            self._observe("waiting", reason=f"parameter set {self._settings.parameter_set} is not in force")
            return
        reward = self._settings.reward
        free = await self._view.free(self._address)
        if not offer.covered(free, reward, facts, promised=self._promised(on_credit=on_credit)):
            return
        self._note_asked(peer, now_s)
        if on_credit and (self._too_much(peer, reward) or self._encounters.lanes_left < 1):
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

    def _promised(self, peer: PeerId | None = None, *, on_credit: bool) -> int:
        """What an encounter has to leave of a stake, for those on credit with one peer or with all."""
        return offer.promised(self._encounters.live, peer) if on_credit else 0

    def _too_much(self, peer: PeerId, reward: int) -> bool:
        """Whether a further encounter on credit would be more than one peer gets."""
        return offer.promised(self._encounters.live, peer) + reward > self._settings.credit

    def _proposal(self, peer: PeerId, facts: ChainFacts, *, on_credit: bool) -> Encounter:
        salt = self._random_bytes(_SALT_BYTES)
        key = commitment(salt)
        direct = self._settings.door is Door.DIRECT
        proposal = offer.make(
            self._settings,
            facts,
            self._own.current,
            learner=self._address,
            algorithm=self._adapter.label,
            architecture=self._architecture,
            nonce=offer.DIRECT if direct else self._encounters.new_nonce(facts.chain_time_s),
            commitment=key,
            on_credit=on_credit,
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
        if not offer.acceptable(proposal, self._settings, facts):
            return Refusal.TERMS
        if proposal.credit and self._too_much(peer, proposal.reward):
            return Refusal.CREDIT
        for account, known in ((self._address, None), (proposal.learner, peer)):
            free = await self._view.free(account)
            promised = self._promised(known, on_credit=proposal.credit)
            if not offer.covered(free, proposal.reward, facts, promised=promised):
                return Refusal.STAKE
        return None


def _waits_for_an_answer(one: Encounter) -> bool:
    """Whether the peer's word is due at once. A Neighbor that has offered is free for others while it waits on."""
    if one.role is Role.LEARNER:
        return one.stage is Stage.PROPOSED
    return one.stage is Stage.OFFERED or (one.proposal.credit and one.stage is Stage.CHECKING_IN)
