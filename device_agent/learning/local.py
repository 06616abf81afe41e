"""What trains, measures, checks and merges for one device, over its child processes.

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
    Checked,
    CheckTask,
    Failed,
    LocalData,
    Measured,
    MeasureTask,
    Merged,
    MergeTask,
    Task,
    Trained,
    TrainTask,
)
from models.errors import MalformedSnapshot
from models.options import Codec, Merge
from models.registry import Architecture


class Process(Protocol):
    """What is needed of a `Child`."""

    def give(self, task: Task) -> int:
        """Queue a task."""
        ...

    def answer(self, ticket: int) -> Answer:
        """Wait for its answer."""
        ...

    def do(self, task: Task) -> Answer:
        """Both."""
        ...


Wait = Callable[[Process, Task, int], Awaitable[Answer]]
"""Has a process do a task over that many images, and waits for the answer."""


async def wait_in_thread(process: Process, task: Task, _images: int = 0) -> Answer:
    """Wait for as long as it takes, leaving the event loop free, also while the process is started."""
    return await asyncio.to_thread(process.do, task)


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
        if steps == 0:  # Of gossip, say: a device that never trains needs no process for it, nor torch.
            return model
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
        answer = await self._wait(self._process, task, images)
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
        answer = await self._wait(self._process, task, 2 * len(self._data.rows))
        if not isinstance(answer, Measured):
            raise _failure(answer)
        before, after = answer.correct
        return Assessment(previous_correct=before, updated_correct=after, total=answer.total)


class LocalSnapshots:
    """Checks and merges in a child process, so that the agent itself needs no numpy."""

    def __init__(self, process: Process, architecture: Architecture) -> None:
        self._process = process
        self._architecture = architecture

    async def check(self, snapshot: bytes) -> None:
        """See `device_agent.learning.Snapshots`."""
        task = CheckTask(architecture=self._architecture.name, snapshot=snapshot)
        answer = await wait_in_thread(self._process, task)
        if not isinstance(answer, Checked):
            raise _failure(answer)

    async def merge(self, previous: Model, own: Model, kind: Merge, codec: Codec) -> Model:
        """See `device_agent.learning.Snapshots`."""
        task = MergeTask(architecture=self._architecture.name, previous=previous, own=own, kind=kind, codec=codec)
        answer = await wait_in_thread(self._process, task)
        if not isinstance(answer, Merged):
            raise _failure(answer)
        return answer.model


def _failure(answer: Answer) -> Exception:
    if isinstance(answer, Failed) and answer.fault is not None:
        return MalformedSnapshot(answer.fault, answer.message)
    return WorkerDied(f"the child process answered {answer}")
