"""Writes down a run while it happens, and measures models on the full test set beside it.

Held-out test images are used here and nowhere else: they judge the devices and their votes, and no device sees them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.learning.worker import Child, Measured, MeasureTask


class EventLog:
    """`events.jsonl`: one JSON object a line, in the order things happened."""

    def __init__(self, path: Path, now_s: Callable[[], float]) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._now_s = now_s
        self.events: list[dict[str, Any]] = []

    def write(self, device: str, name: str, **fields: object) -> None:
        """Append one event; `t` is virtual seconds."""
        event = {"t": round(self._now_s(), 3), "device": device, "event": name, **fields}
        self.events.append(event)
        self._file.write(json.dumps(event, default=str) + "\n")

    def flush(self) -> None:
        """Put what was written on disk."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    digest: bytes
    snapshot: bytes


class Referee:
    """Measures snapshots on the test set in a child of its own, one at a time, while the world goes on."""

    def __init__(self, child: Child, *, architecture: str, dataset: str, root: Path | None) -> None:
        self._child = child
        self._architecture = architecture
        self._dataset = dataset
        self._root = root
        self._asked: set[bytes] = set()
        self._waiting: deque[_Question] = deque()
        self._ticket: tuple[int, bytes] | None = None
        self.accuracy: dict[bytes, float | None] = {}
        """By digest; None for a snapshot that is unusable."""

    @property
    def outstanding(self) -> int:
        """How many snapshots are not measured yet."""
        return len(self._waiting) + (self._ticket is not None)

    def ask(self, digest: bytes, snapshot: bytes) -> None:
        """Have a snapshot measured some time; each digest once."""
        if digest not in self._asked:
            self._asked.add(digest)
            self._waiting.append(_Question(digest=digest, snapshot=snapshot))
        self.step()

    def step(self, *, block: bool = False) -> None:
        """Take an answer if there is one (or wait for it), and give the child its next task."""
        if self._ticket is not None and (block or self._child.ready(self._ticket[0])):
            ticket, digest = self._ticket
            answer = self._child.answer(ticket)
            self._ticket = None
            if isinstance(answer, Measured) and answer.correct[0] is not None:
                self.accuracy[digest] = answer.correct[0] / answer.total
            else:
                self.accuracy[digest] = None
        if self._ticket is None and self._waiting:
            question = self._waiting.popleft()
            task = MeasureTask(
                architecture=self._architecture,
                snapshots=(question.snapshot,),
                data=None,
                test_of=self._dataset,
                root=self._root,
            )
            self._ticket = (self._child.give(task), question.digest)
