"""Who is near: sightings and greetings in, neighbours up and down out. Pure; the caller brings the time.

A radio shows an id that changes, and at best where to ask. Who it is, a greeting over the link tells; from then on
every sign of that id is a sign of that peer. A neighbour of which no radio gives signs of life is greeted again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from device_agent.link import Greeting
from device_agent.radio import Endpoint, Medium, PeerId, RadioId, Sighting
from device_agent.radio.proximity import Edges, Proximity, heard

_REMEMBERED_IDS = 512
_REMEMBERED_PLACES = 256
_MOST_NEIGHBORS = 256
"""More than a room holds: one host may show up under any number of accounts."""
_MOST_AT_ONCE = 4
"""Greetings under way at the same time."""
_GIVE_UP_AFTER = 8
"""Greetings without an answer, after which a place is forgotten until a radio shows it again."""
_LONGEST_REST_S = 120.0
_SILENT_INTERVALS = 3
"""A peer is gone after so many of its usual intervals between signs of life without one."""
_INTERVAL_WEIGHT = 0.25
_PINGS_BELIEVED = 6
"""Anyone can show again what a peer has shown: signs over Bluetooth spare so many pings, and then it has to answer."""

_EDGES = Edges()
SIGNS_OF_LIFE = frozenset({Medium.BLE, Medium.LOOPBACK})
"""Media that tell of a device that is there. A DNS record outlives its device by many minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbor:
    """A peer in range. Times are monotonic seconds.

    Attributes:
        peer: who it is.
        endpoint: where its link answers.
        since_s: when the contact began.
        last_seen_s: its last sign of life.
        proven_s: its last sign of life that nobody else can give.
        interval_s: usual time between two signs of life, None before the second.
        proximity: how near it seems to be, None before a radio told a signal strength.
    """

    peer: PeerId
    endpoint: Endpoint
    since_s: float
    last_seen_s: float
    proven_s: float
    interval_s: float | None = None
    proximity: Proximity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborUp:
    """A peer came into range."""

    neighbor: Neighbor


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborDown:
    """A peer has not been seen for too long."""

    neighbor: Neighbor

    @property
    def contact_s(self) -> float:
        """How long the contact lasted."""
        return self.neighbor.last_seen_s - self.neighbor.since_s


@dataclass(slots=True)
class _Place:
    """Somewhere to ask who is there."""

    next_s: float
    failures: int = 0


