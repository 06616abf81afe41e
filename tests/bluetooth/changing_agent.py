"""An agent whose ids change after so many seconds, counted from its start; they stay those of its key.

changing_agent.py SECONDS ARGUMENT...
"""

from __future__ import annotations

import sys
import time

from device_agent import live
from device_agent.__main__ import main
from device_agent.radio import RadioId
from device_agent.radio.ids import INTERVAL_S, radio_id


def change_every(seconds: float) -> None:
    """From now on, in this process."""
    began_s = time.time()

    def shown(key: bytes, now_s: float) -> RadioId:
        return radio_id(key, began_s + (now_s - began_s) // seconds * INTERVAL_S)

    def changes_in_s(_key: bytes, now_s: float) -> float:
        return seconds - (now_s - began_s) % seconds

    live.radio_id = shown
    live.changes_in_s = changes_in_s


if __name__ == "__main__":
    change_every(float(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
