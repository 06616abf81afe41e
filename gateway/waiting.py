"""Requests that wait until there is something to tell (long polling), a bounded number of them at once.

A waiting request holds a thread and nothing else: it looks now and then, by one small query,
whether anything has changed, and only then asks again. What changes may be another process's doing, or another
gateway's on the same database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import sqlalchemy as sa

from gateway.tables import BLOCKS, EVENTS, OPERATIONS, Database

MOST_WAITING: Final = 32
"""At once; `gateway.serving` lets more than that be worked at."""
MAX_WAIT_S: Final = 30
_LOOK_EVERY_S: Final = 0.5

T = TypeVar("T")


class Waiting:
    """The waiting requests of one process. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        *,
        most: int = MOST_WAITING,
        pause: Callable[[float], bool] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set where changes show.

        Args:
            database: that is looked at.
            most: requests that may wait at once; the others are answered at once.
            pause: waits for some seconds, and returns whether to stop waiting altogether; default: until `end`.
            clock_s: any clock in seconds.
        """
        self._db = database
        self._places = threading.BoundedSemaphore(most)
        self._ended = threading.Event()
        self._pause = pause or self._ended.wait
        self._clock_s = clock_s

    def until(self, ask: Callable[[], T], told: Callable[[T], bool], *, wait_s: float) -> T:
        """Ask until there is something to tell or `wait_s` is over; return the last answer."""
        seen = self._pulse() if wait_s else None
        answer = ask()
        if not wait_s or told(answer) or not self._places.acquire(blocking=False):
            return answer
        try:
            end_s = self._clock_s() + wait_s
            while not told(answer) and (left_s := end_s - self._clock_s()) > 0:
                if self._pause(min(left_s, _LOOK_EVERY_S)):
                    break
                now = self._pulse()
                if now != seen:
                    seen, answer = now, ask()
            return answer
        finally:
            self._places.release()

    def end(self) -> None:
        """Answer all that wait now, and let nobody wait any more."""
        self._ended.set()

    def _pulse(self) -> tuple[object, ...]:
        """What differs whenever anything was handed in or happened."""
        head = sa.select(BLOCKS.c.hash).order_by(BLOCKS.c.number.desc()).limit(1)
        newest = [sa.select(sa.func.max(table.c.number)).scalar_subquery() for table in (EVENTS, OPERATIONS)]
        with self._db.read() as db:
            return tuple(db.execute(sa.select(head.scalar_subquery(), *newest)).one())
