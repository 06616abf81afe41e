"""A connection to a database that is kept at hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class _Closes(Protocol):
    def close(self) -> None: ...


One = TypeVar("One", bound=_Closes)


class Kept(Generic[One]):
    """A connection that many use, one at a time. Safe to share between threads.

    To check a connection out of a pool and in again can cost more than all that is done with it.
    """

    def __init__(self, connect: Callable[[], One]) -> None:
        """Connect when somebody asks."""
        self._connect = connect
        self._turn = threading.Lock()
        self._one: One | None = None

    @contextmanager
    def taken(self) -> Iterator[One]:
        """Use it as soon as nobody else does. If that raises anything it is closed, and the next has a new one."""
        with self._turn:
            one, self._one = self._one or self._connect(), None
            try:
                yield one
            except BaseException:
                one.close()
                raise
            self._one = one

    def close(self) -> None:
        """Close it as soon as nobody uses it."""
        with self._turn:
            if self._one is not None:
                self._one.close()
            self._one = None
