"""How far a soak is: one live line on a terminal, else a line now and then."""

import sys
import threading
import time
from typing import Final

from soak_chaos import Chaos
from soak_field import Book

_LIVE_S: Final = 0.5
_LINE_S: Final = 15.0


class Progress(threading.Thread):
    """Tells on standard error how far a soak is.

    Attributes:
        stage: what is being done when all encounters have ended.
    """

    def __init__(self, book: Book, chaos: Chaos, *, encounters: int) -> None:
        """Set what is told of."""
        super().__init__(name="progress")
        self.stage = ""
        self._book = book
        self._chaos = chaos
        self._encounters = encounters
        self._live = sys.stderr.isatty()
        self._begun_s = time.monotonic()
        self._ended = threading.Event()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._begun_s

    def run(self) -> None:
        """Tell until `end`."""
        while not self._ended.wait(_LIVE_S if self._live else _LINE_S):
            self._tell()

    def end(self) -> None:
        """Tell a last time."""
        self._ended.set()
        self.join()
        self._tell()
        if self._live:
            print(file=sys.stderr)

    def _tell(self) -> None:
        words = line(
            begun=len(self._book.encounters),
            ended=self._book.ended,
            encounters=self._encounters,
            faults=self._chaos.done.total(),
            elapsed_s=self.elapsed_s,
            stage=self.stage,
        )
        print(*(("\r\x1b[K", words) if self._live else (words, "\n")), sep="", end="", file=sys.stderr, flush=True)


def line(*, begun: int, ended: int, encounters: int, faults: int, elapsed_s: float, stage: str) -> str:
    """Return what is told of a soak that is so far."""
    words = f"{_clock(elapsed_s)}  {ended} of {encounters} encounters ended, {begun - ended} under way, {faults} faults"
    if stage:
        return f"{words}; {stage}"
    if ended == 0:
        return words
    left_s = (encounters - ended) * elapsed_s / ended
    return f"{words}, {ended / elapsed_s:.1f} a second, about {_clock(left_s)} left"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
