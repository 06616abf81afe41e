"""Who is near: sightings in, neighbours up and down out. Pure; the caller brings the time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from statistics import median

from device_agent.radio import PeerId, Sighting

_REMEMBERED_CONTACTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbor:
    """A peer in range. Times are monotonic seconds."""

    peer: PeerId
    since_s: float
    last_seen_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborUp:
    """A peer came into range."""

    neighbor: Neighbor


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborDown:
    """A peer has not been seen for too long."""

    neighbor: Neighbor


class Neighborhood:
    """Folds sightings into neighbours, and remembers how long contacts last."""

    def __init__(self, *, lost_after_s: float, usual_contact_s: float) -> None:
        """Set up an empty neighbourhood.

        Args:
            lost_after_s: silence after which a peer counts as gone.
            usual_contact_s: expected length of a contact with a peer never met before.
        """
        self._lost_after_s = lost_after_s
        self._usual_contact_s = usual_contact_s
        self._neighbors: dict[PeerId, Neighbor] = {}
        self._lengths_s: dict[PeerId, deque[float]] = {}

    @property
    def neighbors(self) -> tuple[Neighbor, ...]:
        """Everyone in range, first seen first."""
        return tuple(self._neighbors.values())

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._neighbors

    def observe(self, sighting: Sighting) -> NeighborUp | None:
        """Take a sighting; return the neighbour if it is new."""
        known = self._neighbors.get(sighting.peer)
        if known is not None:
            if sighting.seen_at_s > known.last_seen_s:
                self._neighbors[sighting.peer] = replace(known, last_seen_s=sighting.seen_at_s)
            return None
        neighbor = Neighbor(peer=sighting.peer, since_s=sighting.seen_at_s, last_seen_s=sighting.seen_at_s)
        self._neighbors[sighting.peer] = neighbor
        return NeighborUp(neighbor=neighbor)

    def forget_silent(self, now_s: float) -> tuple[NeighborDown, ...]:
        """Drop and return everyone not seen for too long."""
        gone = [one for one in self._neighbors.values() if now_s - one.last_seen_s >= self._lost_after_s]
        for one in gone:
            del self._neighbors[one.peer]
            lengths = self._lengths_s.setdefault(one.peer, deque(maxlen=_REMEMBERED_CONTACTS))
            lengths.append(one.last_seen_s - one.since_s)
        return tuple(NeighborDown(neighbor=one) for one in gone)

    def expected_remaining_s(self, peer: PeerId, now_s: float) -> float:
        """Return how much longer a contact will probably last: the median of past ones, less what is over.

        Once a contact has outlasted what was expected, it is expected to last a quarter of its age more.
        """
        neighbor = self._neighbors.get(peer)
        if neighbor is None:
            return 0.0
        lengths = self._lengths_s.get(peer)
        expected_s = median(lengths) if lengths else self._usual_contact_s
        age_s = now_s - neighbor.since_s
        return max(expected_s - age_s, age_s / 4)
