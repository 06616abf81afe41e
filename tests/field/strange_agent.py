"""An agent on a strange device: its wall clock is wrong, or its radios show what another device's show.

    strange_agent.py SECONDS RADIO_ID ARGUMENT...

SECONDS is how much the clock is ahead; RADIO_ID is shown for ever, or "own" for what a device shows by itself.
"""

from __future__ import annotations

import sys
import time
from functools import partial

from device_agent import live
from device_agent.__main__ import main
from device_agent.clock import SystemClock
from device_agent.radio import RadioId


def be_strange(ahead_s: float, shown: str) -> None:
    """From now on, in this process."""
    SystemClock.wall_s = lambda _: time.time() + ahead_s  # type: ignore[method-assign]
    if shown != "own":
        live.radio_id = partial(_always, RadioId(shown))


def _always(shown: RadioId, _key: bytes, _now_s: float) -> RadioId:
    return shown


if __name__ == "__main__":
    be_strange(float(sys.argv[1]), sys.argv[2])
    sys.exit(main(sys.argv[3:]))
