"""What a device is told about its data and its learning: the same words in a scenario and in an agent's settings."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, Literal

from pydantic import Field, field_validator

from device_agent.config import Section
from models.options import FOLDER_PREFIX, Codec, Merge, known_datasets
from models.registry import families

TOKEN: Final = 10**18
"""Token base units in one token."""
BASE_UNIT: Final = 1 / TOKEN
"""The least that there is of a token."""

Rows = Sequence[int]
"""Indices into the training part of a dataset."""


class Data(Section):
    """The images and how they are spread over the devices."""

    dataset: str = "fashion-mnist"
    partition: Literal["iid", "label_shards", "dirichlet"] = "dirichlet"
    alpha: float = Field(default=1.0, gt=0)
    """Of Dirichlet: the smaller, the more unlike the devices' data."""
    labels_per_device: int = Field(default=2, ge=1)
    samples_per_label: int = Field(default=150, ge=1)
    samples_per_device: int = Field(default=1000, ge=20)
    """At most; of iid and Dirichlet."""
    validation_share: float = Field(default=0.3, gt=0, lt=1)
    """Part of a device's data that it votes with and never trains on."""

    @field_validator("dataset")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in known_datasets() and not value.startswith(FOLDER_PREFIX):
            raise ValueError(f"allowed are {', '.join(known_datasets())} and {FOLDER_PREFIX}PATH")
        return value


class Learning(Section):
    """The algorithm, the network and the hyper-parameters."""

    algorithm: Literal["oppcl", "gossip"] = "oppcl"
    architecture: str = "cnn6"
    codec: Codec = Field(default=Codec.INT8, strict=False)
    merge: Merge = Field(default=Merge.MEAN, strict=False)
    max_rounds: int = Field(default=3, ge=1)
    """OppCL: mini-batches a Neighbor trains for a Learner."""
    own_steps: int = Field(default=3, ge=0)
    """Mini-batches a Learner trains after it has adopted a model."""
    warmup_steps: int = Field(default=0, ge=0)
    """Mini-batches every device trains alone before the first encounter."""
    batch_size: int = Field(default=50, ge=1)
    learning_rate: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in families():
            raise ValueError(f"allowed are {', '.join(families())}")
        return value


def base_units(tokens: float) -> int:
    """Return whole tokens, as people write them, in base units."""
    return int(Decimal(str(tokens)) * TOKEN)


def held_out(rows: Rows, share: float) -> tuple[Rows, Rows]:
    """Return what a device votes with, and what it trains on: nothing is in both."""
    count = max(1, round(len(rows) * share))
    return rows[:count], rows[count:]
