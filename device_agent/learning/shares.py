"""How the images of a trial are shared out to its devices."""

from __future__ import annotations

from array import array

import numpy as np

from device_agent.errors import ConfigError
from device_agent.learning.choices import Data, Rows
from models.data import Dataset
from models.partition import dirichlet, iid, label_shards


def spread(data: Data, dataset: Dataset, *, count: int, seed: int) -> list[Rows]:
    """Return the rows of the training part of each of `count` devices, in the order it goes round in them.

    Every device that is told the same finds the same. Raises `ConfigError` if the data cannot be spread like that.
    """
    rng = np.random.default_rng([seed, 1])
    labels = dataset.train_labels
    try:
        if data.partition == "iid":
            parts = iid(labels, count, rng)
        elif data.partition == "label_shards":
            parts = label_shards(labels, count, data.labels_per_device, data.samples_per_label, rng)
        else:
            parts = dirichlet(labels, count, data.alpha, rng, min_samples=20)
    except (ValueError, ArithmeticError) as error:
        raise ConfigError(f"data.partition = {data.partition!r} cannot be made: {error}") from error
    at_most = None if data.partition == "label_shards" else data.samples_per_device
    return [array("q", rng.permutation(part)[:at_most].tobytes()) for part in parts]
