"""When to listen and when to rest, for devices that live on a battery. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 10.5
"""bluetoothd listens for 10.24 s at a time; then it rests for about 5 s by itself, if discovery goes on."""
MOST_PER_MIN: Final = 4.0
"""Sightings of each device while discovery goes on all the time: one in each window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DutyCycle:
    """Listen at the beginning of each period; by default, always.

    Attributes:
        window_s: how long.
        period_s: from the beginning of one window to that of the next.
    """

    window_s: float = math.inf
    period_s: float = math.inf

    @property
    def rests(self) -> bool:
        """Whether there is any rest."""
        return self.window_s < self.period_s

    def listens(self, passed_s: float) -> bool:
        """Return whether this is the time to listen, so long after the first window began."""
        return not self.rests or passed_s % self.period_s < self.window_s

    def changes_in_s(self, passed_s: float) -> float:
        """Return how long it stays like that; infinity where it always does."""
        if not self.rests:
            return math.inf
        into_s = passed_s % self.period_s
        return self.window_s - into_s if into_s < self.window_s else self.period_s - into_s


ALWAYS: Final = DutyCycle()


def duty_of(per_min: float) -> DutyCycle:
    """Return the duty cycle by which each device in range is heard so often per minute, 4 at the most."""
    return ALWAYS if per_min >= MOST_PER_MIN else DutyCycle(window_s=WINDOW_S, period_s=60 / per_min)
