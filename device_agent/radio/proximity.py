"""Near or far, from signal strengths that jump by ten decibels while nobody moves. Pure; the caller brings the time.

The strengths of one device are smoothed by their age, for they do not come at even intervals: bluetoothd rests between
its windows. Near begins at a stronger signal than it ends at, so that a device at the edge does not flicker.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import exp
from typing import Final

_SMOOTHED_OVER_S: Final = 10.0
"""A step of the signal is followed by 63 % after so long: about one of bluetoothd's windows."""
_LEAST_WEIGHT: Final = 0.1
"""Of a new strength, however soon it comes after the one before: ten at one moment count as one, and not as none."""


class Distance(StrEnum):
    """How far a device seems to be."""

    NEAR = "near"
    FAR = "far"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Where near begins and ends, in dBm; as measured with the devices' own antennas.

    Attributes:
        near_from_dbm: a device this strong is near.
        far_below_dbm: a device weaker than this is far; what is between stays as it was.
    """

    near_from_dbm: float = -65.0
    far_below_dbm: float = -75.0

    def __post_init__(self) -> None:
        """Raise `ValueError` if a device could be both."""
        if self.far_below_dbm > self.near_from_dbm:
            raise ValueError("near must not begin at a weaker signal than it ends at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proximity:
    """What is known of one device.

    Attributes:
        strength_dbm: smoothed.
        at_s: monotonic seconds of the last strength.
        distance: far until it was heard to be near.
    """

    strength_dbm: float
    at_s: float
    distance: Distance


def heard(before: Proximity | None, rssi_dbm: int | None, now_s: float, edges: Edges) -> Proximity | None:
    """Return what is known after a device was heard; an unknown strength (None) changes nothing."""
    if rssi_dbm is None:
        return before
    if before is None:
        strength_dbm = float(rssi_dbm)
    else:
        weight = max(_LEAST_WEIGHT, 1 - exp(-max(0.0, now_s - before.at_s) / _SMOOTHED_OVER_S))
        strength_dbm = before.strength_dbm + weight * (rssi_dbm - before.strength_dbm)
    distance = Distance.FAR if before is None else before.distance
    if strength_dbm >= edges.near_from_dbm:
        distance = Distance.NEAR
    elif strength_dbm < edges.far_below_dbm:
        distance = Distance.FAR
    at_s = now_s if before is None else max(now_s, before.at_s)
    return Proximity(strength_dbm=strength_dbm, at_s=at_s, distance=distance)
