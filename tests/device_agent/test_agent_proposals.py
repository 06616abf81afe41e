"""Proposals: every reason to decline, floods, and the ones from before a restart."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from agent_rig import ARCHITECTURE, FACTS, NOW_S, SETTINGS, Party, account
from agent_values import LEARNER, NEIGHBOR, SEATS, proposal

from device_agent.encounter import Effect, Role, Stage
from device_agent.errors import PeerFault
from device_agent.health import Vitals
from device_agent.journal import Journal
from device_agent.link import Greeting
from device_agent.messages import Accept, Decline, Propose, Refusal, parse
from device_agent.neighborhood import Neighborhood
from device_agent.pace import Pace
from device_agent.proposals import Proposals
from device_agent.radio import Endpoint, PeerId, RadioId
from device_agent.settings import Settings

PEER = PeerId("peer")
GOOD: dict[str, Any] = {"open_by": NOW_S + 60, "report_by": NOW_S + 600}


class Rig:
    """A party that may be proposed to."""

    def __init__(self, journal: Journal, peers: int = 1, settings: Settings = SETTINGS) -> None:
        self.party = Party(journal)
        self.clock = self.party.clock
        self.vitals = Vitals()
        self.neighborhood = Neighborhood(
            lost_after_s=20, usual_contact_s=120, ping_every_s=8, past_contacts_s=lambda _: ()
        )
        for number in range(peers):
            name = f"peer{number or ''}"
            endpoint = Endpoint(host=name, port=1)
            self.neighborhood.greeted(Greeting(peer=PeerId(name), radio_id=RadioId(name), endpoint=endpoint), 0)
        self.pace = Pace(settings.expected_encounter_s)
        self.proposals = Proposals(
            encounters=self.party.encounters,
            neighborhood=self.neighborhood,
            acquaintances=self.party.acquaintances,
            link=self.party.link,  # type: ignore[arg-type]
            view=self.party.view,
            adapter=self.party.adapter,
            architecture=ARCHITECTURE,
            own=self.party.own,
            settings=settings,
            address=NEIGHBOR,
            clock=self.clock,
            pace=self.pace,
            vitals=lambda: self.vitals,
            random_bytes=lambda count: b"N" * count,
            observe=self.party.observe,
        )

    def answers(self, *asked: tuple[PeerId, Propose]) -> list[Accept | Decline]:
        """Bring proposals all at once; return what is sent back."""
        tasks: list[asyncio.Future[None]] = []

        def ask() -> None:
            tasks.extend(asyncio.ensure_future(self.proposals.consider(*one)) for one in asked)

        self.party.live(ask)
        self.faults = [error for task in tasks if (error := task.exception())]
        return [parse(data) for data in self.party.link.sent]  # type: ignore[misc]


def test_a_good_proposal_is_accepted_and_checked_in_for(journal: Journal) -> None:
    rig = Rig(journal)
    (answer,) = rig.answers((PEER, proposal(**GOOD)))
    assert isinstance(answer, Accept)
    assert [one.label.partition(":")[0] for one in journal.undelivered()] == [Effect.CHECK_IN]
    assert rig.answers((PEER, proposal(**GOOD))) == [answer]  # a duplicate gets no second answer


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"algorithm": "gossip"}, Refusal.ALGORITHM),
        ({"architecture": "00" * 32}, Refusal.ARCHITECTURE),
        ({"open_by": NOW_S}, Refusal.TERMS),
        ({"open_by": NOW_S + 15}, Refusal.TERMS),
        ({"open_by": NOW_S + 121}, Refusal.TERMS),
        ({"report_by": NOW_S + 90}, Refusal.TERMS),
        ({"report_by": NOW_S + 1201}, Refusal.TERMS),
        ({"reward": 10**18 - 1}, Refusal.TERMS),
        ({"reward": (1 << 96) - 1}, Refusal.STAKE),
        ({"tolerance_bps": 201}, Refusal.TERMS),
        ({"parameter_set": 1}, Refusal.TERMS),
        ({"seats": SEATS - 1}, Refusal.TERMS),
        ({"seats": SEATS + 1}, Refusal.TERMS),
        ({"seats": 0}, Refusal.TERMS),
        ({"nonce": 8}, Refusal.TERMS),
        ({"size_bytes": SETTINGS.max_model_bytes + 1}, Refusal.TERMS),
    ],
)
def test_unacceptable_terms_are_declined_with_the_reason(
    journal: Journal, changes: dict[str, Any], reason: Refusal
) -> None:
    asked = proposal(**(GOOD | changes))
    assert Rig(journal).answers((PEER, asked)) == [Decline(key=asked.commitment, reason=reason)]
    assert journal.live_encounters() == []


def test_circumstances_are_reasons_too(journal: Journal) -> None:
    hot, far, poor, broke, retired, sealed = (Rig(journal) for _ in range(6))
    hot.vitals = Vitals(temperature_c=90)
    far.neighborhood.forget_silent(100)
    needed = FACTS.min_stake + proposal().reward
    poor.party.gateway.accounts = {LEARNER: account(free=needed - 1)}
    broke.party.gateway.accounts = {NEIGHBOR: account(free=needed - 1)}
    for rig, change in ((retired, {"retired": True}), (sealed, {"sealed_votes": True})):
        rules = dataclasses.replace(FACTS.parameter_sets[0], **change)
        rig.party.gateway.facts = dataclasses.replace(FACTS, parameter_sets={0: rules})
    found = [rig.answers((PEER, proposal(**GOOD)))[0] for rig in (hot, far, poor, broke, retired, sealed)]
    assert [one.reason for one in found if isinstance(one, Decline)] == [
        Refusal.UNFIT,
        Refusal.CONTACT,
        Refusal.STAKE,
        Refusal.STAKE,
        Refusal.TERMS,
        Refusal.TERMS,
    ]


def test_the_least_stake_and_the_reward_are_enough_on_both_sides(journal: Journal) -> None:
    rig = Rig(journal)
    enough = account(free=FACTS.min_stake + proposal().reward)
    rig.party.gateway.accounts = {LEARNER: enough, NEIGHBOR: enough}
    (answer,) = rig.answers((PEER, proposal(**GOOD)))
    assert isinstance(answer, Accept)


def test_a_stale_count_of_seats_is_no_reason_to_decline(journal: Journal) -> None:
    rig = Rig(journal)
    rig.party.gateway.facts = dataclasses.replace(FACTS, seat_count=SEATS - 1)
    asyncio.run(rig.party.view.ask())
    rig.party.gateway.facts = FACTS
    (answer,) = rig.answers((PEER, proposal(**GOOD)))
    assert isinstance(answer, Accept)


@pytest.mark.parametrize(("short", "proposed"), [(1, 0), (0, 1)])
def test_a_learner_proposes_for_all_seats_and_only_with_stake_to_spare(
    journal: Journal, short: int, proposed: int
) -> None:
    rig = Rig(journal)
    rig.party.gateway.accounts = {NEIGHBOR: account(free=FACTS.min_stake + SETTINGS.reward - short)}
    rig.party.live(lambda: asyncio.ensure_future(rig.proposals.seek()))
    found = journal.live_encounters()
    assert len(found) == proposed
    assert all((one.proposal.seats, one.proposal.nonce) == (SEATS, 0) for one in found)


def test_of_a_flood_one_is_accepted_and_a_bounded_number_considered(journal: Journal) -> None:
    rig = Rig(journal, peers=30)
    flood = [
        (PeerId(f"peer{number or ''}"), proposal(**GOOD, commitment=f"{number:02x}" * 32))
        for number in range(30)
        for _ in range(3)
    ]
    answers = rig.answers(*flood)
    assert len(rig.faults) == 90 - 8
    assert all(isinstance(fault, PeerFault) for fault in rig.faults)
    assert sum(isinstance(one, Accept) for one in answers) == 1
    assert {one.reason for one in answers if isinstance(one, Decline)} == {Refusal.BUSY}


def test_the_same_proposal_from_two_peers_is_answered_once(journal: Journal) -> None:
    rig = Rig(journal, peers=2)
    asked = proposal(**GOOD)
    (answer,) = rig.answers((PEER, asked), (PeerId("peer1"), asked))
    assert isinstance(answer, Accept)


@pytest.mark.parametrize(("name", "taken"), [(LEARNER, True), (NEIGHBOR, False)])
def test_nobody_proposes_in_another_accounts_name(journal: Journal, name: str, taken: bool) -> None:
    rig = Rig(journal)
    rig.party.link.accounts[PEER] = name
    answers = rig.answers((PEER, proposal(**GOOD)))
    assert [type(one) for one in answers] == ([Accept] if taken else [])
    assert [type(fault) for fault in rig.faults] == ([] if taken else [PeerFault])


def test_terms_that_no_contract_takes_are_the_peers_fault(journal: Journal) -> None:
    rig = Rig(journal)
    assert rig.answers((PEER, proposal(**GOOD, learner=NEIGHBOR))) == []
    assert [type(fault) for fault in rig.faults] == [PeerFault]


def test_a_proposal_from_before_a_restart_is_given_up_too(journal: Journal) -> None:
    first = Rig(journal)
    first.clock.now_s = 5

    async def seek(rig: Rig) -> None:
        await rig.proposals.seek()

    first.party.live(lambda: asyncio.ensure_future(seek(first)))
    (one,) = journal.live_encounters()
    assert (one.role, one.stage) == (Role.LEARNER, Stage.PROPOSED)
    again = Rig(journal)

    def later() -> None:
        again.clock.now_s += SETTINGS.answer_within_s + 1
        again.proposals.give_up_waiting()

    again.party.live(again.proposals.give_up_waiting, later)
    assert again.party.encounters.idle


def test_of_peers_without_end_the_newest_are_remembered(journal: Journal) -> None:
    proposals = Rig(journal).proposals
    for number in range(3000):
        proposals._note_asked(PeerId(str(number)), number)
    assert next(iter(proposals._asked_at_s)) == "1976"
    assert len(proposals._asked_at_s) == 1024
