"""Tells a request made for the first time from one made before, by its number: a window that moves along.

Requests overtake each other on their way, so the highest number seen is not enough. Of the last `WIDTH` numbers each is
remembered; what lies before them is taken for seen. A device needs no clock, and no more than `WIDTH` requests under
way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WIDTH: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which numbers were seen.

    Attributes:
        highest: the highest one, 0 if there was none.
        seen: bit n stands for `highest` - n, n < `WIDTH`.
    """

    highest: int = 0
    seen: int = 0


def after_request(window: Window, counter: int) -> Window | None:
    """Return the window once a number was used, None if it was used before or may have been."""
    ahead = counter - window.highest
    if ahead > 0:
        kept = window.seen << ahead if ahead < WIDTH else 0
        return Window(highest=counter, seen=(kept | 1) & (1 << WIDTH) - 1)
    if -ahead >= WIDTH or counter < 1:
        return None
    bit = 1 << -ahead
    if window.seen & bit:
        return None
    return Window(highest=window.highest, seen=window.seen | bit)
