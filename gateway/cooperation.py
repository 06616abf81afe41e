"""Work that waits for a disk or a node, asked for by many requests that share one thread.

Such requests are greenlets: each runs until it waits for its client. Whatever else they wait for is done by one of a
pool of threads, or it would hold up all of them. Callers that have a thread to themselves do it there.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from gevent.lock import BoundedSemaphore
from gevent.threadpool import ThreadPool

T = TypeVar("T")


class _Here(threading.local):
    pool: ThreadPool | None = None


class Lock(Protocol):
    """What can be waited for, and let go of by anybody."""

    def acquire(self) -> bool:
        """Wait until it is free, and take it."""

    def release(self) -> object:
        """Let the next one have it."""


_here = _Here()


@contextmanager
def shared_thread(threads: int) -> Iterator[None]:
    """Let this thread be shared by greenlets, which have so many other threads to wait in."""
    pool = _here.pool = ThreadPool(threads)
    try:
        yield
    finally:
        _here.pool = None
        pool.kill()


def elsewhere(work: Callable[[], T]) -> T:
    """Do something that may take its time where it holds up nobody; return what it returns, raise what it raises."""
    if _here.pool is None:
        return work()
    told: T = _here.pool.apply(contextvars.copy_context().run, (work,))
    return told


def lock() -> Lock:
    """Return a free lock that the caller may wait for."""
    return threading.Lock() if _here.pool is None else BoundedSemaphore(1)
