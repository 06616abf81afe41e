"""The life of a submission, as a table."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway
from gateway.submission import TERMINAL, TRANSITIONS, Happening, ImpossibleTransition, State, after, document

ORDER = [State.ACCEPTED, State.READY, State.BROADCAST, State.INCLUDED, *sorted(TERMINAL)]


def test_every_state_is_reached_from_accepted() -> None:
    reached, frontier = {State.ACCEPTED}, [State.ACCEPTED]
    while frontier:
        following = set(TRANSITIONS[frontier.pop()].values()) - reached
        reached |= following
        frontier += following
    assert reached == set(State)


def test_every_happening_has_an_arrow() -> None:
    assert {happening for exits in TRANSITIONS.values() for happening in exits} == set(Happening)


def test_the_only_arrow_back_is_a_reorganisation() -> None:
    back = [
        (state, happening, to)
        for state, exits in TRANSITIONS.items()
        for happening, to in exits.items()
        if ORDER.index(to) < ORDER.index(state)
    ]
    assert back == [(State.INCLUDED, Happening.REORGED, State.BROADCAST)]


@given(st.lists(st.sampled_from(Happening)))
def test_what_is_terminal_stays(happenings: list[Happening]) -> None:
    state = State.ACCEPTED
    for happening in happenings:
        if happening in TRANSITIONS[state]:
            assert state not in TERMINAL
            state = after(state, happening)
        else:
            with pytest.raises(ImpossibleTransition, match=state.value):
                after(state, happening)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_nothing_can_happen_to_what_is_terminal(state: State) -> None:
    for happening in Happening:
        with pytest.raises(ImpossibleTransition):
            after(state, happening)


def test_the_diagram_is_fresh() -> None:
    written = (Path(gateway.__file__).parent / "submission.md").read_text()
    assert written == document(), "run `python -m gateway.submission > gateway/submission.md`"
