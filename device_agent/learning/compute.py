"""The child's side of `device_agent.learning.worker`: reads tasks from a pipe, does them, writes answers.

Started as `python -m device_agent.learning.compute KIND FD`. The validation process never imports torch.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.errors import ConfigError
from device_agent.learning.weights import merged
from device_agent.learning.worker import (
    Answer,
    Checked,
    CheckTask,
    Failed,
    FreshTask,
    Kind,
    LocalData,
    Measured,
    MeasureTask,
    Merged,
    MergeTask,
    Share,
    ShareTask,
    Task,
    Trained,
    TrainTask,
)
from models.data import Dataset, Images, Labels, load, take
from models.errors import MalformedSnapshot, ModelsError
from models.partition import flip_labels
from models.registry import architecture, named
from models.snapshot import decode, encode, parse


def main(argv: Sequence[str]) -> int:
    """Serve until the parent closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kind, descriptor = Kind(argv[0]), int(argv[1])
    _serve(Connection(descriptor), kind)
    return 0


def _serve(connection: Connection[Any, Any], kind: Kind) -> None:
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, tasks), daemon=True).start()
    computing = _Training() if kind is Kind.TRAINING else _Validation()
    while True:
        task = tasks.get()
        try:
            answer: Answer = computing.do(task)
        except MalformedSnapshot as error:
            answer = Failed(message=error.detail, fault=error.reason)
        except (ModelsError, ConfigError) as error:
            answer = Failed(message=str(error))
        except (MemoryError, ValueError, RuntimeError) as error:
            answer = Failed(message=f"{type(error).__name__}: {error}")
        try:
            connection.send(answer)
        except OSError:
            return


def _read(connection: Connection[Any, Any], tasks: queue.SimpleQueue[Task]) -> None:
    """Take tasks off the pipe at once, and end the process with it.

    If tasks stayed in the pipe while an answer waits to be sent, the parent that gives one more task and the child
    would wait for each other as soon as snapshots are larger than the pipe.
    """
    while True:
        try:
            tasks.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)  # nobody waits for an answer any more


class _Datasets:
    """Datasets by name; mapped once per process, so devices in a simulation share the pages."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, Path | None], Dataset] = {}

    def get(self, name: str, root: Path | None) -> Dataset:
        key = (name, root)
        if key not in self._loaded:
            self._loaded[key] = load(name, root)
        return self._loaded[key]

    def own(self, data: LocalData) -> tuple[Images, Labels]:
        """Return a device's own images and labels."""
        dataset = self.get(data.dataset, data.root)
        rows = np.asarray(data.rows, np.int64)
        labels = dataset.train_labels[rows]
        return take(dataset.train_images, rows), flip_labels(labels, dataset.classes) if data.flipped else labels


class _Training:
    """Does training tasks. torch is imported when the first one comes, and in this process only."""

    def __init__(self) -> None:
        self._datasets = _Datasets()
        self._networks: dict[str, Any] = {}

    def do(self, task: Task) -> Answer:
        import torch  # noqa: PLC0415 - see the class

        from device_agent.learning.train import train  # noqa: PLC0415
        from models.cnn import build, load_weights, state_to_weights  # noqa: PLC0415

        if not isinstance(task, FreshTask | TrainTask):
            raise TypeError(f"a training process does not do {type(task).__name__}")
        torch.set_num_threads(1)
        if task.architecture not in self._networks:
            arch = named(task.architecture)
            self._networks[arch.name] = (arch, build(arch))
        arch, network = self._networks[task.architecture]
        if isinstance(task, FreshTask):
            fresh = encode(state_to_weights(build(arch, task.seed)), arch, task.codec)
            return Trained(snapshot=fresh.data, digest=fresh.digest, loss=float("nan"))
        load_weights(network, decode(task.snapshot, arch))
        loss = train(
            network,
            *self._datasets.own(task.data),
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
    """Does what needs no training. Never imports torch."""

    def __init__(self) -> None:
        self._datasets = _Datasets()
        self._architecture = lru_cache(named)
        self._evaluators: dict[str, Any] = {}

    def do(self, task: Task) -> Answer:
        match task:
            case MeasureTask():
                return self._measured(task)
            case CheckTask():
                parse(task.snapshot, self._architecture(task.architecture))
                return Checked()
            case MergeTask():
                arch = self._architecture(task.architecture)
                return Merged(model=merged(task.previous, task.own, task.kind, task.codec, arch))
            case ShareTask():
                return self._share(task)
        raise TypeError(f"a validation process does not do {type(task).__name__}")

    def _measured(self, task: MeasureTask) -> Measured:
        from models.evaluate import Evaluator  # noqa: PLC0415 - ONNX Runtime is large, and the rest does without

        arch = self._architecture(task.architecture)
        if arch.name not in self._evaluators:
            self._evaluators[arch.name] = Evaluator(arch)
        evaluator = self._evaluators[arch.name]
        if task.data is not None:
            images, labels = self._datasets.own(task.data)
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

    def _share(self, task: ShareTask) -> Share:
        from device_agent.learning.shares import spread  # noqa: PLC0415 - once in a life

        dataset = self._datasets.get(task.data.dataset, None)
        arch = architecture(task.family, dataset.input_shape, dataset.classes)
        shares = spread(task.data, dataset, count=task.of, seed=task.seed)
        return Share(architecture=arch.name, rows=shares[task.number])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
