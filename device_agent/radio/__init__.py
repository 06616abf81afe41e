"""Radios: whatever tells the agent that somebody is near."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, Protocol

PeerId = NewType("PeerId", str)
"""The id a peer shows on its radios; a hint, authenticated only on the link."""


class Medium(StrEnum):
    """How a sighting came about."""

    BLE = "ble"
    MDNS = "mdns"
    LOOPBACK = "loopback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One sign of life of one peer.

    Attributes:
        peer: the id it showed.
        seen_at_s: the clock's monotonic seconds.
        medium: where it was seen.
        rssi_dbm: signal strength, None where the medium has none.
    """

    peer: PeerId
    seen_at_s: float
    medium: Medium
    rssi_dbm: int | None = None


class Radio(Protocol):
    """A source of sightings."""

    def sightings(self) -> AsyncIterator[Sighting]:
        """Yield sightings until the radio is closed."""
        ...
