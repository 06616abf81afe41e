"""Which call of a batch said what, also where a relayer makes it hard to tell."""

from dataclasses import replace

import pytest
from gateway_rig import SALTS, UPDATED
from signed_calls import act, ballot, opening
from test_gateway_operation import AGREED, ALICE, BOB, DOMAIN, PERSONS

from contracts import calls, events, reverts, signing
from contracts.states import ActionKind, EncounterState
from contracts.terms import encounter_id
from gateway.batch import Told, told_by

OTHER = replace(AGREED, nonce=17)
ID, OTHER_ID = (encounter_id(one, DOMAIN) for one in (AGREED, OTHER))
VOTERS = PERSONS[2:5]
FAILED = calls.encode(calls.Withdraw())
SKIPPED = reverts.NotOpen.selector() + ID


def settle(verdicts: tuple[bool, ...] = (True, False, True), agreed: object = AGREED) -> calls.Settle:
    votes = [ballot(AGREED, DOMAIN, who, valid=valid) for who, valid in zip(VOTERS, verdicts, strict=True)]
    return calls.Settle(
        terms=AGREED,
        updated=UPDATED,
        learner_salt=SALTS[0],
        neighbor_salt=SALTS[1],
        evidence=signing.evidence(bytes(64), [(one.valid, one.reason, one.r + one.vs) for one in votes]),
    )


def garbage() -> calls.Settle:
    return replace(settle(), evidence=b"\xff" * 130)


def told(called: list[calls.Call | None], *found: events.Event) -> list[Told]:
    return list(told_by(called, found, DOMAIN))


PAID = events.Settled(encounter=ID, yes=2, no=1, burned=0)
CAST = [
    events.VoteCast(encounter=ID, voter=who.address, valid=valid, reason=0)
    for who, valid in zip(VOTERS, (True, False, True), strict=True)
]


@pytest.mark.parametrize("called", [[settle()], [opening(OTHER, DOMAIN, ALICE, BOB), settle()]])
def test_a_settlement_in_one_step_tells_its_votes_and_its_digest(called: list[calls.Call | None]) -> None:
    found = told(called, PAID)
    assert [one.event for one in found] == [*CAST, PAID]
    assert found[-1].beside == {"updated": UPDATED}
    assert {(one.place, one.function) for one in found} == {(len(called) - 1, "settle")}


def test_each_event_goes_to_its_own_call() -> None:
    called: list[calls.Call | None] = [
        act(VOTERS[0], DOMAIN, ActionKind.STAKE, nonce=1),
        act(VOTERS[1], DOMAIN, ActionKind.STAKE, nonce=1),
        opening(OTHER, DOMAIN, ALICE, BOB),
        None,
        *(ballot(AGREED, DOMAIN, who) for who in VOTERS),
        calls.Expire(terms=OTHER),
    ]
    found = told(
        called,
        events.Staked(account=VOTERS[1].address, amount=1, free=1),
        events.Opened(encounter=OTHER_ID),
        *CAST,
        events.Expired(encounter=OTHER_ID, state=EncounterState.OPEN),
    )
    assert [(one.place, one.function) for one in found] == [
        (1, "act"),
        (2, "openSigned"),
        (4, "voteSigned"),
        (5, "voteSigned"),
        (6, "voteSigned"),
        (7, "expire"),
    ]


def test_a_seat_that_is_lost_by_a_settlement_is_told_of_it() -> None:
    lost = events.SeatVacated(validator=VOTERS[1].address, seat=4)
    found = told([opening(OTHER, DOMAIN, ALICE, BOB), settle()], events.Opened(encounter=OTHER_ID), lost, PAID)
    assert [(one.place, type(one.event).__name__) for one in found if one.place == 1] == [
        (1, "SeatVacated"),
        *[(1, "VoteCast")] * 3,
        (1, "Settled"),
    ]


@pytest.mark.parametrize("decoy", [garbage(), settle((False, True, True))])
def test_a_call_that_was_skipped_tells_nothing(decoy: calls.Settle) -> None:
    found = told([decoy, settle()], events.Skipped(index=0, reason=SKIPPED), PAID)
    assert (found[0].place, found[0].beside["encounter"]) == (0, ID)
    assert "NotOpen" in str(found[0].beside["error"])
    assert [one.event for one in found[1:]] == [*CAST, PAID]
    late = told([settle(), decoy], PAID, events.Skipped(index=1, reason=SKIPPED))
    assert [one.event for one in late[:-1]] == [*CAST, PAID]


def test_a_batch_in_a_batch_tells_events_but_no_votes() -> None:
    inner = calls.Batch(calls=(calls.encode(settle()),))
    found = told([inner, garbage()], PAID, events.Skipped(index=1, reason=SKIPPED))
    assert [one.event for one in found] == [PAID, events.Skipped(index=1, reason=SKIPPED)]
    assert {one.function for one in found} == {""}


def test_events_of_another_contracts_call_have_no_function() -> None:
    assert [(one.place, one.function, one.event) for one in told([], PAID)] == [(0, "", PAID)]
