"""What devices see of an encounter, and which votes are asked of whom."""

from typing import Any

import pytest
from gateway_rig import ALICE, BOB, PERSONS, SALTS, UPDATED, Rig, untried
from hypothesis import given
from hypothesis import strategies as st

from contracts import calls
from contracts.deploy import reader
from contracts.panel import record
from contracts.settlement import DEFAULT_PARAMETERS
from contracts.states import EncounterState, VoteReason
from contracts.terms import Terms, terms_to_json
from gateway.records import Block, NewEvent
from gateway.views import EventRow, encounter_view, job_view

OTHER_DIGEST = bytes([9]) * 32
RULES = DEFAULT_PARAMETERS
VALIDATORS = PERSONS[2:]


@pytest.fixture
def field(rig: Rig) -> Rig:
    """Learner, Neighbor and six validators, all joined through the gateway."""
    for who in (ALICE, BOB):
        rig.join(who)
    for who in VALIDATORS:
        rig.join(who, validator=True)
    rig.step()
    return rig


def view(rig: Rig, agreed: Terms) -> dict[str, Any]:
    return rig.get(f"/v1/encounters/{rig.id(agreed)}")


def report(rig: Rig, agreed: Terms, who, updated: bytes = UPDATED) -> None:
    rig.done(who, calls.encode_report(agreed, updated, *SALTS))


def voting(rig: Rig) -> Terms:
    agreed = rig.terms()
    for who in (ALICE, BOB):
        rig.done(who, calls.encode_check_in(agreed))
    for who in (BOB, ALICE):
        report(rig, agreed, who)
    return agreed


def panel(rig: Rig, agreed: Terms) -> list:
    """Validators by position."""
    by_seat = {rig.get(f"/v1/accounts/{one.address}")["seat"]: one for one in VALIDATORS}
    return [by_seat[seat] for seat in view(rig, agreed)["panel"]]


def jobs(rig: Rig, who) -> list[dict[str, Any]]:
    return rig.get(f"/v1/jobs?validator={who.address}")["jobs"]


def vote(rig: Rig, agreed: Terms, position: int, *, valid: bool = True) -> None:
    encounter = bytes.fromhex(rig.id(agreed)[2:])
    call = calls.Vote(
        encounter=encounter,
        updated=UPDATED,
        panel=tuple(view(rig, agreed)["panel"]),
        position=position,
        valid=valid,
        reason=VoteReason.ACCURACY,
    )
    rig.done(panel(rig, agreed)[position], calls.encode(call))


def finalise(rig: Rig, agreed: Terms) -> None:
    rig.done(ALICE, calls.encode_finalise(agreed, UPDATED, tuple(view(rig, agreed)["panel"])))


def test_an_unknown_encounter_is_in_no_state(rig: Rig) -> None:
    shown = rig.get("/v1/encounters/0x" + "00" * 32)
    assert (shown["state"], shown["terms"], shown["updated"]) == ("none", None, None)


@pytest.mark.parametrize("first", [0, 1])
def test_half_a_check_in_names_its_side(field: Rig, first: int) -> None:
    agreed = field.terms()
    sides = (ALICE, BOB)
    field.done(sides[first], calls.encode_check_in(agreed))
    shown = view(field, agreed)
    assert shown["state"] == ("learner_checked_in", "neighbor_checked_in")[first]
    assert shown["checked_in"] == [sides[first].address]
    assert shown["terms"] == terms_to_json(agreed)
    field.done(sides[1 - first], calls.encode_check_in(agreed))
    shown = view(field, agreed)
    assert shown["state"] == "open"
    assert shown["checked_in"] == [sides[first].address, sides[1 - first].address]


def test_a_report_of_the_neighbor_voids_the_learners(field: Rig) -> None:
    agreed = field.terms()
    for who in (ALICE, BOB):
        field.done(who, calls.encode_check_in(agreed))
    report(field, agreed, ALICE, OTHER_DIGEST)
    shown = view(field, agreed)
    assert (shown["state"], shown["updated"]) == ("learner_reported", "0x" + OTHER_DIGEST.hex())
    report(field, agreed, BOB)
    shown = view(field, agreed)
    assert (shown["state"], shown["updated"]) == ("neighbor_reported", "0x" + UPDATED.hex())
    report(field, agreed, ALICE)
    shown = view(field, agreed)
    assert (shown["state"], shown["updated"]) == ("reported", "0x" + UPDATED.hex())
    assert len(shown["panel"]) == len(VALIDATORS)


