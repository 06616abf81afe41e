"""Token buckets against what they promise: never more than a burst and the rate, and a table that is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.buckets import Buckets, Rate


@given(
    per_s=st.floats(0.1, 50),
    burst=st.integers(1, 20),
    steps_s=st.lists(st.floats(-2, 10), max_size=60),
)
def test_no_more_gets_through_than_burst_and_rate(per_s: float, burst: int, steps_s: list[float]) -> None:
    buckets, now_s, through, passed_s = Buckets(Rate(per_s=per_s, burst=burst), most=5), 100.0, 0, 0.0
    for step_s in steps_s:
        now_s += step_s
        passed_s += max(0.0, step_s)
        through += buckets.take("one", now_s) == 0
        assert through <= burst + passed_s * per_s + 1e-6


@given(per_s=st.floats(0.05, 50), burst=st.integers(1, 20))
def test_who_waits_as_long_as_told_gets_through(per_s: float, burst: int) -> None:
    buckets = Buckets(Rate(per_s=per_s, burst=burst), most=5)
    assert [buckets.take("one", 0.0) for _ in range(burst)] == [0] * burst
    wait_s = buckets.take("one", 0.0)
    assert wait_s >= 1
    assert buckets.wait_s("one", float(wait_s)) == 0
    assert buckets.take("one", float(wait_s)) == 0


def test_looking_takes_nothing() -> None:
    buckets = Buckets(Rate(per_s=1, burst=1), most=5)
    assert [buckets.wait_s("one", 0.0) for _ in range(5)] == [0] * 5
    assert [buckets.take("one", 0.0), buckets.wait_s("one", 0.0)] == [0, 1]


def test_each_key_has_a_bucket_of_its_own() -> None:
    buckets = Buckets(Rate(per_s=1, burst=2), most=5)
    assert [buckets.take("noisy", 0.0) for _ in range(3)] == [0, 0, 1]
    assert buckets.take("quiet", 0.0) == 0


def test_the_table_forgets_who_asked_longest_ago() -> None:
    buckets = Buckets(Rate(per_s=0.001, burst=1), most=3)
    for key in "abcd":
        buckets.take(key, 0.0)
    assert len(buckets) == 3
    assert [buckets.wait_s(key, 0.0) > 0 for key in "bcd"] == [True] * 3


@pytest.mark.parametrize("times", [1, 1000])
def test_no_rate_is_no_limit_and_keeps_nothing(times: int) -> None:
    buckets = Buckets(Rate(per_s=0, burst=1), most=3)
    assert [buckets.take("one", 0.0) for _ in range(times)] == [0] * times
    assert len(buckets) == 0
