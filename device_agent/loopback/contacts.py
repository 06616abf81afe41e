"""Who meets whom, and when: made at random, or read from a contact trace."""

from __future__ import annotations

import gzip
import math
import random
from dataclasses import dataclass
from pathlib import Path

from device_agent.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Contact:
    """Two devices in range of each other. Times in virtual seconds, devices numbered from 0, `a` < `b`."""

    start_s: float
    end_s: float
    a: int
    b: int


def random_contacts(
    devices: int, *, mean_gap_s: float, mean_contact_s: float, min_contact_s: float, until_s: float, rng: random.Random
) -> list[Contact]:
    """Let every pair meet again and again, with exponential gaps and exponential lengths; sorted by start."""
    contacts: list[Contact] = []
    for a in range(devices):
        for b in range(a + 1, devices):
            at_s = rng.expovariate(1 / mean_gap_s)
            while at_s < until_s:
                end_s = at_s + min_contact_s + rng.expovariate(1 / mean_contact_s)
                contacts.append(Contact(start_s=at_s, end_s=end_s, a=a, b=b))
                at_s = end_s + rng.expovariate(1 / mean_gap_s)
    return sorted(contacts)


def trace_contacts(path: Path, *, devices: int, gap_s: float, resolution_s: float = 20.0) -> list[Contact]:
    """Read a "t i j" trace (one sighting a line, plain or gzip); sorted by start, the first at 0.

    The `devices` people seen most often take part. Sightings of a pair up to `gap_s` apart are one contact, which
    ends `resolution_s` after its last sighting. Raises `ConfigError` naming the line that cannot be read.
    """
    sightings = _read(path)
    seen: dict[int, int] = {}
    for _, a, b in sightings:
        seen[a] = seen.get(a, 0) + 1
        seen[b] = seen.get(b, 0) + 1
    if len(seen) < devices:
        raise ConfigError(f"{path}: {len(seen)} people in the trace, devices.count = {devices}; at most {len(seen)}")
    chosen = sorted(sorted(seen, key=lambda one: (-seen[one], one))[:devices])
    number = {person: index for index, person in enumerate(chosen)}
    origin_s = min(t for t, _, _ in sightings)
    open_: dict[tuple[int, int], tuple[float, float]] = {}
    contacts: list[Contact] = []
    for t, i, j in sightings:
        if i not in number or j not in number:
            continue
        pair = (min(number[i], number[j]), max(number[i], number[j]))
        at_s = t - origin_s
        start_s, last_s = open_.get(pair, (at_s, at_s))
        if at_s - last_s > gap_s:
            contacts.append(Contact(start_s=start_s, end_s=last_s + resolution_s, a=pair[0], b=pair[1]))
            start_s = at_s
        open_[pair] = (start_s, at_s)
    contacts += [
        Contact(start_s=start_s, end_s=last_s + resolution_s, a=pair[0], b=pair[1])
        for pair, (start_s, last_s) in open_.items()
    ]
    return sorted(contacts)


def _read(path: Path) -> list[tuple[float, int, int]]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("ascii")
    except (OSError, EOFError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a contact trace: {error}") from error
    sightings: list[tuple[float, int, int]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        try:
            t, i, j = float(fields[0]), int(fields[1]), int(fields[2])
        except (ValueError, IndexError):
            t, i, j = math.nan, 0, 0
        if not math.isfinite(t):
            raise ConfigError(f'{path}:{number}: {line[:60]!r} is not "t i j"')
        if i != j:
            sightings.append((t, i, j))
    if not sightings:
        raise ConfigError(f"{path}: the trace holds no contact")
    return sorted(sightings)
