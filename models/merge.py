"""Merging two sets of weights in gossip learning, the same to the last bit on every machine.

Validators recompute a merge from two digested snapshots and compare digests, so there is one order of
operations: sums in float64, where addition commutes and nothing fuses, and one rounding to float32.
Rules: gossip learning (Ormandi, Hegedus, Jelasity 2013); the limited merge is that of Giaretta and
Girdzijauskas (2019).
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from models.errors import WeightsDiffer
from models.options import Merge

Tensor = npt.NDArray[np.float32]

MAX_AGE = 1 << 26  # ages times weights stay exact in float64 below this


def mean(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return (a + b) / 2, tensor by tensor; `mean(a, b)` equals `mean(b, a)`.

    Raises WeightsDiffer unless both have the same names and shapes.
    """
    return _weighted(a, 1, b, 1)


def age_weighted(a: Mapping[str, Tensor], age_a: int, b: Mapping[str, Tensor], age_b: int) -> dict[str, Tensor]:
    """Return (age_a * a + age_b * b) / (age_a + age_b); ages count training steps, two zeros give the mean.

    Raises WeightsDiffer as `mean` does, ValueError for an age outside 0 to `MAX_AGE`.
    """
    _check_ages(age_a, age_b)
    return _weighted(a, age_a, b, age_b) if age_a + age_b else mean(a, b)


def limited(
    a: Mapping[str, Tensor], age_a: int, b: Mapping[str, Tensor], age_b: int, max_gap: int = 1
) -> dict[str, Tensor]:
    """Return the longer-trained of both if their ages differ by more than `max_gap`, else the weighted mean.

    Errors as `age_weighted`.
    """
    _check_ages(age_a, age_b)
    if abs(age_a - age_b) <= max_gap:
        return age_weighted(a, age_a, b, age_b)
    _check_same(a, b)
    longer_trained = a if age_a > age_b else b
    return {name: longer_trained[name].copy() for name in sorted(longer_trained)}


def merge(kind: Merge, a: Mapping[str, Tensor], age_a: int, b: Mapping[str, Tensor], age_b: int) -> dict[str, Tensor]:
    """Return the merge of `a` and `b` by the rule `kind`; errors as the rule's own function."""
    rules: dict[Merge, Callable[[], dict[str, Tensor]]] = {
        Merge.MEAN: lambda: mean(a, b),
        Merge.AGE_WEIGHTED: lambda: age_weighted(a, age_a, b, age_b),
        Merge.LIMITED: lambda: limited(a, age_a, b, age_b),
    }
    return rules[kind]()


def _weighted(a: Mapping[str, Tensor], share_a: int, b: Mapping[str, Tensor], share_b: int) -> dict[str, Tensor]:
    _check_same(a, b)
    total = float(share_a + share_b)
    merged: dict[str, Tensor] = {}
    for name in sorted(a):
        summed = a[name].astype(np.float64) * share_a + b[name].astype(np.float64) * share_b
        merged[name] = (summed / total).astype(np.float32)
    return merged


def _check_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    shapes_a = {name: tensor.shape for name, tensor in a.items()}
    shapes_b = {name: tensor.shape for name, tensor in b.items()}
    if shapes_a != shapes_b:
        differing = sorted(name for name in {*shapes_a, *shapes_b} if shapes_a.get(name) != shapes_b.get(name))
        raise WeightsDiffer(f"cannot merge weights of different networks: {', '.join(differing)} differ")


def _check_ages(*ages: int) -> None:
    for age in ages:
        if not 0 <= age <= MAX_AGE:
            raise ValueError(f"an age is a number of steps from 0 to {MAX_AGE}, not {age}")
