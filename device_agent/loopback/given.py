"""What a run is given: the scenario with everything it names loaded, and the secrets that follow from its seed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt
from eth_hash.auto import keccak

from device_agent.errors import ConfigError
from device_agent.loopback.scenario import TOKEN, Scenario
from models.data import Dataset
from models.partition import dirichlet, iid, label_shards
from models.registry import Architecture

Rows = npt.NDArray[np.int64]
"""Indices into the training part of a dataset, shape (n,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A scenario, ready to be run.

    Attributes:
        scenario: what to simulate.
        dataset: the one it names.
        arch: the network it names, for that dataset.
        out: the run's folder.
        data_root: where datasets lie; None = the usual place.
    """

    scenario: Scenario
    dataset: Dataset
    arch: Architecture
    out: Path
    data_root: Path | None

    def secret(self, purpose: str, name: str = "") -> bytes:
        """Return 32 bytes that follow from the seed: a simulation must be repeatable."""
        return keccak(f"iDML simulation/{self.scenario.seed}/{purpose}/{name}".encode())


def base_units(tokens: float) -> int:
    """Return whole tokens, as scenarios write them, in base units."""
    return int(Decimal(str(tokens)) * TOKEN)


def spread(scenario: Scenario, dataset: Dataset) -> list[Rows]:
    """Return each device's rows of the training part, in the order it goes round in them."""
    rng = np.random.default_rng([scenario.seed, 1])
    data, count = scenario.data, scenario.devices.count
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
    if data.partition == "label_shards":
        return [rng.permutation(part) for part in parts]
    return [rng.permutation(part)[: data.samples_per_device] for part in parts]
