"""What a device remembers of its peers, and what it makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from agent_rig import NOW_S, Party
from agent_values import LEARNING, proposal
from hypothesis import given
from hypothesis import strategies as st
from test_agent_proposals import GOOD, Rig

from device_agent.acquaintances import HALF_LIFE_S, STRANGER, Acquaintances, Deed, deed_of
from device_agent.encounter import Effect, Encounter, Happening, Role, Stage
from device_agent.errors import PeerFault
from device_agent.journal import Journal
from device_agent.link import Greeting
from device_agent.messages import Decline, Refusal
from device_agent.neighborhood import Neighborhood
from device_agent.presence import Presence
from device_agent.radio import Endpoint, PeerId, RadioId

Begun = Callable[..., Encounter]
PEER = PeerId("peer")


class Clock:
    """Goes as it is told."""

    def __init__(self) -> None:
        self.now_s = 1e9

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(journal: Journal, clock: Clock) -> Acquaintances:
    return Acquaintances(journal, clock, avoid_below=-2)


# -- deeds and what they weigh ----------------------------------------------------------------------------------------


def test_a_stranger_that_begins_with_a_cheat_is_avoided_until_that_has_faded(
    known: Acquaintances, clock: Clock
) -> None:
    assert not known.avoided(PEER)
    known.did(PEER, Deed.CHEATED)
    assert known.avoided(PEER)
    assert not known.avoided(PeerId("other"))
    clock.now_s += HALF_LIFE_S
    assert not known.avoided(PEER)
    known.did(PEER, Deed.CHEATED)  # what has faded is not forgotten
    clock.now_s += HALF_LIFE_S / 3
    assert known.avoided(PEER)


def test_who_helped_before_may_fail_once_but_cannot_cheat_for_long(known: Acquaintances) -> None:
    for _ in range(1000):
        known.did(PEER, Deed.HELPED)
    cheated = 0
    while not known.avoided(PEER):
        known.did(PEER, Deed.CHEATED)
        cheated += 1
    assert cheated == 3


def test_honest_work_that_is_found_invalid_one_time_in_four_keeps_nobody_away(known: Acquaintances) -> None:
    for _ in range(100):
        for deed in (Deed.HELPED, Deed.HELPED, Deed.HELPED, Deed.CHEATED):
            known.did(PEER, deed)
            assert not known.avoided(PEER)


def test_a_debt_that_is_not_paid_weighs_more_than_a_run_of_bad_luck(known: Acquaintances) -> None:
    for _ in range(4):
        known.did(PEER, Deed.WASTED)
    assert not known.avoided(PEER)
    known.did(PeerId("debtor"), Deed.DEFAULTED)
    assert known.avoided(PeerId("debtor"))


@given(st.lists(st.tuples(st.sampled_from(Deed), st.floats(-1e7, 1e7)), max_size=40))
def test_whatever_a_clock_does_a_score_stays_in_bounds_and_fades_to_nothing(deeds: list[tuple[Deed, float]]) -> None:
    one, now_s = STRANGER, 1e9
    for deed, passed_s in deeds:
        now_s += passed_s
        one = one.did(deed, now_s)
        assert -16 <= one.score <= 4
    assert abs(one.score_at(now_s + 40 * HALF_LIFE_S)) < 1e-9
    assert abs(one.score_at(now_s - 1e7)) <= abs(one.score)


@pytest.mark.parametrize(
    ("role", "stage", "done", "happening", "verdict", "deed"),
    [
        (Role.LEARNER, Stage.VOTING, (), Happening.SETTLED, True, Deed.HELPED),
        (Role.LEARNER, Stage.VOTING, (), Happening.SETTLED, False, Deed.CHEATED),
        (Role.LEARNER, Stage.VOTING, (), Happening.SETTLED, None, None),
        (Role.NEIGHBOR, Stage.VOTING, (), Happening.SETTLED, True, Deed.PAID),
        (Role.NEIGHBOR, Stage.VOTING, (), Happening.SETTLED, False, None),
        (Role.LEARNER, Stage.FETCHING, (Effect.REVEAL,), Happening.EXPIRED, None, Deed.WITHHELD),
        (Role.LEARNER, Stage.OPEN, (), Happening.EXPIRED, None, Deed.WASTED),
        (Role.NEIGHBOR, Stage.OFFERED, (Effect.OFFER,), Happening.EXPIRED, None, Deed.WASTED),
        (Role.NEIGHBOR, Stage.WORKING, (), Happening.EXPIRED, None, None),
        (Role.NEIGHBOR, Stage.CHECKING_IN, (), Happening.NEVER_OPENED, None, Deed.WASTED),
        (Role.LEARNER, Stage.CHECKING_IN, (), Happening.NEVER_OPENED, None, None),
        (Role.LEARNER, Stage.OPEN, (), Happening.FAILED, None, None),
    ],
)
def test_what_an_end_says_of_the_peer(
    begun: Begun,
    role: Role,
    stage: Stage,
    done: tuple[Effect, ...],
    happening: Happening,
    verdict: bool | None,
    deed: Deed | None,
) -> None:
    before = begun(role, stage=stage, done=frozenset(done))
    assert deed_of(before, happening, replace(before, verdict=verdict)) is deed


def test_work_on_credit_that_nobody_opened_is_a_debt(begun: Begun) -> None:
    done = frozenset({Effect.REPORT})
    before = begun(Role.NEIGHBOR, stage=Stage.REPORTING, done=done, proposal=proposal(credit=True, nonce=8))
    assert deed_of(before, Happening.NEVER_OPENED, before) is Deed.DEFAULTED


# -- what follows -----------------------------------------------------------------------------------------------------


def test_a_verdict_against_a_neighbor_is_remembered(journal: Journal, begun: Begun) -> None:
    one = begun(Role.LEARNER, stage=Stage.VOTING)
    journal.record(one)
    learner = Party(journal, LEARNING)
    learner.live(lambda: learner.encounters.apply(one.key, Happening.SETTLED, verdict=False))
    assert Party(journal, LEARNING).acquaintances.avoided(PEER)  # after a restart too


@pytest.mark.parametrize(("fault", "score"), [(PeerFault("other bytes"), -1.5), (None, -1.5)])
def test_who_sends_other_bytes_than_agreed_is_remembered_for_it(
    journal: Journal, begun: Begun, fault: Exception | None, score: float
) -> None:
    journal.record(begun(Role.NEIGHBOR, stage=Stage.OPEN), effects=(Effect.FETCH_PREVIOUS,))
    neighbor = Party(journal)
    neighbor.link.fault, neighbor.link.data = fault, b"no snapshot"
    neighbor.live()
    assert neighbor.acquaintances.score(PEER) == score


def test_an_avoided_peer_is_not_asked_and_gets_a_no(journal: Journal) -> None:
    rig = Rig(journal)
    rig.party.acquaintances.did(PEER, Deed.DEFAULTED)
    assert rig.party.acquaintances.avoided(PEER)
    rig.party.live(lambda: asyncio.ensure_future(rig.proposals.seek()))
    assert journal.live_encounters() == []
    (answer,) = rig.answers((PEER, proposal(**GOOD)))
    assert isinstance(answer, Decline)
    assert answer.reason is Refusal.AVOIDED


def test_lengths_of_contacts_survive_a_restart(journal: Journal) -> None:
    party = Party(journal)
    near = Neighborhood(lost_after_s=20, usual_contact_s=120, ping_every_s=8, past_contacts_s=lambda _: ())
    presence = Presence(
        radios=(),
        link=party.link,  # type: ignore[arg-type]
        neighborhood=near,
        acquaintances=party.acquaintances,
        clock=party.clock,
        contacts=None,
        observe=party.observe,
    )
    for at_s in (NOW_S, NOW_S + 30):
        party.clock.now_s = at_s
        presence.met(greeted())
    party.clock.now_s += 1000
    presence.look()
    assert Acquaintances(journal, lambda: 0.0, avoid_below=-2).of(PEER).contacts_s == (30,)


def greeted() -> Greeting:
    return Greeting(peer=PEER, radio_id=RadioId("id"), endpoint=Endpoint(host="h", port=1))


def test_a_few_contacts_are_remembered_and_a_crowd_of_peers_in_part(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "crowd.sqlite")
    seen = Clock()
    known = Acquaintances(journal, seen, avoid_below=-2)
    for number in range(30):
        known.met(PEER, number)
    assert known.of(PEER).contacts_s == tuple(range(14, 30))
    for number in range(1100):
        seen.now_s += 1
        known.met(PeerId(f"p{number}"), 1)
    assert known.of(PEER) == STRANGER
    assert known.of(PeerId("p1099")).contacts_s == (1,)
    journal.close()
