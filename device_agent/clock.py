"""Time as the agent sees it: passed in, so that a simulation can run it faster."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds for intervals, wall seconds for records. Waiting is `asyncio.sleep` on the same time."""

    def monotonic_s(self) -> float:
        """Return seconds that never go back."""
        ...

    def wall_s(self) -> float:
        """Return Unix seconds; may be wrong on a device without a clock chip, so no deadline trusts it."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic_s(self) -> float:
        """Return `time.monotonic`."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Return `time.time`."""
        return time.time()
