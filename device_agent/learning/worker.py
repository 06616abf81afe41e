"""Child processes that compute: one trains (torch), one checks and measures (ONNX Runtime). Tasks in, answers out.

They are processes so that torch is never loaded where it is not needed, so that a crash in native code or a lack of
memory ends a child and not the agent, and so that the agent answers peers while a model trains. The pipe carries
pickles of this module's own types between a process and the child it started, never a byte from outside as such.
This module is the parent's side, and light; `device_agent.learning.compute` is the child's.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from enum import Enum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from device_agent.errors import WorkerDied
from device_agent.learning import Model
from device_agent.learning.choices import Data, Rows
from models.errors import SnapshotFault
from models.options import Codec, Merge


class Kind(Enum):
    """What a child is for."""

    TRAINING = "training"
    VALIDATION = "validation"


_ENVIRONMENT = {
    Kind.TRAINING: {"OMP_NUM_THREADS": "1"},
    # The C library keeps freed memory by default: 15 to 25 MB of the validation process.
    Kind.VALIDATION: {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalData:
    """A device's own data: rows of the training part of a dataset.

    Attributes:
        dataset: name, as `models.data.load` takes it.
        root: where datasets lie; None = the usual place.
        rows: indices into the training part.
        flipped: whether every label is replaced by its mirror (a label-flip attacker).
    """

    dataset: str
    root: Path | None
    rows: Rows = field(repr=False)
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
class CheckTask:
    """Check every byte of a snapshot."""

    architecture: str
    snapshot: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """It is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeTask:
    """Merge two models."""

    architecture: str
    previous: Model = field(repr=False)
    own: Model = field(repr=False)
    kind: Merge
    codec: Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What came of it."""

    model: Model = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareTask:
    """Find a device's share of a dataset, and the architecture of a family that fits its images.

    Attributes:
        data: what is shared out, and how.
        family: of architectures.
        number: of the device, from 0, among `of`.
        of: so many devices.
        seed: what all of them agree on.
    """

    data: Data
    family: str
    number: int
    of: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A device's rows, and the name of the architecture."""

    architecture: str
    rows: Rows = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The task could not be done; `fault`: what is wrong with a snapshot, if that was the reason."""

    message: str
    fault: SnapshotFault | None = None


Task = TrainTask | FreshTask | MeasureTask | CheckTask | MergeTask | ShareTask
Answer = Trained | Measured | Checked | Merged | Share | Failed


class Child:
    """The parent's handle of one child process. Tasks are answered in the order they were given.

    The process is started with the first task, so that an idle device has the memory for itself, and started anew
    with the next task after it has died.
    Threads use `do` and `rest` alone, which take turns.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.deaths = 0
        """How often the process ended by itself."""
        self._connection: Connection[Any, Any] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._given = 0
        self._read = 0
        self._answers: dict[int, Answer] = {}
        self._turn = threading.Lock()
        self._given_at_last_rest = 0
        self._retired = False

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        return None if self._process is None else self._process.pid

    def give(self, task: Task) -> int:
        """Queue a task; return its ticket. Raises `WorkerDied`."""
        if self._retired:
            raise WorkerDied(f"the {self.kind.value} process is not started any more")
        if self._process is None or self._process.poll() is not None:
            self._start()
        try:
            self._pipe.send(task)
        except OSError as error:
            raise WorkerDied(self._epitaph()) from error
        self._given += 1
        return self._given - 1

    def do(self, task: Task) -> Answer:
        """Give a task and wait for its answer, in a thread; several take turns. Raises `WorkerDied`."""
        with self._turn:
            return self.answer(self.give(task))

    def rest(self) -> None:
        """End the child, in a thread, if nothing was asked of it since the last rest: the next task starts it anew."""
        if not self._turn.acquire(blocking=False):
            return
        try:
            if self._given == self._given_at_last_rest:
                self.close()
            self._given_at_last_rest = self._given
        finally:
            self._turn.release()

    def ready(self, ticket: int) -> bool:
        """Return whether `answer` would not block."""
        while ticket >= self._read and self._pipe.poll():
            self._receive()
        return ticket < self._read

    def answer(self, ticket: int) -> Answer:
        """Wait for the answer to a ticket, and forget it. Raises `WorkerDied` if the child took it along."""
        while ticket >= self._read:
            self._receive()
        if ticket not in self._answers:
            raise WorkerDied(f"the {self.kind.value} process died before it answered task {ticket}")
        return self._answers.pop(ticket)

    def retire(self) -> None:
        """End the child for good: who waits for it, or for a turn, gets `WorkerDied`."""
        self._retired = True
        self.close()

    def close(self) -> None:
        """End the child; tasks it has not answered are lost, and the next one starts it anew."""
        if self._process is None or self._connection is None:
            return
        self._connection.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._connection = self._process = None

    @property
    def _pipe(self) -> Connection[Any, Any]:
        if self._connection is None:
            raise WorkerDied(f"the {self.kind.value} process was closed")
        return self._connection

    def _start(self) -> None:
        self.close()
        self._read = self._given  # what a dead child was given, it will not answer
        ours, theirs = socket.socketpair()
        # Not `multiprocessing`: that would import the parent's main module, whatever it drags in, into the child.
        # A session of its own keeps Ctrl-C for the parent, which then closes the pipe.
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "device_agent.learning.compute", self.kind.value, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | _ENVIRONMENT[self.kind],
                start_new_session=True,
            )
        self._connection = Connection(ours.detach())

    def _receive(self) -> None:
        try:
            self._answers[self._read] = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied(self._epitaph()) from error
        self._read += 1

    def _epitaph(self) -> str:
        self.deaths += 1
        if self._process is None:
            return f"the {self.kind.value} process was closed"
        code = self._process.wait()
        hint = "; was it killed for want of memory?" if code == -signal.SIGKILL else ""
        return f"the {self.kind.value} process ended with status {code}{hint}"
