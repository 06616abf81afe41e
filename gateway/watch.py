"""What takes long to find out: asked in the background, so that nobody who looks at a gateway waits for a dead node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gateway.errors import NodeUnavailable
from gateway.node import Node
from gateway.shelf import Shelf

_FRESH_S: Final = 5.0
_PATIENCE_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What the node said last.

    Attributes:
        height: number of its newest block.
        final_height: number of its newest final block.
        operator_wei: native coin of the operator.
    """

    height: int
    final_height: int
    operator_wei: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is known.

    Attributes:
        facts: what the node said when it last answered, None if it never did.
        at_s: when that was, or when it was first asked; Unix seconds.
        fault: why it gave no answer the last time, None if it did.
        models: how many models are kept.
        model_bytes: their size.
    """

    facts: NodeFacts | None
    at_s: float
    fault: str | None
    models: int
    model_bytes: int


class Watch:
    """Keeps an eye on one node and one shelf. Safe to share between threads."""

    def __init__(self, *, node: Node, shelf: Shelf, operator: str, now_s: Callable[[], float]) -> None:
        """Set what is watched; nothing is asked before somebody looks."""
        self._node = node
        self._shelf = shelf
        self._operator = operator
        self._now_s = now_s
        self._lock = threading.Lock()
        self._found = threading.Event()
        self._asking = False
        self._asked_at_s = float("-inf")
        self._latest: Watched | None = None

    def latest(self) -> Watched | None:
        """Return what is known, some seconds old while the node answers; None if nothing is known yet.

        Waits half a second at most.
        """
        with self._lock:
            due = not self._asking and time.monotonic() - self._asked_at_s >= _FRESH_S
            if due:
                self._asking = True
                self._found.clear()
                threading.Thread(target=self._look, name="watch", daemon=True).start()
        self._found.wait(_PATIENCE_S)
        return self._latest

    def _look(self) -> None:
        try:
            self._latest = self._looked()
        finally:
            self._asked_at_s = time.monotonic()
            self._asking = False
            self._found.set()

    def _looked(self) -> Watched:
        models, model_bytes = self._shelf.size()
        known = self._latest or Watched(facts=None, at_s=self._now_s(), fault=None, models=0, model_bytes=0)
        known = replace(known, models=models, model_bytes=model_bytes)
        try:
            height = self._node.height()
            facts = NodeFacts(
                height=height,
                final_height=self._node.final_height(height),
                operator_wei=self._node.balance_wei(self._operator),
            )
        except NodeUnavailable as error:
            return replace(known, fault=str(error))
        return replace(known, facts=facts, at_s=self._now_s(), fault=None)