class Neighborhood:
    """Folds sightings and greetings into neighbours."""

    def __init__(
        self,
        *,
        lost_after_s: float,
        usual_contact_s: float,
        ping_every_s: float,
        past_contacts_s: Callable[[PeerId], Sequence[float]],
    ) -> None:
        """Set up an empty neighbourhood.

        Args:
            lost_after_s: silence after which a peer counts as gone; longer for one that is usually silent longer.
            usual_contact_s: expected length of a contact with a peer never met before.
            ping_every_s: silence after which a neighbour is greeted again.
            past_contacts_s: tells how long contacts with a peer lasted.
        """
        self._lost_after_s = lost_after_s
        self._usual_contact_s = usual_contact_s
        self._ping_every_s = ping_every_s
        self._neighbors: dict[PeerId, Neighbor] = {}
        self._peers: OrderedDict[RadioId, PeerId] = OrderedDict()
        self._places: OrderedDict[Endpoint, _Place] = OrderedDict()
        self._asking: set[Endpoint] = set()
        self._pinged_at_s: dict[PeerId, float] = {}
        self._past_contacts_s = past_contacts_s

    @property
    def neighbors(self) -> tuple[Neighbor, ...]:
        """Everyone in range, first seen first."""
        return tuple(self._neighbors.values())

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._neighbors

    def knows(self, radio_id: RadioId) -> bool:
        """Return whether it is known who shows an id, and that peer is in range."""
        return self._peers.get(radio_id) in self._neighbors

    def observe(self, sighting: Sighting) -> None:
        """Take a sighting: a sign of life of a neighbour, or somewhere to ask who is there."""
        peer = self._peers.get(sighting.radio_id)
        known = None if peer is None else self._neighbors.get(peer)
        if known is not None:
            if sighting.medium in SIGNS_OF_LIFE:
                proven = sighting.medium is not Medium.BLE
                self._alive(known, sighting.seen_at_s, rssi_dbm=sighting.rssi_dbm, proven=proven)
            if sighting.endpoint in (None, known.endpoint):
                return
        if sighting.endpoint is not None and sighting.endpoint not in self._places:
            self._places[sighting.endpoint] = _Place(next_s=sighting.seen_at_s)
            _shorten(self._places, _REMEMBERED_PLACES)

    def due(self, now_s: float) -> tuple[Endpoint, ...]:
        """Return where to ask now who is there; each is to be followed by `greeted` or `unanswered`."""
        silent = [
            one.endpoint
            for one in self._neighbors.values()
            if now_s - max(self._believed_s(one), self._pinged_at_s.get(one.peer, 0.0)) >= self._ping_every_s
        ]
        shown = [endpoint for endpoint, place in self._places.items() if now_s >= place.next_s]
        free = max(0, _MOST_AT_ONCE - len(self._asking))
        chosen = [one for one in dict.fromkeys(silent + shown) if one not in self._asking][:free]
        self._asking.update(chosen)
        return tuple(chosen)

    def greeted(self, greeting: Greeting, now_s: float, *, asked: Endpoint | None = None) -> NeighborUp | None:
        """Take an answer of who is at `asked`, or a greeting that came by itself; return the neighbour if it is new."""
        if asked is not None:
            self._asking.discard(asked)
            self._places.pop(asked, None)
        self._peers[greeting.radio_id] = greeting.peer
        self._peers.move_to_end(greeting.radio_id)
        _shorten(self._peers, _REMEMBERED_IDS)
        known = self._neighbors.get(greeting.peer)
        if known is not None:
            self._alive(replace(known, endpoint=greeting.endpoint), now_s)
            return None
        if len(self._neighbors) >= _MOST_NEIGHBORS:
            return None
        neighbor = Neighbor(
            peer=greeting.peer, endpoint=greeting.endpoint, since_s=now_s, last_seen_s=now_s, proven_s=now_s
        )
        self._neighbors[greeting.peer] = neighbor
        return NeighborUp(neighbor=neighbor)

    def unanswered(self, asked: Endpoint, now_s: float) -> None:
        """Nobody answered at `asked`, or somebody who is not to be dealt with: ask again later, ever more rarely."""
        self._asking.discard(asked)
        for one in self._neighbors.values():
            if one.endpoint == asked:
                self._pinged_at_s[one.peer] = now_s
        place = self._places.get(asked)
        if place is None:
            return
        place.failures += 1
        if place.failures >= _GIVE_UP_AFTER:
            del self._places[asked]
        else:
            place.next_s = now_s + min(_LONGEST_REST_S, 2.0**place.failures)

    def forget_silent(self, now_s: float) -> tuple[NeighborDown, ...]:
        """Drop and return everyone not seen for too long."""
        gone = [one for one in self._neighbors.values() if now_s - self._believed_s(one) >= self._patience_s(one)]
        for one in gone:
            del self._neighbors[one.peer]
            self._pinged_at_s.pop(one.peer, None)
        return tuple(NeighborDown(neighbor=one) for one in gone)

    def expected_remaining_s(self, peer: PeerId, now_s: float) -> float:
        """Return how much longer a contact will probably last: the median of past ones, less what is over.

        Once a contact has outlasted what was expected, it is expected to last a quarter of its age more.
        """
        neighbor = self._neighbors.get(peer)
        if neighbor is None:
            return 0.0
        lengths = self._past_contacts_s(peer)
        expected_s = median(lengths) if lengths else self._usual_contact_s
        age_s = now_s - neighbor.since_s
        return max(expected_s - age_s, age_s / 4)

    def _believed_s(self, one: Neighbor) -> float:
        """Return until when a neighbour is believed to have been there."""
        return min(one.last_seen_s, one.proven_s + _PINGS_BELIEVED * self._ping_every_s)

    def _alive(self, known: Neighbor, at_s: float, *, rssi_dbm: int | None = None, proven: bool = True) -> None:
        if proven:
            known = replace(known, proven_s=max(known.proven_s, at_s))
        passed_s = at_s - known.last_seen_s
        if passed_s > 0:
            usual_s = known.interval_s
            learned_s = passed_s if usual_s is None else usual_s + _INTERVAL_WEIGHT * (passed_s - usual_s)
            known = replace(known, last_seen_s=at_s, interval_s=learned_s)
        self._neighbors[known.peer] = replace(known, proximity=heard(known.proximity, rssi_dbm, at_s, _EDGES))

    def _patience_s(self, one: Neighbor) -> float:
        usual_s = one.interval_s or 0.0
        return max(self._lost_after_s, min(_SILENT_INTERVALS * usual_s, 2 * self._lost_after_s))


def _shorten(remembered: OrderedDict, most: int) -> None:  # type: ignore[type-arg]
    """Forget the oldest: strangers decide how much there is to remember."""
    while len(remembered) > most:
        remembered.popitem(last=False)