def test_the_view_agrees_with_the_contract_all_the_way(field: Rig) -> None:
    read = reader(field.chain.web3, field.deployment)
    agreed = field.terms()
    encounter = bytes.fromhex(field.id(agreed)[2:])

    def check() -> None:
        shown, truth = view(field, agreed), read.encounter(encounter)
        assert EncounterState[shown["state"].upper()] is truth.state
        assert shown["yes"] + shown["no"] == (truth.votes if not truth.state.final else 3)
        if truth.state is EncounterState.REPORTED:
            updated = bytes.fromhex(shown["updated"][2:])
            assert truth.record == record(updated, shown["panel"])
        elif not truth.state.final and shown["updated"]:
            assert shown["updated"] == "0x" + truth.record.hex()

    check()
    for who in (ALICE, BOB):
        field.done(who, calls.encode_check_in(agreed))
        check()
    for who in (BOB, ALICE):
        report(field, agreed, who)
        check()
    for position, valid in enumerate([True, False, True]):
        vote(field, agreed, position, valid=valid)
        check()
    finalise(field, agreed)
    check()
    shown = view(field, agreed)
    assert (shown["yes"], shown["no"], shown["burned"]) == (2, 1, shown["burned"])
    assert [one["valid"] for one in shown["votes"]] == [True, False, True]


def test_an_encounter_that_expired_says_so(field: Rig) -> None:
    agreed = field.terms()
    field.done(ALICE, calls.encode_check_in(agreed))
    field.mine(agreed.open_by + 1)
    field.done(BOB, calls.encode_expire(agreed))
    assert view(field, agreed)["state"] == "expired"


def test_primary_seats_vote_at_once_and_standby_later(field: Rig) -> None:
    agreed = voting(field)
    since = view(field, agreed)["voting_since"]
    for position, who in enumerate(panel(field, agreed)):
        (job,) = jobs(field, who)
        waits = max(0, position - RULES.validators + 1)
        assert job["position"] == position
        assert job["opens_at_s"] == since + waits * RULES.standby_delay_s
        assert job["terms"] == terms_to_json(agreed)
        assert job["updated"] == "0x" + UPDATED.hex()
        assert job["panel"] == view(field, agreed)["panel"]
    assert jobs(field, ALICE) == []
    # The contract agrees on when a standby seat may vote.
    standby = RULES.validators
    opens_at = jobs(field, panel(field, agreed)[standby])[0]["opens_at_s"]
    field.mine(opens_at - 1)
    vote(field, agreed, standby)


def test_there_is_no_job_after_the_own_vote_and_none_for_anyone_after_the_last(field: Rig) -> None:
    agreed = voting(field)
    seats = panel(field, agreed)
    vote(field, agreed, 0)
    assert jobs(field, seats[0]) == []
    assert len(jobs(field, seats[1])) == 1
    vote(field, agreed, 1)
    vote(field, agreed, 2)
    assert [jobs(field, one) for one in seats] == [[]] * len(seats)


def test_there_is_no_job_when_the_time_is_over(field: Rig) -> None:
    agreed = voting(field)
    who = panel(field, agreed)[0]
    field.mine(view(field, agreed)["vote_by"] - 1)
    field.worker.confirm()
    assert len(jobs(field, who)) == 1
    field.mine(view(field, agreed)["vote_by"])
    field.worker.confirm()
    assert jobs(field, who) == []


def test_there_is_no_job_after_settlement(field: Rig) -> None:
    agreed = voting(field)
    who = panel(field, agreed)[3]
    field.mine(view(field, agreed)["vote_by"] + 1)
    finalise(field, agreed)
    assert field.store.open_votings(at_s=0) == []
    assert jobs(field, who) == []


