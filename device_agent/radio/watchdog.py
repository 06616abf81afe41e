"""When a scanner that hears nothing is to be helped, and how. Pure; the caller brings the time.

BlueZ's discovery stops for good after hours, without a word. A place without any Bluetooth device looks the same, so
the steps after the last one come ever more rarely.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

_LONGEST_REST_S: Final = 3600.0


class Step(StrEnum):
    """What is tried, in this order."""

    RESTART_DISCOVERY = "restart discovery"
    POWER_CYCLE = "turn the adapter off and on"
    GIVE_UP = "give up, and say what a person can do"


_ORDER: Final = tuple(Step)


class Watchdog:
    """Counts how long nothing was heard."""

    def __init__(self, quiet_s: float, now_s: float) -> None:
        """Begin to wait.

        Args:
            quiet_s: silence before each step.
            now_s: monotonic seconds.
        """
        self._quiet_s = quiet_s
        self._patience_s = quiet_s
        self._since_s = now_s
        self._taken = 0

    def heard(self, now_s: float) -> None:
        """Note a sign that the scanner works: of whomever."""
        self._since_s, self._taken, self._patience_s = now_s, 0, self._quiet_s

    def away(self, now_s: float) -> None:
        """Note that discovery does not run, for a reason that is known: silence says nothing then."""
        self._since_s = now_s

    def rested(self, seconds: float) -> None:
        """Note that discovery did not run for so long because it was to save power: that silence does not count."""
        self._since_s += seconds

    def failed(self, now_s: float) -> None:
        """Note that the step just taken was refused: the next one is due at once."""
        self._since_s = now_s - self._patience_s

    def due(self, now_s: float) -> Step | None:
        """Return what to try now, None if it is not time; each is returned once."""
        if now_s - self._since_s < self._patience_s:
            return None
        step = _ORDER[self._taken]
        self._since_s, self._taken = now_s, (self._taken + 1) % len(_ORDER)
        if step is Step.GIVE_UP:
            self._patience_s = max(self._quiet_s, min(2 * self._patience_s, _LONGEST_REST_S))
        return step
