"""Trainer and assessor of one device over its child processes.

How an answer is waited for is passed in: a device waits for the process; a simulation lets virtual time pass, as long
as the device would have taken, and then takes the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from device_agent.errors import WorkerDied
from device_agent.learning import Assessment, Model
from device_agent.learning.worker import (
    Answer,
    Failed,
    LocalData,
    Measured,
    MeasureTask,
    Task,
    Trained,
    TrainTask,
)
from models.errors import MalformedSnapshot, SnapshotFault
from models.registry import Architecture
from models.snapshot import Codec


class Process(Protocol):
    """What is needed of a `Child`."""

    def give(self, task: Task) -> int:
        """Queue a task."""
        ...

    def answer(self, ticket: int) -> Answer:
        """Wait for its answer."""
        ...


Wait = Callable[[Process, int, int], Awaitable[Answer]]
"""Waits for (process, ticket), a job over that many images."""


async def wait_in_thread(process: Process, ticket: int, _images: int) -> Answer:
    """Wait for as long as it takes, leaving the event loop free."""
    return await asyncio.to_thread(process.answer, ticket)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRates:
    """Hyper-parameters of every training step of a device."""

    batch_size: int
    learning_rate: float
    momentum: float


class LocalTrainer:
    """Trains on one device's rows, going round in them."""

    def __init__(
        self,
        process: Process,
        data: LocalData,
        architecture: Architecture,
        *,
        codec: Codec,
        rates: TrainingRates,
        seed: int,
        wait: Wait = wait_in_thread,
    ) -> None:
        self._process = process
        self._data = data
        self._architecture = architecture
        self._codec = codec
        self._rates = rates
        self._seed = seed
        self._wait = wait
        self._images = 0

    async def train(self, model: Model, *, steps: int) -> Model:
        """See `device_agent.learning.Trainer`."""
        task = TrainTask(
            architecture=self._architecture.name,
            snapshot=model.data,
            data=self._data,
            codec=self._codec,
            start=self._images,
            steps=steps,
            batch_size=self._rates.batch_size,
            learning_rate=self._rates.learning_rate,
            momentum=self._rates.momentum,
            seed=self._seed + self._images,
        )
        images = steps * self._rates.batch_size
        self._images += images
        answer = await self._wait(self._process, self._process.give(task), images)
        if not isinstance(answer, Trained):
            raise _failure(answer)
        return Model(data=answer.snapshot, digest=answer.digest, age=model.age + steps)


class LocalAssessor:
    """Measures on one device's held-out rows."""

    def __init__(
        self, process: Process, data: LocalData, architecture: Architecture, *, wait: Wait = wait_in_thread
    ) -> None:
        self._process = process
        self._data = data
        self._architecture = architecture
        self._wait = wait

    async def assess(self, previous: bytes, updated: bytes) -> Assessment:
        """See `device_agent.learning.Assessor`."""
        task = MeasureTask(architecture=self._architecture.name, snapshots=(previous, updated), data=self._data)
        answer = await self._wait(self._process, self._process.give(task), 2 * len(self._data.rows))
        if not isinstance(answer, Measured):
            raise _failure(answer)
        before, after = answer.correct
        return Assessment(previous_correct=before, updated_correct=after, total=answer.total)


def _failure(answer: Answer) -> Exception:
    if isinstance(answer, Failed) and answer.malformed:
        return MalformedSnapshot(SnapshotFault.NOT_FINITE, answer.message)
    return WorkerDied(f"the child process answered {answer}")
