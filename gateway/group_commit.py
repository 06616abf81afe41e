"""Group commit: what many requests hand in at the same moment goes to disk with one write.

Who comes while a write is under way waits for its end, and the first of those writes for all of them. So a lone
request waits for nobody, and under load the cost of a write is shared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from gateway.cooperation import elsewhere, lock

Asked = TypeVar("Asked")
Told = TypeVar("Told")

_MOST: Final = 256
"""Pieces in one write: a database takes a bounded number of parameters."""


class GroupCommit(Generic[Asked, Told]):
    """Writes together what comes at the same time. Safe to share between threads and greenlets."""

    def __init__(self, write: Callable[[Sequence[Asked]], Sequence[Told | Exception]]) -> None:
        """Set what writes several pieces, and tells for each in order what came of it, or why it is refused."""
        self._write = write
        self._lock = threading.Lock()
        self._writing = False
        self._waiting: list[_Piece[Asked, Told]] = []

    def __call__(self, asked: Asked) -> Told:
        """Write one piece; return when it is on disk. Raises what it is refused for, or why nothing was written."""
        mine: _Piece[Asked, Told] = _Piece(asked)
        with self._lock:
            self._waiting.append(mine)
            waits, self._writing = self._writing, True
        if waits:
            mine.woken.acquire()
        if not mine.told:
            self._write_waiting()
        told = mine.told[0]
        if isinstance(told, BaseException):
            raise told
        return told

    def _write_waiting(self) -> None:
        """Write what waits, and leave what has come meanwhile to the first of those who brought it."""
        with self._lock:
            pieces, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        answers: list[tuple[_Piece[Asked, Told], Told | BaseException]]
        try:
            told = elsewhere(lambda: self._write([one.asked for one in pieces]))
            answers = list(zip(pieces, told, strict=True))
        except BaseException as error:  # each of them raises it
            answers = [(piece, error) for piece in pieces]
        for piece, one in answers:
            piece.told = [one]
        with self._lock:
            following = self._waiting[:1]
            self._writing = bool(following)
        for piece in (*following, *pieces):
            piece.woken.release()


class _Piece(Generic[Asked, Told]):
    """What one request waits for: `told` is empty until it is known.

    `woken` is let go of when it is known, or when it is this one's turn to write.
    """

    __slots__ = ("asked", "told", "woken")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.told: list[Told | BaseException] = []
        self.woken = lock()
        self.woken.acquire()
