import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.errors import WeightsDiffer
from models.merge import MAX_AGE, Tensor, age_weighted, limited, mean, merge
from models.options import Merge

arrays = hnp.arrays(np.float32, (4,), elements=st.floats(-65024, 65024, width=32))
ages = st.integers(0, MAX_AGE)


def one(values: Tensor) -> dict[str, Tensor]:
    return {"w": values}


@given(a=arrays, b=arrays)
def test_the_mean_is_the_nearest_float32_and_does_not_depend_on_the_order(a: Tensor, b: Tensor) -> None:
    exact = [np.float32((float(x) + float(y)) / 2) for x, y in zip(a, b, strict=True)]
    assert mean(one(a), one(b))["w"].tolist() == [float(value) for value in exact]
    assert mean(one(a), one(b))["w"].tobytes() == mean(one(b), one(a))["w"].tobytes()
    assert mean(one(a), one(b))["w"].dtype == np.float32


@given(a=arrays, b=arrays, age_a=ages, age_b=ages)
def test_an_age_weighted_merge_lies_between_and_commutes(a: Tensor, b: Tensor, age_a: int, age_b: int) -> None:
    merged = age_weighted(one(a), age_a, one(b), age_b)["w"]
    assert merged.tobytes() == age_weighted(one(b), age_b, one(a), age_a)["w"].tobytes()
    assert (np.minimum(a, b) <= merged).all()
    assert (merged <= np.maximum(a, b)).all()


@given(a=arrays, age_a=ages, age_b=ages)
def test_merging_equals_changes_nothing(a: Tensor, age_a: int, age_b: int) -> None:
    for kind in Merge:
        np.testing.assert_array_equal(merge(kind, one(a), age_a, one(a), age_b)["w"], a)


def test_ages_are_the_weights() -> None:
    a, b = one(np.array([0.0], np.float32)), one(np.array([8.0], np.float32))
    assert age_weighted(a, 3, b, 1)["w"] == 2
    assert age_weighted(a, 0, b, 5)["w"] == 8
    assert age_weighted(a, 0, b, 0)["w"] == 4


def test_a_limited_merge_keeps_the_longer_trained_beyond_the_gap() -> None:
    a, b = one(np.array([0.0], np.float32)), one(np.array([8.0], np.float32))
    assert limited(a, 1, b, 3)["w"] == 8
    assert limited(a, 3, b, 1)["w"] == 0
    assert limited(a, 3, b, 1, max_gap=2)["w"] == 2
    assert limited(a, 1, b, 1)["w"] == 4
    kept = limited(a, 9, b, 1)["w"]
    kept += 1
    assert a["w"] == 0


def test_each_kind_is_its_own_rule() -> None:
    a, b = one(np.array([0.0], np.float32)), one(np.array([8.0], np.float32))
    found = {kind: float(merge(kind, a, 1, b, 3)["w"][0]) for kind in Merge}
    assert found == {Merge.MEAN: 4, Merge.AGE_WEIGHTED: 6, Merge.LIMITED: 8}


def test_different_networks_and_impossible_ages_are_refused() -> None:
    a = one(np.zeros(2, np.float32))
    for b in (one(np.zeros(3, np.float32)), {"v": np.zeros(2, np.float32)}, {}):
        for kind in Merge:
            with pytest.raises(WeightsDiffer, match="w"):
                merge(kind, a, 0, b, 9)
    for age in (-1, MAX_AGE + 1):
        with pytest.raises(ValueError, match="steps"):
            age_weighted(a, age, a, 1)
