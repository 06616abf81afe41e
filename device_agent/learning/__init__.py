"""Learning on the device: the two algorithms behind one adapter, and the child processes that compute.

Nothing here imports torch but `train`, and nothing imports `train` but the training process. In the same way, what
needs numpy (`shares`, `weights`) is imported by the children, and by a simulation, and not by an agent on a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from contracts.states import VoteReason
from models.options import Codec, Merge


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A snapshot and how much training is behind it.

    Attributes:
        data: canonical bytes of the snapshot.
        digest: their SHA-256.
        age: training steps that went into it.
    """

    data: bytes
    digest: bytes
    age: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What a validator measured on its own data (iDML step 4).

    Attributes:
        previous_correct: images the previous model got right; None if that model is unusable.
        updated_correct: images the updated model got right; None if that model is unusable.
        total: images each was tried on.
    """

    previous_correct: int | None
    updated_correct: int | None
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """A verdict and its reason."""

    valid: bool
    reason: VoteReason


class Trainer(Protocol):
    """Trains on the device's own data, one job at a time."""

    async def train(self, model: Model, *, steps: int) -> Model:
        """Return the model after `steps` mini-batches. Raises `WorkerDied`, or `MalformedSnapshot`."""
        ...


class Assessor(Protocol):
    """Measures models on the device's own held-out data, without torch."""

    async def assess(self, previous: bytes, updated: bytes) -> Assessment:
        """Measure both snapshots. Raises `WorkerDied`."""
        ...


class Snapshots(Protocol):
    """Does what takes arithmetic on weights, but no training."""

    async def check(self, snapshot: bytes) -> None:
        """Check every byte of a snapshot. Raises `MalformedSnapshot`, or `WorkerDied`."""
        ...

    async def merge(self, previous: Model, own: Model, kind: Merge, codec: Codec) -> Model:
        """Merge two models, the same to the last bit on every device. Raises as `check`."""
        ...


class Adapter(Protocol):
    """Choreographs one learning algorithm with the contract, which knows nothing of it."""

    label: str

    async def contribute(self, previous: Model, own: Model) -> Model:
        """Neighbor: make the updated model out of the Learner's previous one (iDML step 2)."""
        ...

    async def adopt(self, updated: Model) -> Model:
        """Learner: go on from an updated model that the validators found valid."""
        ...
