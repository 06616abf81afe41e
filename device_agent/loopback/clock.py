"""Virtual time for asyncio: when nothing is left to do now, the clock jumps to the next thing due.

Everything in the simulation sleeps on this loop, so hours pass in the time their work takes, and the order of
events depends on the scenario and its seed alone. Real work (training in a child process) is waited for by first
sleeping as long as the device would take, then taking the answer: see `device_agent.loopback.world`.

Decision: the loop's selector is wrapped instead of every sleep being replaced, so that `asyncio.timeout`, locks and
task groups work unchanged. Rejected: threads or sockets inside the world, whose real time would leak in.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any


class WorldStalled(Exception):
    """Every task waits and nothing is due: the simulation cannot go on."""


class _JumpingSelector(selectors.BaseSelector):
    """Never waits: tells the clock how far it may jump instead."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise WorldStalled("no task of the simulation is due, ever")
        self.now_s += timeout
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._jumping.now_s


class VirtualClock:
    """The clock of every simulated device: the loop's time, and an epoch for the wall."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, epoch_s: float) -> None:
        self._loop = loop
        self._epoch_s = epoch_s

    def monotonic_s(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def wall_s(self) -> float:
        """Return the loop's time as Unix seconds."""
        return self._epoch_s + self._loop.time()
