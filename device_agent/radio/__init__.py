"""Radios: whatever tells the agent that somebody is near."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, Protocol

RadioId = NewType("RadioId", str)
"""What a device shows on its radios for some minutes: a hint of who it is, and no more."""

PeerId = NewType("PeerId", str)
"""Who a peer is, for as long as it keeps its account: known once the link has authenticated it."""


class Medium(StrEnum):
    """How a sighting came about."""

    BLE = "ble"
    MDNS = "mdns"
    LOOPBACK = "loopback"
    LINK = "link"
    """No radio: it answered, or asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a device's link answers.

    Attributes:
        host: an IP address, with its scope where it needs one.
        port: of TCP.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One sign of one device. Who it is, the link has to find out.

    Attributes:
        radio_id: what it showed.
        seen_at_s: the clock's monotonic seconds.
        medium: where it was seen.
        rssi_dbm: signal strength, None where the medium has none.
        endpoint: where its link answers, None where the medium does not tell.
    """

    radio_id: RadioId
    seen_at_s: float
    medium: Medium
    rssi_dbm: int | None = None
    endpoint: Endpoint | None = None


class Radio(Protocol):
    """A source of sightings."""

    def sightings(self) -> AsyncIterator[Sighting]:
        """Yield sightings until the radio is closed."""
        ...


class NamedRadio(Radio, Protocol):
    """A radio that shows this device as well."""

    async def rename(self, radio_id: RadioId) -> None:
        """Show another id: the new one comes before the old one goes."""
        ...
