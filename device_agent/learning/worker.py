"""Child processes that compute: one trains (torch), one measures (ONNX Runtime). Tasks in, answers out.

They are processes so that torch is never loaded where it is not needed, so that a crash in native code or a lack of
memory ends a child and not the agent, and so that the agent answers peers while a model trains. The pipe carries
pickles of this module's own types between a process and the child it started, never a byte from outside as such.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass, field
from enum import Enum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device_agent.errors import WorkerDied
from models.data import Dataset, Labels, load
from models.errors import MalformedSnapshot, ModelsError
from models.evaluate import Evaluator
from models.partition import flip_labels
from models.registry import Architecture, named
from models.snapshot import Codec, decode, encode


class Kind(Enum):
    """What a child is for."""

    TRAINING = "training"
    VALIDATION = "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalData:
    """A device's own data: rows of the training part of a dataset.

    Attributes:
        dataset: name, as `models.data.load` takes it.
        root: where datasets lie; None = the usual place.
        rows: indices into the training part, shape (n,).
        flipped: whether every label is replaced by its mirror (a label-flip attacker).
    """

    dataset: str
    root: Path | None
    rows: npt.NDArray[np.int64] = field(repr=False)
    flipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTask:
    """Train a snapshot on a device's data; see `device_agent.learning.train`."""

    architecture: str
    snapshot: bytes = field(repr=False)
    data: LocalData
    codec: Codec
    start: int
    steps: int
    batch_size: int
    learning_rate: float
    momentum: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained snapshot's canonical bytes and digest, and the mean loss."""

    snapshot: bytes = field(repr=False)
    digest: bytes
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshTask:
    """Make the initial snapshot of an architecture."""

    architecture: str
    codec: Codec
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureTask:
    """Count the images of a device's data (or of the test part) that each snapshot gets right."""

    architecture: str
    snapshots: tuple[bytes, ...] = field(repr=False)
    data: LocalData | None
    test_of: str | None = None
    root: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Correct images per snapshot, None for one that cannot be used; out of `total`."""

    correct: tuple[int | None, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The task could not be done; `malformed` if a snapshot was the reason."""

    message: str
    malformed: bool


Task = TrainTask | FreshTask | MeasureTask
Answer = Trained | Measured | Failed


class Child:
    """The parent's handle of one child process. Tasks are answered in the order they were given."""

    def __init__(self, kind: Kind) -> None:
        """Start the child."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self.kind = kind
        self._connection: Connection[Any, Any] = ours
        self._process = context.Process(target=_serve, args=(theirs, kind), name=f"idml-{kind.value}", daemon=True)
        self._process.start()
        theirs.close()
        self._given = 0
        self._read = 0
        self._answers: dict[int, Answer] = {}

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid

    def give(self, task: Task) -> int:
        """Queue a task; return its ticket. Raises `WorkerDied`."""
        try:
            self._connection.send(task)
        except OSError as error:
            raise WorkerDied(self._epitaph()) from error
        self._given += 1
        return self._given - 1

    def ready(self, ticket: int) -> bool:
        """Return whether `answer` would not block."""
        while ticket not in self._answers and self._connection.poll():
            self._receive()
        return ticket in self._answers

    def answer(self, ticket: int) -> Answer:
        """Wait for the answer to a ticket, and forget it. Raises `WorkerDied`."""
        while ticket not in self._answers:
            self._receive()
        return self._answers.pop(ticket)

    def close(self) -> None:
        """End the child; tasks it has not answered are lost."""
        self._connection.close()
        self._process.join(timeout=2)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _receive(self) -> None:
        try:
            self._answers[self._read] = self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied(self._epitaph()) from error
        self._read += 1

    def _epitaph(self) -> str:
        self._process.join(timeout=1)
        code = self._process.exitcode
        hint = "; was it killed for want of memory?" if code == -signal.SIGKILL else ""
        return f"the {self.kind.value} process ended with status {code}{hint}"


def _serve(connection: Connection[Any, Any], kind: Kind) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pipe
    os.environ["OMP_NUM_THREADS"] = "1"
    computing = _Training() if kind is Kind.TRAINING else _Validation()
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer: Answer = computing.do(task)
        except MalformedSnapshot as error:
            answer = Failed(message=str(error), malformed=True)
        except (ModelsError, MemoryError, ValueError, RuntimeError) as error:
            answer = Failed(message=f"{type(error).__name__}: {error}", malformed=False)
        try:
            connection.send(answer)
        except OSError:
            return


class _Datasets:
    """Datasets by name; mapped once per process, so devices in a simulation share the pages."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, Path | None], Dataset] = {}
        self._flipped: dict[tuple[str, Path | None], Labels] = {}

    def get(self, name: str, root: Path | None) -> Dataset:
        key = (name, root)
        if key not in self._loaded:
            self._loaded[key] = load(name, root)
        return self._loaded[key]

    def labels(self, data: LocalData) -> Labels:
        dataset = self.get(data.dataset, data.root)
        if not data.flipped:
            return dataset.train_labels
        key = (data.dataset, data.root)
        if key not in self._flipped:
            self._flipped[key] = flip_labels(dataset.train_labels, dataset.classes)
        return self._flipped[key]


