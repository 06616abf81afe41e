"""Sharing a dataset out to devices, and the label flip of a poisoning device.

Every function takes its randomness as a numpy Generator: the same labels and seed give the same shares.
"""

import numpy as np
import numpy.typing as npt

from models.errors import PartitionImpossible

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.uint8]

DIRICHLET_ATTEMPTS = 200


def iid(labels: Labels, devices: int, rng: np.random.Generator) -> list[Indices]:
    """Return `devices` disjoint shares of all samples at random; sizes differ by one at most.

    Raises PartitionImpossible if there are fewer samples than devices.
    """
    _check_devices(labels, devices)
    order = rng.permutation(len(labels)).astype(np.int64)
    return np.array_split(order, devices)


def label_shards(
    labels: Labels, devices: int, labels_per_device: int, samples_per_label: int, rng: np.random.Generator
) -> list[Indices]:
    """Return for each device `samples_per_label` samples of each of `labels_per_device` labels.

    Shares are disjoint, and each label goes to about as many devices as any other (the usual setting of
    OppCL: 2 labels, 150 samples). Raises PartitionImpossible if a label has too few samples.
    """
    _check_devices(labels, devices)
    classes = np.unique(labels)
    if not 1 <= labels_per_device <= len(classes):
        raise PartitionImpossible(
            f"{labels_per_device} labels per device asked for: choose 1 to {len(classes)}, what the data has"
        )
    if samples_per_label < 1:
        raise PartitionImpossible(f"{samples_per_label} samples per label asked for: choose at least 1")
    pools = {int(label): rng.permutation(np.flatnonzero(labels == label)) for label in classes}
    taken = dict.fromkeys(pools, 0)
    shares = []
    for _ in range(devices):
        least_used = sorted(pools, key=lambda label: (taken[label], rng.random()))[:labels_per_device]
        parts = []
        for label in least_used:
            start = taken[label] * samples_per_label
            part = pools[label][start : start + samples_per_label]
            if len(part) < samples_per_label:
                raise PartitionImpossible(
                    f"label {label} has {len(pools[label])} samples, too few for {taken[label] + 1} devices "
                    f"with {samples_per_label} each: lower devices, labels per device or samples per label"
                )
            taken[label] += 1
            parts.append(part)
        shares.append(np.concatenate(parts).astype(np.int64))
    return shares


def dirichlet(
    labels: Labels, devices: int, alpha: float, rng: np.random.Generator, min_samples: int = 1
) -> list[Indices]:
    """Return `devices` disjoint shares of all samples, each label split by a Dirichlet(`alpha`) draw.

    A small `alpha` gives each device few labels. Draws until every device has `min_samples` samples
    (Hsu, Qi, Brown 2019, with the usual rejection). Raises PartitionImpossible if that does not come.
    """
    _check_devices(labels, devices)
    if not alpha > 0:
        raise PartitionImpossible(f"alpha is {alpha}: choose a number above 0, such as 0.5")
    pools = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    for _ in range(DIRICHLET_ATTEMPTS):
        parts: list[list[Indices]] = [[] for _ in range(devices)]
        for pool in pools:
            shares = rng.dirichlet(np.full(devices, alpha))
            cuts = np.floor(np.cumsum(shares)[:-1] * len(pool)).astype(np.int64)
            for device, part in enumerate(np.split(pool, np.minimum(cuts, len(pool)))):
                parts[device].append(part.astype(np.int64))
        drawn = [np.concatenate(of_device) for of_device in parts]
        if min(len(share) for share in drawn) >= min_samples:
            return drawn
    raise PartitionImpossible(
        f"no Dirichlet({alpha}) draw of {DIRICHLET_ATTEMPTS} gave {devices} devices {min_samples} samples "
        f"each: raise alpha, or lower devices or min_samples"
    )


def flip_labels(labels: Labels, classes: int) -> Labels:
    """Return what a label flipper trains on: label -> classes - 1 - label. Twice gives the labels back."""
    return (classes - 1 - labels.astype(np.int64)).astype(np.uint8)


def _check_devices(labels: Labels, devices: int) -> None:
    if not 1 <= devices <= len(labels):
        raise PartitionImpossible(
            f"{len(labels)} samples cannot be shared by {devices} devices: choose 1 to {len(labels)}"
        )
