"""Contact logs of a trial's devices, joined into one trace that a simulation replays."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from device_agent.contact_log import SILENCE_S
from device_agent.errors import ConfigError

RESOLUTION_S = 20.0
"""What a line of a trace stands for: the usual one of traces of face-to-face contact."""
_MOST_BYTES = 256 << 20
_MOST_SILENCE_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLog:
    """What one device wrote.

    Attributes:
        path: of the log.
        shown: the ids it showed.
        contacts: (id, start, end) of each contact; Unix s.
        silence_s: how long it waited for another sign before a contact was over.
    """

    path: Path
    shown: frozenset[str]
    contacts: tuple[tuple[str, float, float], ...]
    silence_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What all of them saw.

    Attributes:
        contacts: (start, end, i, j), sorted; devices are numbered from 1 in the order of their logs; Unix s.
        strangers: ids that no log shows; contacts with them are left out.
        one_sided: contacts that one of the two devices did not log at all.
    """

    contacts: tuple[tuple[float, float, int, int], ...]
    strangers: int
    one_sided: int

    def lines(self) -> Iterator[str]:
        """Yield lines "t i j", one for every 20 s that a contact lasts, in order of time; the first is at 0."""
        origin_s = min((start_s for start_s, *_ in self.contacts), default=0.0)
        signs = [
            (start_s - origin_s + step * RESOLUTION_S, i, j)
            for start_s, end_s, i, j in self.contacts
            for step in range(max(1, math.ceil((end_s - start_s) / RESOLUTION_S)))
        ]
        for t, i, j in sorted(signs):
            yield f"{t:.1f} {i} {j}"


def read_log(path: Path) -> DeviceLog:
    """Read a device's log. Raises `ConfigError` naming the line that cannot be read; half a last line is left out."""
    try:
        data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if data is None:
        raise ConfigError(f"{path}: more than {_MOST_BYTES >> 20} MiB is no contact log")
    shown, contacts, silence_s = set(), [], 0.0
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = from_json(line, allow_inf_nan=False)  # `json` follows brackets until the stack ends
            if "shown" in value:
                shown.add(_id(value["shown"]))
                silence_s = max(silence_s, _silence_s(value))
            else:
                contacts.append((_id(value["heard"]), *_span(value)))
        except (ValueError, KeyError, TypeError) as error:
            if _is_torn(lines, number):
                continue
            raise ConfigError(f"{path}:{number}: {line[:60]!r} is no line of a contact log") from error
    if not shown:
        raise ConfigError(f"{path}: no contact log: it does not say what its device showed")
    return DeviceLog(path=path, shown=frozenset(shown), contacts=tuple(contacts), silence_s=silence_s)


def joined(logs: Sequence[DeviceLog]) -> Trace:
    """Join what devices logged. Both sides of a contact need not have seen all of it.

    Raises `ConfigError` if two logs are of one device.
    """
    owners: dict[str, int] = {}
    for number, log in enumerate(logs, start=1):
        for one in log.shown:
            if one in owners:
                twin = logs[owners[one] - 1].path
                raise ConfigError(f"{log.path} and {twin} are of one device: put them into one file")
            owners[one] = number
    seen: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    witnesses: dict[tuple[int, int], set[int]] = defaultdict(set)
    strangers = set()
    for number, log in enumerate(logs, start=1):
        for heard, start_s, end_s in log.contacts:
            other = owners.get(heard)
            if other is None:
                strangers.add(heard)
            elif other != number:
                pair = (min(number, other), max(number, other))
                seen[pair].append((start_s, end_s))
                witnesses[pair].add(number)
    gap_s = max(one.silence_s for one in logs)
    contacts = sorted((*span, *pair) for pair, spans in seen.items() for span in _united(spans, gap_s))
    one_sided = sum(len(witnesses[i, j]) == 1 for _, _, i, j in contacts)
    return Trace(contacts=tuple(contacts), strangers=len(strangers), one_sided=one_sided)


def _united(spans: Sequence[tuple[float, float]], gap_s: float) -> list[tuple[float, float]]:
    """Join what overlaps, or lies no further apart than signs of one contact may."""
    found: list[tuple[float, float]] = []
    for start_s, end_s in sorted(spans):
        if found and start_s - found[-1][1] <= gap_s:
            found[-1] = (found[-1][0], max(found[-1][1], end_s))
        else:
            found.append((start_s, end_s))
    return found


def _id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("an id is a text")
    return value


def _silence_s(value: dict[str, Any]) -> float:
    silence_s = float(value.get("silence_s", SILENCE_S))
    if not 0 < silence_s <= _MOST_SILENCE_S:
        raise ValueError("no radio rests that long")
    return silence_s


def _span(value: dict[str, Any]) -> tuple[float, float]:
    start_s, end_s = float(value["start_s"]), float(value["end_s"])
    if not (math.isfinite(start_s) and start_s <= end_s < start_s + 86_400):
        raise ValueError("a contact ends after it begins")
    return start_s, end_s


def _is_torn(lines: Sequence[bytes], number: int) -> bool:
    """Whether power failed in the middle of a line: it is the last one, or an empty one follows, of the next start."""
    return number == len(lines) or not lines[number].strip()
