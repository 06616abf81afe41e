"""The table of `encounter.py`, and what a state on chain means for either side."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_rig import chain_view
from agent_values import LEARNER_SALT, NEIGHBOR_SALT, OPEN_BY, REPORT_BY, VOTE_BY
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.settlement import DEFAULT_PARAMETERS
from contracts.states import EncounterState
from device_agent import encounter as module
from device_agent.encounter import (
    TERMINAL,
    TRANSITIONS,
    ChainView,
    Effect,
    Encounter,
    Happening,
    Role,
    Stage,
    diagram,
    learned_on_chain,
    seen_on_chain,
    step,
)

GRACE_S = 60
Begun = Callable[..., Encounter]

FIRST = {Role.LEARNER: Stage.PROPOSED, Role.NEIGHBOR: Stage.CHECKING_IN}
FIRST_EFFECTS = {Role.LEARNER: {Effect.PROPOSE}, Role.NEIGHBOR: {Effect.ACCEPT, Effect.CHECK_IN}}
BY_CHAIN = {
    Happening.NEVER_OPENED,
    Happening.OVERDUE,
    Happening.REPORT_OVERDUE,
    Happening.VOTING_STARTED,
    Happening.VOTED,
    Happening.SETTLED,
    Happening.EXPIRED,
}
ARRIVED = {Happening.UPDATED_ARRIVED, Happening.ARRIVED_ON_CREDIT}
ON_CHAIN_EFFECTS = {Effect.CHECK_IN, Effect.REPORT, Effect.CLOSE_REPORTING, Effect.FINALISE, Effect.EXPIRE}


def reachable(role: Role, first: Stage, by: set[Happening]) -> set[Stage]:
    """Return the stages to which `by` can lead."""
    found, waiting = {first}, deque([first])
    while waiting:
        for happening, (after, _) in TRANSITIONS[role][waiting.popleft()].items():
            if happening in by and after not in found:
                found.add(after)
                waiting.append(after)
    return found


@pytest.mark.parametrize("role", Role)
def test_every_stage_of_a_role_can_be_reached(role: Role) -> None:
    assert reachable(role, FIRST[role], set(Happening)) == set(TRANSITIONS[role])


@pytest.mark.parametrize("role", Role)
def test_a_terminal_stage_has_no_exit_and_every_other_has_one_by_the_chain(role: Role) -> None:
    for stage, row in TRANSITIONS[role].items():
        if stage in TERMINAL:
            assert row == {}
        elif stage is Stage.PROPOSED:
            assert row[Happening.FAILED][0] in TERMINAL  # nothing of it is on chain yet
        else:
            for end in (Stage.SETTLED, Stage.EXPIRED):
                assert end in reachable(role, stage, BY_CHAIN), stage


@pytest.mark.parametrize("role", Role)
def test_only_an_end_concludes_and_every_end_does(role: Role) -> None:
    for row in TRANSITIONS[role].values():
        for after, effects in row.values():
            assert (Effect.CONCLUDE in effects) is (after in TERMINAL)


def test_a_learner_reveals_its_salt_for_an_offer_only_and_a_neighbor_for_a_salt_only() -> None:
    for role, trigger in ((Role.LEARNER, Happening.OFFERED), (Role.NEIGHBOR, Happening.REVEALED)):
        for row in TRANSITIONS[role].values():
            for happening, (_, effects) in row.items():
                if Effect.REVEAL in effects:
                    assert happening is trigger
                if Effect.REPORT in effects:
                    assert happening in (ARRIVED if role is Role.LEARNER else {Happening.REVEALED})


def test_a_neighbor_that_has_reported_is_not_stranded_by_a_lost_learner(begun: Begun) -> None:
    one = begun(Role.NEIGHBOR, stage=Stage.REPORTING)
    after, due = step(one, Happening.FAILED) or pytest.fail("out of place")
    assert (after.stage, due) == (Stage.REPORTING, ())


class Life(RuleBasedStateMachine):
    """Anything may happen at any time, to either role; what is due is due once."""

    role: Role
    fixture: Encounter

    def __init__(self) -> None:
        super().__init__()
        self.one = dataclasses.replace(self.fixture, done=frozenset(FIRST_EFFECTS[self.role]))
        self.due: list[Effect] = sorted(FIRST_EFFECTS[self.role])
        self.was_over = False

    @rule(happening=st.sampled_from(Happening))
    def happens(self, happening: Happening) -> None:
        before = self.one
        result = step(before, happening)
        if happening not in TRANSITIONS[self.role][before.stage]:
            assert result is None
        elif result is None:
            assert before.stage is Stage.STRANDED
            assert happening in {Happening.OFFERED, Happening.REVEALED}
        if result is not None:
            assert before.live
            self.one, due = result
            self.due += due

    @precondition(lambda self: self.one.live)
    @rule(data=st.data())
    def goes_on(self, data: st.DataObject) -> None:
        row = TRANSITIONS[self.role][self.one.stage]
        on = [happening for happening, (after, _) in row.items() if after not in TERMINAL]
        self.happens(data.draw(st.sampled_from(on)))

    @precondition(lambda self: self.one.live and self.one.stage is not Stage.PROPOSED)
    @rule(end=st.sampled_from([Happening.SETTLED, Happening.EXPIRED]))
    def ends_by_the_chain(self, end: Happening) -> None:
        after, due = step(self.one, end) or pytest.fail("the chain's word is out of place")
        assert not after.live
        assert due == (Effect.CONCLUDE,)
        self.one = after
        self.due += due

    @invariant()
    def each_effect_is_due_once(self) -> None:
        assert len(self.due) == len(set(self.due))
        assert self.one.done == set(self.due)

    @invariant()
    def over_is_concluded(self) -> None:
        assert (Effect.CONCLUDE in self.due) is not self.one.live


@pytest.mark.parametrize("role", Role)
def test_whatever_happens_each_effect_is_due_once(role: Role, begun: Begun) -> None:
    case = type("Life", (Life,), {"role": role, "fixture": begun(role)}).TestCase
    case.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
    case().runTest()


def test_a_transaction_is_due_once_however_often_its_reason_is_seen(begun: Begun) -> None:
    for stage, happening, effect in (
        (Stage.OPEN, Happening.OVERDUE, Effect.EXPIRE),
        (Stage.VOTING, Happening.VOTED, Effect.FINALISE),
        (Stage.REPORTING, Happening.REPORT_OVERDUE, Effect.CLOSE_REPORTING),
    ):
        one = begun(Role.NEIGHBOR, stage=stage)
        for expected in ((effect,), (), ()):
            one, due = step(one, happening) or pytest.fail("out of place")
            assert due == expected


def go(one: Encounter, *happenings: Happening) -> tuple[Encounter, list[Effect]]:
    """Let happen one after the other what is in place; return what follows and everything that was due."""
    effects: list[Effect] = []
    for happening in happenings:
        one, due = step(one, happening) or pytest.fail(f"{happening} is out of place for {one.stage}")
        effects += due
    return one, effects


def test_two_sides_go_through_a_whole_encounter(begun: Begun) -> None:
    learner, does = go(
        begun(Role.LEARNER),
        Happening.ACCEPTED,
        Happening.OPENED,
        Happening.OFFERED,
        Happening.REVEALED,
        Happening.UPDATED_ARRIVED,
        Happening.VOTING_STARTED,
        Happening.VOTED,
        Happening.SETTLED,
    )
    assert learner.stage is Stage.SETTLED
    assert does == [
        Effect.CHECK_IN,
        Effect.UPLOAD_PREVIOUS,
        Effect.REVEAL,
        Effect.FETCH_UPDATED,
        Effect.REPORT,
        Effect.FINALISE,
        Effect.CONCLUDE,
    ]
    neighbor, does = go(
        begun(Role.NEIGHBOR, done=frozenset(FIRST_EFFECTS[Role.NEIGHBOR])),
        Happening.OPENED,
        Happening.PREVIOUS_ARRIVED,
        Happening.WORKED,
        Happening.REVEALED,
        Happening.VOTING_STARTED,
        Happening.SETTLED,
    )
    assert neighbor.stage is Stage.SETTLED
    assert does == [
        Effect.FETCH_PREVIOUS,
        Effect.WORK,
        Effect.OFFER,
        Effect.REVEAL,
        Effect.REPORT,
        Effect.UPLOAD_UPDATED,
        Effect.UPLOAD_PREVIOUS,
        Effect.CONCLUDE,
    ]


def test_on_credit_nothing_goes_on_chain_before_the_work_was_handed_over(begun: Begun) -> None:
    learner, does = go(begun(Role.LEARNER), Happening.ACCEPTED_ON_CREDIT, Happening.OFFERED, Happening.REVEALED)
    assert does == [Effect.AGREE, Effect.REVEAL, Effect.FETCH_UPDATED]
    learner, does = go(learner, Happening.ARRIVED_ON_CREDIT, Happening.SETTLED)
    assert does == [
        Effect.CHECK_IN,
        Effect.REPORT,
        Effect.UPLOAD_PREVIOUS,
        Effect.ADOPT_ON_CREDIT,
        Effect.CONCLUDE,
    ]
    neighbor, does = go(
        begun(Role.NEIGHBOR, done=frozenset({Effect.ACCEPT})),
        Happening.AGREED,
        Happening.PREVIOUS_ARRIVED,
        Happening.WORKED,
    )
    assert does == [Effect.FETCH_PREVIOUS, Effect.WORK, Effect.OFFER]
    neighbor, does = go(neighbor, Happening.REVEALED)
    assert does == [
        Effect.REVEAL,
        Effect.CHECK_IN,
        Effect.REPORT,
        Effect.UPLOAD_UPDATED,
        Effect.UPLOAD_PREVIOUS,
    ]


def test_a_stranded_encounter_goes_on_with_what_a_peer_that_is_back_says(begun: Begun) -> None:
    def stranded(role: Role, *happenings: Happening) -> Encounter:
        first = begun(role, done=frozenset(FIRST_EFFECTS[role]))
        one, _ = go(first, *happenings, Happening.FAILED)
        assert one.stage is Stage.STRANDED
        return dataclasses.replace(one, updated=b"u" * 32)

    opened = (Happening.ACCEPTED, Happening.OPENED)
    learner = stranded(Role.LEARNER, *opened)
    learner, due = go(learner, Happening.OFFERED, Happening.REVEALED)
    assert due == [Effect.REVEAL, Effect.FETCH_UPDATED]
    learner = stranded(Role.LEARNER, *opened, Happening.OFFERED)
    assert go(learner, Happening.REVEALED)[1] == [Effect.FETCH_UPDATED]
    worked = (Happening.OPENED, Happening.PREVIOUS_ARRIVED, Happening.WORKED)
    neighbor = stranded(Role.NEIGHBOR, *worked)
    neighbor, due = go(neighbor, Happening.REVEALED)
    assert due[:2] == [Effect.REVEAL, Effect.REPORT]


def test_what_failed_once_it_was_said_is_not_taken_up_again(begun: Begun) -> None:
    learner, _ = go(
        begun(Role.LEARNER),
        Happening.ACCEPTED,
        Happening.OPENED,
        Happening.OFFERED,
        Happening.REVEALED,
        Happening.FAILED,
    )
    learner = dataclasses.replace(learner, updated=b"u" * 32)
    assert step(learner, Happening.OFFERED) is None
    assert step(learner, Happening.REVEALED) is None
    neighbor, _ = go(begun(Role.NEIGHBOR), Happening.OPENED, Happening.FAILED)
    assert step(neighbor, Happening.REVEALED) is None  # there is no work to be paid for


def test_what_was_learned_is_kept_and_salts_are_in_order_on_both_sides(begun: Begun) -> None:
    for role in Role:
        one = begun(role, stage=Stage.OFFERED)
        with pytest.raises(ValueError, match="salt is not known"):
            _ = one.salts
        theirs = NEIGHBOR_SALT if role is Role.LEARNER else LEARNER_SALT
        after, _ = step(one, Happening.REVEALED, peer_salt=theirs) or pytest.fail("out of place")
        assert after.salts == (LEARNER_SALT, NEIGHBOR_SALT)


def test_a_salt_fits_only_the_terms_that_are_about_it_and_its_side(begun: Begun) -> None:
    for role, theirs in ((Role.LEARNER, NEIGHBOR_SALT), (Role.NEIGHBOR, LEARNER_SALT)):
        one = begun(role)
        assert one.fits(theirs)
        assert not one.fits(one.salt)
        assert not one.fits(bytes(32))
        assert not dataclasses.replace(one, salt=bytes(32)).fits(theirs)
        assert not dataclasses.replace(one, terms=None).fits(theirs)


def test_the_diagrams_are_fresh() -> None:
    text = Path(module.__file__).with_name("encounter.md").read_text()
    for role in Role:
        assert f"```mermaid\n{diagram(role)}```\n" in text, "write encounter.md anew: see diagram()"


def view(state: EncounterState, now_s: int, *, yes: int = 0, no: int = 0) -> ChainView:
    vote_by = VOTE_BY if state is EncounterState.REPORTED else None
    salts = (LEARNER_SALT, NEIGHBOR_SALT) if state is EncounterState.NEIGHBOR_REPORTED else None
    return chain_view(state, salts=salts, yes=yes, no=no, vote_by=vote_by, chain_time_s=now_s)


L, N = Role.LEARNER, Role.NEIGHBOR
S, H = EncounterState, Happening
CASES = [
    # role, stage, state, last quiet second (None = none), what is seen after it, what before it
    (L, Stage.CHECKING_IN, S.NONE, OPEN_BY + GRACE_S, H.NEVER_OPENED, None),
    (N, Stage.CHECKING_IN, S.NONE, OPEN_BY + GRACE_S, H.NEVER_OPENED, None),
    (L, Stage.CHECKING_IN, S.LEARNER_CHECKED_IN, OPEN_BY, H.OVERDUE, None),
    (N, Stage.CHECKING_IN, S.LEARNER_CHECKED_IN, OPEN_BY + GRACE_S, H.OVERDUE, None),
    (L, Stage.CHECKING_IN, S.NEIGHBOR_CHECKED_IN, OPEN_BY, H.OVERDUE, None),
    (N, Stage.CHECKING_IN, S.NEIGHBOR_CHECKED_IN, OPEN_BY + GRACE_S, H.OVERDUE, None),
    (L, Stage.CHECKING_IN, S.OPEN, REPORT_BY, H.OVERDUE, H.OPENED),
    (N, Stage.CHECKING_IN, S.OPEN, REPORT_BY + GRACE_S, H.OVERDUE, H.OPENED),
    (L, Stage.OPEN, S.OPEN, REPORT_BY, H.OVERDUE, None),
    (N, Stage.OFFERED, S.OPEN, REPORT_BY + GRACE_S, H.OVERDUE, None),
    (L, Stage.REPORTING, S.LEARNER_REPORTED, REPORT_BY, H.OVERDUE, None),
    (N, Stage.WORKING, S.LEARNER_REPORTED, REPORT_BY + GRACE_S, H.OVERDUE, None),
    (N, Stage.REPORTING, S.NEIGHBOR_REPORTED, REPORT_BY, H.REPORT_OVERDUE, None),
    (L, Stage.FETCHING, S.NEIGHBOR_REPORTED, REPORT_BY + GRACE_S, H.REPORT_OVERDUE, None),
    (L, Stage.REPORTING, S.REPORTED, None, H.VOTING_STARTED, None),
    (N, Stage.STRANDED, S.REPORTED, None, H.VOTING_STARTED, None),
    (L, Stage.VOTING, S.REPORTED, VOTE_BY, H.VOTED, None),
    (N, Stage.VOTING, S.REPORTED, VOTE_BY + GRACE_S, H.VOTED, None),
    (L, Stage.VOTING, S.SETTLED, None, H.SETTLED, None),
    (N, Stage.OPEN, S.EXPIRED, None, H.EXPIRED, None),
]


@pytest.mark.parametrize(("role", "stage", "state", "last_s", "after", "before"), CASES)
def test_a_state_on_chain_means_what_is_due_to_the_second(
    begun: Begun,
    role: Role,
    stage: Stage,
    state: EncounterState,
    last_s: int | None,
    after: Happening,
    before: Happening | None,
) -> None:
    one = begun(role, stage=stage)

    def seen(now_s: int) -> Happening | None:
        return seen_on_chain(one, view(state, now_s), rules=DEFAULT_PARAMETERS, grace_s=GRACE_S)

    if last_s is None:
        assert seen(0) is after
    else:
        assert seen(last_s) is before
        assert seen(last_s + 1) is after
        assert after in TRANSITIONS[role][stage]
    assert seen(10**9) is after


def test_every_state_on_chain_is_covered() -> None:
    assert {case[2] for case in CASES} == set(EncounterState)


@pytest.mark.parametrize(
    ("yes", "no", "at_once"), [(2, 1, Role.NEIGHBOR), (3, 0, Role.NEIGHBOR), (1, 2, Role.LEARNER), (0, 3, Role.LEARNER)]
)
def test_who_gains_by_a_complete_vote_finalises_it_at_once(begun: Begun, yes: int, no: int, at_once: Role) -> None:
    for role in Role:
        one = begun(role, stage=Stage.VOTING)
        found = seen_on_chain(one, view(S.REPORTED, 0, yes=yes, no=no), rules=DEFAULT_PARAMETERS, grace_s=GRACE_S)
        assert found is (H.VOTED if role is at_once else None)


def test_an_incomplete_vote_waits_for_its_end(begun: Begun) -> None:
    one = begun(Role.NEIGHBOR, stage=Stage.VOTING)
    for now_s, found in ((VOTE_BY, None), (VOTE_BY + 1, H.VOTED)):
        assert seen_on_chain(one, view(S.REPORTED, now_s, yes=2), rules=DEFAULT_PARAMETERS, grace_s=GRACE_S) is found


def test_what_a_payment_needs_is_taken_from_the_newest_view(begun: Begun) -> None:
    one = begun(Role.NEIGHBOR, stage=Stage.REPORTING, updated=b"u" * 32)
    for happening, panel in ((H.VOTING_STARTED, (4, 2)), (H.VOTED, (4, 7))):
        found = learned_on_chain(one, happening, chain_view(S.REPORTED, updated=b"v" * 32, panel=panel))
        one, _ = step(one, happening, **found) or pytest.fail("out of place")
        assert (one.judged, one.panel, one.updated) == (b"v" * 32, panel, b"u" * 32)


def test_a_learner_that_never_got_the_neighbors_salt_closes_with_the_one_from_the_chain(begun: Begun) -> None:
    one = begun(Role.LEARNER, stage=Stage.STRANDED)
    late = {"chain_time_s": REPORT_BY + GRACE_S + 1}
    for salts in (None, (LEARNER_SALT, b"?" * 32), (NEIGHBOR_SALT, LEARNER_SALT)):
        wrong = chain_view(S.NEIGHBOR_REPORTED, salts=salts, **late)
        assert seen_on_chain(one, wrong, rules=DEFAULT_PARAMETERS, grace_s=GRACE_S) is None
    good = chain_view(S.NEIGHBOR_REPORTED, salts=(LEARNER_SALT, NEIGHBOR_SALT), **late)
    assert seen_on_chain(one, good, rules=DEFAULT_PARAMETERS, grace_s=GRACE_S) is H.REPORT_OVERDUE
    after, due = step(one, H.REPORT_OVERDUE, **learned_on_chain(one, H.REPORT_OVERDUE, good)) or pytest.fail("no")
    assert due == (Effect.CLOSE_REPORTING,)
    assert after.salts == (LEARNER_SALT, NEIGHBOR_SALT)


def test_an_encounter_without_terms_is_nowhere_on_chain(begun: Begun) -> None:
    one = begun(Role.LEARNER, terms=None)
    assert seen_on_chain(one, view(S.SETTLED, 0), rules=DEFAULT_PARAMETERS, grace_s=GRACE_S) is None
