import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.errors import PartitionImpossible
from models.partition import Labels, dirichlet, flip_labels, iid, label_shards

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 60)
label_arrays = hnp.arrays(np.uint8, st.integers(1, 80), elements=st.integers(0, 9))
seeds = st.integers(0, 2**32)


@given(labels=label_arrays, seed=seeds, devices=st.integers(1, 80))
def test_iid_shares_are_everything_once_and_even(labels: Labels, seed: int, devices: int) -> None:
    devices = min(devices, len(labels))
    shares = iid(labels, devices, np.random.default_rng(seed))
    assert sorted(np.concatenate(shares)) == list(range(len(labels)))
    sizes = {len(share) for share in shares}
    assert max(sizes) - min(sizes) <= 1
    assert {share.dtype for share in shares} == {np.dtype(np.int64)}


@given(seed=seeds, devices=st.integers(1, 12), per_device=st.integers(1, 10), samples=st.integers(1, 5))
def test_label_shards_have_what_was_asked_for(seed: int, devices: int, per_device: int, samples: int) -> None:
    shares = label_shards(LABELS, devices, per_device, samples, np.random.default_rng(seed))
    everything = np.concatenate(shares)
    assert len(shares) == devices
    assert len(np.unique(everything)) == len(everything)
    holders = np.zeros(10, int)
    for share in shares:
        found, counts = np.unique(LABELS[share], return_counts=True)
        assert len(found) == per_device
        assert set(counts) == {samples}
        holders[found] += 1
    assert holders.max() - holders.min() <= 1


@given(seed=seeds, devices=st.integers(1, 8), alpha=st.floats(0.3, 100), least=st.integers(0, 3))
def test_dirichlet_shares_are_everything_once(seed: int, devices: int, alpha: float, least: int) -> None:
    shares = dirichlet(LABELS, devices, alpha, np.random.default_rng(seed), least)
    assert sorted(np.concatenate(shares)) == list(range(len(LABELS)))
    assert min(len(share) for share in shares) >= least


def test_a_small_alpha_concentrates_labels() -> None:
    def labels_held(alpha: float) -> float:
        shares = dirichlet(LABELS, 6, alpha, np.random.default_rng(1), 1)
        return float(np.mean([np.bincount(LABELS[share], minlength=10).max() / len(share) for share in shares]))

    assert labels_held(0.1) > 2 * labels_held(100)


@given(seed=seeds)
def test_a_seed_fixes_every_partition(seed: int) -> None:
    for share_out in (
        lambda rng: iid(LABELS, 5, rng),
        lambda rng: label_shards(LABELS, 5, 2, 20, rng),
        lambda rng: dirichlet(LABELS, 5, 0.5, rng, 1),
    ):
        first, again = (share_out(np.random.default_rng(seed)) for _ in range(2))
        assert [share.tolist() for share in first] == [share.tolist() for share in again]


def test_the_impossible_is_refused_with_advice() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(PartitionImpossible, match="choose 1 to 600"):
        iid(LABELS, 601, rng)
    with pytest.raises(PartitionImpossible, match="choose 1 to 10"):
        label_shards(LABELS, 2, 11, 1, rng)
    with pytest.raises(PartitionImpossible, match="at least 1"):
        label_shards(LABELS, 2, 1, 0, rng)
    with pytest.raises(PartitionImpossible, match="has 60 samples, too few for 2 devices with 31"):
        label_shards(LABELS, 11, 1, 31, rng)
    with pytest.raises(PartitionImpossible, match="raise alpha"):
        dirichlet(LABELS, 6, 0.5, rng, 200)
    for alpha in (0.0, float("nan")):
        with pytest.raises(PartitionImpossible, match="above 0"):
            dirichlet(LABELS, 2, alpha, rng, 1)


@given(labels=label_arrays)
def test_a_label_flip_moves_every_label_and_undoes_itself(labels: Labels) -> None:
    flipped = flip_labels(labels, 10)
    assert flipped.dtype == np.uint8
    assert (flipped != labels).all()
    assert (flip_labels(flipped, 10) == labels).all()
    assert (flipped + labels == 9).all()
