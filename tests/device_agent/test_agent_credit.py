"""Encounters on credit, with no gateway in reach: who gives how much to whom, and what is signed when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from agent_rig import ARCHITECTURE, BATCHED, FACTS, NOW_S, Party, account, chain_view
from agent_values import (
    LEARNER,
    LEARNER_SALT,
    LEARNING,
    NEIGHBOR,
    NEIGHBOR_SALT,
    SEATS,
    WORKING,
    proposal,
)
from test_agent_duty import FakeAssessor
from test_agent_proposals import Rig

from contracts import calls
from contracts.identity import Identity
from contracts.settlement import DEFAULT_PARAMETERS
from contracts.states import EncounterState
from contracts.terms import LANES, commitment, encounter_id
from device_agent.encounter import Effect, Encounter, Happening, Role, Stage, learned_on_chain, seen_on_chain
from device_agent.errors import WorkerDied
from device_agent.journal import Journal
from device_agent.learning import Assessment, Assessor, Model
from device_agent.messages import Accept, Agree, Decline, Propose, Refusal, Reveal, encode, parse
from device_agent.own_model import OwnModel
from device_agent.radio import PeerId
from device_agent.settings import Door, Settings
from device_agent.status import remembered
from models import snapshot

Begun = Callable[..., Encounter]
PEER = PeerId("peer")
TOKEN = 10**18
CREDIT = replace(BATCHED, credit=2 * TOKEN, credit_within_s=3600)
TERMS_ON_CREDIT: dict[str, Any] = {
    "credit": True,
    "nonce": 16,
    "open_by": NOW_S + 3600,
    "report_by": NOW_S + 3600 + 600,
}
PROPOSAL = proposal(**TERMS_ON_CREDIT)
TERMS = PROPOSAL.terms(neighbor=NEIGHBOR, commitment=commitment(NEIGHBOR_SALT))
ID = encounter_id(TERMS, FACTS.domain)
KEY = commitment(LEARNER_SALT)
UPDATED = b"\xc3" * 32


def away(journal: Journal, settings: Settings = CREDIT, *, known: dict[str, int] | None = None) -> Rig:
    """A device that has seen the chain and some accounts, and whose gateway is out of reach now."""
    rig = Rig(journal, settings=settings)
    asyncio.run(rig.party.view.ask())
    rig.party.gateway.away = True
    for address, free in ({LEARNER: 10 * TOKEN, NEIGHBOR: 10 * TOKEN} if known is None else known).items():
        journal.set_free_stake(address, free, at_s=0)
    return rig


def seek(rig: Rig) -> list[Propose]:
    """Let it look for an encounter; return what it proposes."""
    rig.party.live(lambda: asyncio.ensure_future(rig.proposals.seek()))
    return [one for one in map(parse, rig.party.link.sent) if isinstance(one, Propose)]


def on_credit(begun: Begun, role: Role, **changes: object) -> Encounter:
    return begun(role, **({"proposal": PROPOSAL, "terms": TERMS} | changes))


# -- who gives credit -------------------------------------------------------------------------------------------------


def test_a_device_that_is_away_proposes_on_credit_with_deadlines_that_are_far(journal: Journal) -> None:
    (proposed,) = seek(away(journal))
    assert proposed.credit
    assert (proposed.open_by, proposed.report_by) == (NOW_S + 3600, NOW_S + 3600 + CREDIT.report_within_s)
    assert proposed.nonce
    assert proposed.seats == SEATS


@pytest.mark.parametrize(
    "settings", [replace(CREDIT, credit=0), replace(CREDIT, door=Door.DIRECT), replace(CREDIT, credit_view_s=-1)]
)
def test_without_credit_or_with_too_old_a_view_a_device_that_is_away_proposes_nothing(
    journal: Journal, settings: Settings
) -> None:
    assert seek(away(journal, settings)) == []
    assert away(journal, settings).answers((PEER, PROPOSAL)) == [Decline(key=KEY.hex(), reason=Refusal.CREDIT)]


def test_a_device_that_never_saw_the_chain_waits(journal: Journal) -> None:
    rig = Rig(journal, settings=CREDIT)
    rig.party.gateway.away = True
    assert seek(rig) == []
    assert rig.answers((PEER, PROPOSAL)) == [Decline(key=KEY.hex(), reason=Refusal.CREDIT)]


def test_a_neighbor_that_is_away_works_on_credit_only_and_signs_but_sends_nothing_to_the_chain(
    journal: Journal,
) -> None:
    rig = away(journal)
    asked = proposal(nonce=16, commitment="ab" * 32)
    assert rig.answers((PEER, asked)) == [Decline(key=asked.commitment, reason=Refusal.AWAY)]
    _, accept = rig.answers((PEER, PROPOSAL))
    assert isinstance(accept, Accept)
    assert accept.signature is not None
    assert journal.undelivered() == []


def test_a_learner_asks_who_is_away_again_at_once_on_credit(journal: Journal) -> None:
    rig = Rig(journal, settings=CREDIT)
    (first,) = seek(rig)
    assert not first.credit
    rig.party.live(lambda: rig.party.conversation.deliver(PEER, encode(_no(first, Refusal.AWAY))))
    (declined,) = rig.party.declined
    assert declined == (PEER, Refusal.AWAY)
    rig.proposals.declined(PEER, Refusal.AWAY)
    _, second = seek(rig)
    assert second.credit


def _no(asked: Propose, reason: Refusal) -> Decline:
    return Decline(key=asked.commitment, reason=reason)


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({NEIGHBOR: 10 * TOKEN}, Refusal.STAKE),
        ({NEIGHBOR: 10 * TOKEN, LEARNER: 2 * TOKEN - 1}, Refusal.STAKE),
        ({NEIGHBOR: 2 * TOKEN - 1, LEARNER: 10 * TOKEN}, Refusal.STAKE),
        ({NEIGHBOR: 2 * TOKEN, LEARNER: 2 * TOKEN}, None),
    ],
)
def test_credit_is_for_who_was_last_seen_with_the_stake(
    journal: Journal, known: dict[str, int], reason: Refusal | None
) -> None:
    (answer,) = away(journal, known=known).answers((PEER, PROPOSAL))
    assert (answer.reason if isinstance(answer, Decline) else None) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"open_by": NOW_S + 60},
        {"open_by": NOW_S + 2 * 3600 + 1, "report_by": NOW_S + 2 * 3600 + 600},
        {"report_by": NOW_S + 2 * (3600 + 600) + 1},
        {"seats": SEATS // 2},
        {"seats": SEATS + 1},
        {"nonce": 0},
    ],
)
def test_terms_on_credit_have_bounds_too(journal: Journal, changes: dict[str, Any]) -> None:
    asked = proposal(**(TERMS_ON_CREDIT | changes))
    assert away(journal).answers((PEER, asked)) == [Decline(key=asked.commitment, reason=Refusal.TERMS)]


def test_a_learner_may_know_of_a_few_seats_less(journal: Journal) -> None:
    (answer,) = away(journal).answers((PEER, proposal(**TERMS_ON_CREDIT | {"seats": SEATS - 1})))
    assert isinstance(answer, Accept)


@pytest.mark.parametrize(("owing", "reason"), [(("peer", "other"), None), (("peer", "peer"), Refusal.CREDIT)])
def test_what_one_peer_may_owe_is_bounded(
    journal: Journal, begun: Begun, owing: tuple[str, ...], reason: Refusal | None
) -> None:
    for number, name in enumerate(owing):  # a token each, and two are allowed
        changes = {"key": bytes([number]) * 32, "peer": PeerId(name), "stage": Stage.REPORTING}
        journal.record(on_credit(begun, Role.NEIGHBOR, **changes))
    (answer,) = away(journal).answers((PEER, PROPOSAL))
    assert (answer.reason if isinstance(answer, Decline) else None) == reason


@pytest.mark.parametrize("role", Role)
def test_what_only_the_chain_can_move_on_keeps_nobody_who_is_away_from_the_next(
    journal: Journal, begun: Begun, role: Role
) -> None:
    journal.record(begun(role, key=bytes(32), stage=Stage.CHECKING_IN))
    encounters = Party(journal).encounters
    assert encounters.learning(away=False) is (role is Role.LEARNER)
    assert encounters.working(away=False) is (role is Role.NEIGHBOR)
    rig = away(journal)
    assert len(seek(rig)) == 1
    (answer,) = (one for one in rig.answers((PEER, PROPOSAL)) if not isinstance(one, Propose))
    assert isinstance(answer, Accept)


def test_no_device_promises_more_than_it_has(journal: Journal, begun: Begun) -> None:
    for number in range(3):
        one = on_credit(begun, Role.LEARNER, key=bytes([number]) * 32, peer=PeerId(f"p{number}"), stage=Stage.REPORTING)
        journal.record(one)
    needed = FACTS.min_stake + 3 * TOKEN + CREDIT.reward
    assert seek(away(journal, known={NEIGHBOR: needed - 1})) == []
    assert len(seek(away(journal, known={NEIGHBOR: needed}))) == 1


def test_a_learner_on_credit_proposes_while_a_lane_is_free(journal: Journal, begun: Begun) -> None:
    for lane in range(LANES - 1):
        asked = proposal(**TERMS_ON_CREDIT | {"nonce": 8 + lane})
        one = on_credit(begun, Role.LEARNER, key=bytes([lane]) * 32, proposal=asked, peer=PeerId(f"p{lane}"))
        journal.record(replace(one, stage=Stage.REPORTING))
    (proposed,) = seek(away(journal, known={NEIGHBOR: 100 * TOKEN}))
    assert proposed.nonce % LANES == LANES - 1
    (one,) = [one for one in journal.live_encounters() if one.stage is Stage.PROPOSED]
    journal.record(replace(one, stage=Stage.REPORTING))
    assert seek(away(journal, known={NEIGHBOR: 100 * TOKEN})) == []


# -- what is signed when ----------------------------------------------------------------------------------------------


def accepted(by: Identity = WORKING) -> Accept:
    signature = by.sign_digest(ID).hex()
    return Accept(key=KEY.hex(), neighbor=NEIGHBOR, commitment=commitment(NEIGHBOR_SALT).hex(), signature=signature)


def learner_hears(journal: Journal, begun: Begun, message: Accept, *, free: int = 10 * TOKEN) -> Party:
    journal.record(on_credit(begun, Role.LEARNER, terms=None))
    learner = Party(journal, LEARNING)
    learner.gateway.accounts = {NEIGHBOR: account(free=free)}
    learner.live(lambda: learner.conversation.deliver(PEER, encode(message)))
    return learner


def test_a_learner_signs_what_the_neighbor_signed_and_sends_nothing_to_the_chain(
    journal: Journal, begun: Begun
) -> None:
    learner = learner_hears(journal, begun, accepted())
    (agree,) = map(parse, learner.link.sent)
    assert agree == Agree(key=KEY.hex(), signature=LEARNING.sign_digest(ID).hex())
    assert journal.undelivered() == []
    assert journal.live_encounters()[0].stage is Stage.OPEN


def test_a_learner_signs_for_nobody_else_and_nobody_without_stake(journal: Journal, begun: Begun) -> None:
    for message, free in ((accepted(by=LEARNING), 10 * TOKEN), (accepted(), 2 * TOKEN - 1)):
        learner = learner_hears(journal, begun, message, free=free)
        assert learner.link.sent == []
        assert journal.live_encounters()[0].stage is Stage.STRANDED


def test_a_neighbor_works_once_the_learner_has_signed(journal: Journal, begun: Begun) -> None:
    journal.record(on_credit(begun, Role.NEIGHBOR, done=frozenset({Effect.ACCEPT})))
    neighbor = Party(journal)

    def hear(by: Identity) -> Callable[[], None]:
        agree = Agree(key=KEY.hex(), signature=by.sign_digest(ID).hex())
        return lambda: neighbor.conversation.deliver(PEER, encode(agree))

    neighbor.live(hear(WORKING))
    assert journal.live_encounters()[0].stage is Stage.CHECKING_IN
    assert len(neighbor.reasons("peer fault")) == 1
    neighbor.live(hear(LEARNING))
    assert journal.live_encounters()[0].stage is not Stage.CHECKING_IN
    assert journal.live_encounters()[0].peer_signature == LEARNING.sign_digest(ID)


def test_a_signature_that_is_not_asked_for_changes_nothing(journal: Journal, begun: Begun) -> None:
    journal.record(begun(Role.NEIGHBOR))
    neighbor = Party(journal)
    agree = Agree(key=KEY.hex(), signature=LEARNING.sign_digest(ID).hex())
    neighbor.live(lambda: neighbor.conversation.deliver(PEER, encode(agree)))
    assert len(neighbor.reasons("peer fault")) == 1
    assert journal.live_encounters()[0].peer_signature is None


def test_a_learner_reveals_its_salt_without_the_chain(journal: Journal, begun: Begun) -> None:
    one = on_credit(begun, Role.LEARNER, stage=Stage.OFFERED, updated=UPDATED)
    journal.record(one, effects=(Effect.REVEAL,))
    learner = Party(journal, LEARNING)
    learner.gateway.away = True
    learner.live()
    assert list(map(parse, learner.link.sent)) == [Reveal(key=KEY.hex(), salt=LEARNER_SALT.hex())]


def test_both_sides_hand_in_the_same_bytes_so_that_either_may_be_late(journal: Journal, begun: Begun) -> None:
    found = []
    for role, identity, theirs in ((Role.LEARNER, LEARNING, WORKING), (Role.NEIGHBOR, WORKING, LEARNING)):
        one = on_credit(begun, role, stage=Stage.REPORTING, peer_signature=theirs.sign_digest(ID))
        operation = asyncio.run(Party(journal, identity).effects.perform(one, Effect.CHECK_IN))
        assert operation is not None
        assert operation.relayed
        found.append(operation.data)
    assert found[0] == found[1]
    assert isinstance(calls.decode(found[0]), calls.Open)


def test_a_yes_on_credit_that_is_not_answered_leaves_the_neighbor_free(journal: Journal, begun: Begun) -> None:
    journal.record(on_credit(begun, Role.NEIGHBOR))
    rig = away(journal)

    def later() -> None:
        rig.clock.now_s += CREDIT.answer_within_s + 1
        rig.proposals.give_up_waiting()

    rig.party.live(rig.proposals.give_up_waiting, later)
    assert journal.live_encounters()[0].stage is Stage.STRANDED


# -- models on credit -------------------------------------------------------------------------------------------------


BETTER = Assessment(previous_correct=50, updated_correct=60, total=100)
WORSE = Assessment(previous_correct=50, updated_correct=20, total=100)
PREVIOUS = Model(data=b"own", digest=b"\xb2" * 32, age=3)
SNAPSHOT = snapshot.encode({"w": np.array([1, 2], dtype=np.float32)}, ARCHITECTURE, snapshot.Codec.FLOAT32)


def fetched(journal: Journal, begun: Begun, assessor: Assessor | None) -> Party:
    """A Learner that has just fetched an updated model on credit."""
    OwnModel(journal, PREVIOUS).move_on(PREVIOUS)
    journal.keep(SNAPSHOT.digest, SNAPSHOT.data)
    one = on_credit(begun, Role.LEARNER, stage=Stage.REPORTING, updated=SNAPSHOT.digest, updated_age=9)
    journal.record(one, effects=(Effect.ADOPT_ON_CREDIT,))
    learner = Party(journal, LEARNING, assessor)
    learner.gateway.views = [chain_view(EncounterState.NONE)]
    return learner


def test_a_learner_goes_on_from_what_its_own_data_speak_for(journal: Journal, begun: Begun) -> None:
    learner = fetched(journal, begun, FakeAssessor(BETTER))
    learner.live()
    assert learner.own.current.digest == learner.adapter.makes.digest
    assert ("adopted", True) in [(name, fields.get("on_credit")) for name, fields in learner.told]
    assert not learner.encounters.learning(away=True)  # the next one may begin


@pytest.mark.parametrize("assessor", [None, FakeAssessor(WORSE), FakeAssessor(WorkerDied("gone"))])
def test_anything_else_waits_for_the_votes(journal: Journal, begun: Begun, assessor: Assessor | None) -> None:
    learner = fetched(journal, begun, assessor)
    learner.live()
    assert learner.own.current == PREVIOUS
    settle(learner, verdict=True)
    assert learner.own.current.digest == learner.adapter.makes.digest


def settle(learner: Party, *, verdict: bool) -> None:
    learner.live(lambda: learner.encounters.apply(KEY, Happening.SETTLED, verdict=verdict, updated=SNAPSHOT.digest))


def test_what_the_validators_find_valid_is_not_adopted_twice(journal: Journal, begun: Begun) -> None:
    learner = fetched(journal, begun, FakeAssessor(BETTER))
    learner.live()
    settle(learner, verdict=True)
    assert [name for name, _ in learner.told].count("adopted") == 1


def test_what_the_validators_find_invalid_is_taken_back(journal: Journal, begun: Begun) -> None:
    fetched(journal, begun, FakeAssessor(BETTER)).live()
    again = Party(journal, LEARNING)  # after a restart
    settle(again, verdict=False)
    assert again.own.current == PREVIOUS
    assert [name for name, _ in again.told].count("taken back") == 1


def test_what_more_was_built_on_is_not_taken_back(journal: Journal, begun: Begun) -> None:
    learner = fetched(journal, begun, FakeAssessor(BETTER))
    learner.live()
    later = Model(data=b"later", digest=b"l" * 32, age=20)
    learner.own.move_on(later)
    settle(learner, verdict=False)
    assert learner.own.current == later


# -- what came too late -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refused", [None, "check in: the gateway says 422 would_revert: not enough stake"])
def test_what_nobody_brought_to_the_chain_in_time_is_explained(
    journal: Journal, begun: Begun, refused: str | None
) -> None:
    one = on_credit(begun, Role.NEIGHBOR, stage=Stage.STRANDED, reason=refused, done=frozenset({Effect.REPORT}))
    late = chain_view(EncounterState.NONE, chain_time_s=TERMS.open_by + 61)
    happening = seen_on_chain(one, late, rules=DEFAULT_PARAMETERS, grace_s=60)
    assert happening is Happening.NEVER_OPENED
    journal.record(one)
    neighbor = Party(journal)
    learned = learned_on_chain(one, happening, late)
    neighbor.live(
        lambda: neighbor.encounters.apply_on_chain(KEY, happening, now_s=late.chain_time_s, grace_s=60, **learned)
    )
    (lost,) = remembered(journal)["lost"]
    assert lost["on_credit"]
    assert lost["reward"] == str(TOKEN)
    assert lost["reason"].startswith("nobody brought it to the chain in time")
    assert (refused or "") in lost["reason"]
    assert neighbor.acquaintances.avoided(PEER)
