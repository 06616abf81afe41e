"""When a radio listens and when it rests to save power."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.radio.duty_cycle import MOST_PER_MIN, WINDOW_S, DutyCycle, duty_of

CYCLES = st.floats(0.1, MOST_PER_MIN - 0.01).map(duty_of)


@given(CYCLES, st.floats(0, 1e6))
def test_each_period_has_one_whole_window(cycle: DutyCycle, passed_s: float) -> None:
    begins_s = passed_s // cycle.period_s * cycle.period_s
    assert cycle.listens(begins_s + cycle.window_s / 2)
    assert not cycle.listens(begins_s + (cycle.window_s + cycle.period_s) / 2)


@given(CYCLES, st.floats(0, 1e5))
def test_it_changes_when_it_says(cycle: DutyCycle, passed_s: float) -> None:
    change_s = passed_s + cycle.changes_in_s(passed_s)
    assert cycle.listens(passed_s) is cycle.listens(max(passed_s, change_s - 0.001))
    assert cycle.listens(change_s + 0.001) is not cycle.listens(passed_s)


@pytest.mark.parametrize(("per_min", "share"), [(2, 0.35), (1, 0.175), (0.5, 0.0875), (0.2, 0.035)])
def test_the_readme_table_is_what_is_done(per_min: float, share: float) -> None:
    cycle = duty_of(per_min)
    assert cycle.window_s == WINDOW_S
    assert WINDOW_S / cycle.period_s == pytest.approx(share)


def test_at_the_most_it_never_rests() -> None:
    cycle = duty_of(MOST_PER_MIN)
    assert not cycle.rests
    assert all(cycle.listens(passed_s) for passed_s in range(1000))
    assert cycle.changes_in_s(7) == math.inf
