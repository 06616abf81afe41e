"""The log of a field trial: who was near, from when to when, and how strong the signal was; rotating ids alone.

A line is a contact as one device saw it, or an id that it showed itself from then on. What several devices logged,
`device_agent.trace` joins: the ids that a device showed tell which contacts were with it. Whoever has one log alone
learns of the others no more than their radios tell everyone.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from device_agent.clock import Clock
from device_agent.errors import StorageFault
from device_agent.observation import Observe
from device_agent.radio import Medium, RadioId

SILENCE_S = 60.0
"""A contact is over after so long without a sign; bluetoothd listens for two thirds of the time."""
_LONGEST_S = 300.0
"""A longer one is written in pieces, so that a device that loses power loses little."""
_MOST_OPEN = 512
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A contact as one device saw it, or a piece of one.

    Attributes:
        heard: what the other device showed.
        medium: how it was heard.
        start_s: Unix s of the first sign.
        end_s: Unix s of the last.
        signs: how many there were.
        rssi_dbm: weakest, mean and strongest signal; None where the medium tells none.
    """

    heard: RadioId
    medium: Medium
    start_s: float
    end_s: float
    signs: int
    rssi_dbm: tuple[int, float, int] | None


@dataclass(slots=True)
class _Open:
    """A contact under way. Monotonic s, but for `start_s`."""

    start_s: float
    since_s: float
    last_s: float
    signs: int = 0
    measured: int = 0
    total_dbm: int = 0
    weakest_dbm: int = 0
    strongest_dbm: int = 0


class Contacts:
    """Folds signs of life into contacts. Pure; of contacts under way, the 512 that were heard last are kept."""

    def __init__(self, silence_s: float = SILENCE_S) -> None:
        """A contact is over after `silence_s` without a sign."""
        self._silence_s = silence_s
        self._open: OrderedDict[tuple[RadioId, Medium], _Open] = OrderedDict()

    def sign(
        self, heard: RadioId, medium: Medium, *, now_s: float, wall_s: float, rssi_dbm: int | None = None
    ) -> list[Heard]:
        """Take a sign of life at `now_s` (monotonic) and `wall_s` (Unix); return what is over because of it."""
        key = (heard, medium)
        one = self._open.setdefault(key, _Open(start_s=wall_s, since_s=now_s, last_s=now_s))
        one.last_s = max(one.last_s, now_s)
        one.signs += 1
        if rssi_dbm is not None:
            one.weakest_dbm = min(one.weakest_dbm, rssi_dbm) if one.measured else rssi_dbm
            one.strongest_dbm = max(one.strongest_dbm, rssi_dbm) if one.measured else rssi_dbm
            one.measured += 1
            one.total_dbm += rssi_dbm
        self._open.move_to_end(key)
        return [self._close(next(iter(self._open)))] if len(self._open) > _MOST_OPEN else []

    def over(self, now_s: float) -> list[Heard]:
        """Return the contacts that are over at `now_s`, and the first pieces of long ones."""
        return [
            self._close(key)
            for key, one in list(self._open.items())
            if now_s - one.last_s >= self._silence_s or one.last_s - one.since_s >= _LONGEST_S
        ]

    def close(self) -> list[Heard]:
        """Return all that are under way."""
        return [self._close(key) for key in list(self._open)]

    def _close(self, key: tuple[RadioId, Medium]) -> Heard:
        one = self._open.pop(key)
        return Heard(
            heard=key[0],
            medium=key[1],
            start_s=round(one.start_s, 1),
            end_s=round(one.start_s + one.last_s - one.since_s, 1),  # clocks are set right in the middle of it
            signs=one.signs,
            rssi_dbm=(one.weakest_dbm, round(one.total_dbm / one.measured, 1), one.strongest_dbm)
            if one.measured
            else None,
        )


class ContactLog:
    """Writes contacts to a file, a line of JSON each, up to 64 MiB. What is written is never changed."""

    def __init__(
        self,
        path: Path,
        *,
        own: Callable[[], RadioId],
        clock: Clock,
        observe: Observe,
        silence_s: float = SILENCE_S,
    ) -> None:
        """Go on with the file at `path`; a contact is over after `silence_s` without a sign. Raises `StorageFault`."""
        self._clock = clock
        self._own = own
        self._observe = observe
        self._silence_s = silence_s
        self._contacts = Contacts(silence_s)
        self._shown: RadioId | None = None
        self._path = path
        try:
            self._file = path.open("a", encoding="ascii")
            self._left_bytes = _MOST_BYTES - path.stat().st_size
        except OSError as error:
            raise StorageFault(f"{path}: {error.strerror}") from error
        if self._file.tell():
            self._write("\n")  # power may have failed in the middle of a line

    def sign(self, heard: RadioId, medium: Medium, *, now_s: float, rssi_dbm: int | None = None) -> None:
        """Take a sign of life of somebody."""
        self._note_own()
        wall_s = self._clock.wall_s() - (self._clock.monotonic_s() - now_s)
        self._note(self._contacts.sign(heard, medium, now_s=now_s, wall_s=wall_s, rssi_dbm=rssi_dbm))

    def look(self, now_s: float) -> None:
        """Write what is over."""
        self._note_own()
        self._note(self._contacts.over(now_s))

    def close(self) -> None:
        """Write what is under way as well."""
        self._note(self._contacts.close())
        self._file.close()

    def _note_own(self) -> None:
        if self._shown != self._own():
            self._shown = self._own()
            at_s = round(self._clock.wall_s(), 1)
            self._write(json.dumps({"shown": self._shown, "at_s": at_s, "silence_s": self._silence_s}))

    def _note(self, contacts: list[Heard]) -> None:
        for one in contacts:
            self._write(json.dumps(asdict(one)))

    def _write(self, line: str) -> None:
        if self._left_bytes <= 0:
            return
        self._left_bytes -= len(line) + 1
        if self._left_bytes <= 0:
            self._observe("fault", where="contacts", reason=f"{self._path} is full: no more contacts are written")
            return
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            self._left_bytes = 0
            self._observe("fault", where="contacts", reason=f"{self._path}: {error.strerror}; no more are written")