REPORTED = {
    "id": "0x",
    "state": "reported",
    "terms": {},
    "updated": "0x",
    "panel": [4, 2, 7, 5],
    "votes": [],
    "sealed": [],
    "yes": 0,
    "no": 0,
    "vote_by": 1_000,
    "voting_since": 400,
}


@given(st.integers(1, 9), st.integers(0, 3), st.integers(0, 3), st.integers(1, 4), st.integers(0, 1_500))
def test_a_job_is_shown_exactly_while_the_contract_would_take_it(
    seat: int, yes: int, no: int, validators: int, now: int
) -> None:
    votes = [{"voter": f"0x{number}", "valid": number < yes} for number in range(yes + no)]
    job = job_view(
        REPORTED | {"yes": yes, "no": no, "votes": votes},
        validator="0xme",
        seat=seat,
        validators=validators,
        standby_delay_s=60,
        chain_time_s=now,
    )
    open_to_me = seat in REPORTED["panel"] and yes + no < validators and now < 1_000
    assert (job is not None) == open_to_me


def test_a_seat_that_is_lost_has_no_jobs_and_the_next_one_has(field: Rig) -> None:
    who = VALIDATORS[0]
    rows = [
        ("SeatVacated", {"validator": who.address, "seat": 1}),
        ("ValidatorRegistered", {"validator": who.address, "seat": 9}),
    ]
    agreed = voting(field)
    assert len(jobs(field, who)) == 1
    head = field.store.head()
    for number, (name, args) in enumerate(rows, start=1):
        event = NewEvent(
            transaction="0x", function="finalise", gas=1, name=name, encounter=None, account=who.address, args=args
        )
        block = Block(number=head.number + number, hash=f"0x{number}", time_s=head.time_s)
        field.store.consume(block, mined=[], events=[event], terms={}, salts={}, final_block=0)
        assert jobs(field, who) == []  # the panel has the seat that is lost
    assert len(jobs(field, VALIDATORS[1])) == 1
    assert view(field, agreed)["panel"].count(1) == 1


def test_a_sealed_vote_is_a_vote_before_it_is_opened() -> None:
    asked = {"seat": 4, "validators": 3, "standby_delay_s": 1, "chain_time_s": 0}
    sealed = REPORTED | {"sealed": ["0xa", "0xb"], "votes": [{"voter": "0xa", "valid": True}], "yes": 1}
    assert job_view(sealed, validator="0xb", **asked) is None
    assert job_view(sealed, validator="0xc", **asked) is not None
    assert job_view(sealed | {"sealed": ["0xa", "0xb", "0xd"]}, validator="0xc", **asked) is None


def test_salts_are_shown_once_a_report_reveals_them_also_one_that_came_to_nothing(field: Rig) -> None:
    agreed = field.terms()
    for who in (ALICE, BOB):
        field.done(who, calls.encode_check_in(agreed))
    raw = field.sign(BOB, calls.encode_report(agreed, UPDATED, SALTS[1], SALTS[0]), nonce=field.nonce(BOB))
    with untried(field):
        field.accepted(raw)
    field.step()
    assert view(field, agreed)["salts"] is None  # in the wrong order they are not those of the terms
    report(field, agreed, BOB)
    assert view(field, agreed)["salts"] == ["0x" + salt.hex() for salt in SALTS]
    field.worker.confirm()
    report(field, agreed, ALICE)
    assert view(field, agreed)["salts"] == ["0x" + salt.hex() for salt in SALTS]


def test_without_terms_there_is_nothing_to_judge() -> None:
    asked = {"validator": "0x", "seat": 4, "validators": 3, "standby_delay_s": 1, "chain_time_s": 0}
    assert job_view(REPORTED, **asked) is not None
    assert job_view(REPORTED | {"terms": None}, **asked) is None


def test_events_that_are_none_of_an_encounters_change_nothing() -> None:
    row = EventRow(
        number=1,
        block=1,
        block_time_s=1,
        transaction="0x",
        function="",
        gas=1,
        name="ReportVoided",
        encounter="0x",
        account=None,
        args={"encounter": "0x", "updated": "0x"},
    )
    assert encounter_view("0x", None, [row]) == encounter_view("0x", None, [])