class _Training:
    """Does training tasks. torch is imported when the first one comes, and in this process only."""

    def __init__(self) -> None:
        self._datasets = _Datasets()
        self._networks: dict[str, Any] = {}

    def do(self, task: Task) -> Answer:
        import torch  # noqa: PLC0415 - see the class

        from device_agent.learning.train import train  # noqa: PLC0415
        from models.cnn import build, load_weights, state_to_weights  # noqa: PLC0415

        torch.set_num_threads(1)
        arch = named(task.architecture)
        if isinstance(task, FreshTask):
            fresh = encode(state_to_weights(build(arch, task.seed)), arch, task.codec)
            return Trained(snapshot=fresh.data, digest=fresh.digest, loss=float("nan"))
        if not isinstance(task, TrainTask):
            raise TypeError(f"a training process does not do {type(task).__name__}")
        network = self._networks.setdefault(arch.name, build(arch))
        load_weights(network, decode(task.snapshot, arch))
        dataset = self._datasets.get(task.data.dataset, task.data.root)
        loss = train(
            network,
            dataset.train_images,
            self._datasets.labels(task.data),
            task.data.rows,
            start=task.start,
            steps=task.steps,
            batch_size=task.batch_size,
            learning_rate=task.learning_rate,
            momentum=task.momentum,
            seed=task.seed,
        )
        trained = encode(state_to_weights(network), arch, task.codec)
        return Trained(snapshot=trained.data, digest=trained.digest, loss=loss)


class _Validation:
    """Does measuring tasks. Never imports torch."""

    def __init__(self) -> None:
        self._datasets = _Datasets()
        self._evaluators: dict[str, tuple[Architecture, Evaluator]] = {}

    def do(self, task: Task) -> Answer:
        if not isinstance(task, MeasureTask):
            raise TypeError(f"a validation process does not do {type(task).__name__}")
        if task.architecture not in self._evaluators:
            arch = named(task.architecture)
            self._evaluators[task.architecture] = (arch, Evaluator(arch))
        arch, evaluator = self._evaluators[task.architecture]
        if task.data is not None:
            dataset = self._datasets.get(task.data.dataset, task.data.root)
            images = dataset.train_images[task.data.rows]
            labels = self._datasets.labels(task.data)[task.data.rows]
        else:
            dataset = self._datasets.get(str(task.test_of), task.root)
            images, labels = dataset.test_images, dataset.test_labels
        correct: list[int | None] = []
        for data in task.snapshots:
            try:
                correct.append(evaluator.accuracy(decode(data, arch), images, labels).correct)
            except MalformedSnapshot:
                correct.append(None)
        return Measured(correct=tuple(correct), total=len(labels))
