"""Near and far: smoothed, with an edge that does not flicker."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.radio.proximity import Distance, Edges, Proximity, heard

EDGES = Edges(near_from_dbm=-65, far_below_dbm=-75)

strengths = st.integers(-126, 20)
signals = st.lists(st.tuples(st.floats(0, 60), st.none() | strengths), max_size=30)


def after(heard_s: Iterable[tuple[float, int | None]]) -> list[Proximity | None]:
    """Return what is known after each of (seconds since the one before, strength)."""
    known: list[Proximity | None] = [None]
    now_s = 0.0
    for passed_s, rssi_dbm in heard_s:
        now_s += passed_s
        known.append(heard(known[-1], rssi_dbm, now_s, EDGES))
    return known


def last(*heard_s: tuple[float, int | None]) -> Proximity:
    one = after(heard_s)[-1]
    assert one is not None
    return one


def test_the_first_strength_is_believed() -> None:
    assert last((0, -60)).distance is Distance.NEAR
    assert last((0, -65)).distance is Distance.NEAR
    assert last((0, -70)).distance is Distance.FAR  # between the edges: not heard to be near yet
    assert last((0, -90)).distance is Distance.FAR


def test_what_is_between_the_edges_stays_as_it_was() -> None:
    assert last((0, -60), (60, -70), (60, -75)).distance is Distance.NEAR
    assert last((0, -60), (60, -70), (60, -78)).distance is Distance.FAR
    assert last((0, -90), (60, -70), (60, -66)).distance is Distance.FAR


def test_one_outlier_does_not_move_a_device() -> None:
    calm = [(1.0, -60)] * 20
    assert last(*calm, (1.0, -95)).distance is Distance.NEAR
    assert last(*calm, (1.0, -95), *calm).distance is Distance.NEAR


def test_a_device_that_went_away_is_far_after_some_windows() -> None:
    calm = [(1.0, -60)] * 20
    left = after([*calm, *[(15.0, -90)] * 3])
    assert left[-3:] != left[-4:-1]
    assert left[-1] is not None
    assert left[-1].distance is Distance.FAR


@given(signals)
def test_an_unknown_strength_changes_nothing(heard_s: list[tuple[float, int | None]]) -> None:
    for (_, rssi_dbm), (before, now) in zip(heard_s, pairwise(after(heard_s)), strict=True):
        assert rssi_dbm is not None or now == before


@given(signals)
def test_the_smoothed_strength_is_among_those_heard(heard_s: list[tuple[float, int | None]]) -> None:
    known = [rssi_dbm for _, rssi_dbm in heard_s if rssi_dbm is not None]
    one = after(heard_s)[-1]
    if one is None:
        assert not known
    else:
        assert min(known) - 1e-9 <= one.strength_dbm <= max(known) + 1e-9


@given(signals)
def test_between_near_and_far_lies_the_whole_gap(heard_s: list[tuple[float, int | None]]) -> None:
    for before, now in pairwise(after(heard_s)):
        if before and now and before.distance is not now.distance:
            near = now.distance is Distance.NEAR
            assert now.strength_dbm >= EDGES.near_from_dbm if near else now.strength_dbm < EDGES.far_below_dbm


@given(strengths, st.integers(1, 200))
def test_a_steady_signal_stays_what_it_is(rssi_dbm: int, count: int) -> None:
    assert last(*[(0.5, rssi_dbm)] * count).strength_dbm == pytest.approx(rssi_dbm)


def test_many_at_one_moment_count_but_not_as_many_moments() -> None:
    burst = last((0, -60), *[(0.0, -90)] * 3)
    assert -75 < burst.strength_dbm < -65


def test_a_clock_that_stands_still_or_goes_back_does_no_harm() -> None:
    one = heard(last((10.0, -60)), -80, 5.0, EDGES)
    assert one is not None
    assert one.at_s == 10.0
    assert -63 < one.strength_dbm < -60


def test_a_device_cannot_be_both() -> None:
    with pytest.raises(ValueError, match="begin"):
        Edges(near_from_dbm=-80, far_below_dbm=-70)
