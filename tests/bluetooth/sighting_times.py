"""How soon a radio sees another that begins to show an id, on a real bluetoothd; in the guest.

    sighting_times.py FILE

Writes the seconds between each `rename` and the first sighting of the new id by the other radio, as a list of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "device_agent"))
from ble_device import Device, run
from stack import stack_in

from device_agent.clock import SystemClock
from device_agent.radio import RadioId

_TIMES = 20
_REST_S = 0.7
"""Between two: no multiple of what bluetoothd does in turn."""
_LIMIT_S = 300.0


async def times_s(folder: Path) -> list[float]:
    clock = SystemClock()
    looking, showing = Device(RadioId("a" * 16), "hci0"), Device(RadioId("b" * 16), "hci1")
    found: list[float] = []
    async with stack_in(folder), looking.radio, showing.radio:
        await looking.next_of(RadioId("b" * 16))
        for number in range(_TIMES):
            radio_id = RadioId(f"{number:016x}")
            began_s = clock.monotonic_s()
            await showing.radio.rename(radio_id)
            found.append((await looking.next_of(radio_id)).seen_at_s - began_s)
            await asyncio.sleep(_REST_S)
    return found


def main(told: Path) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            told.write_text(json.dumps(await times_s(Path(folder))))  # noqa: ASYNC240 - nothing else runs any more

    run(play, _LIMIT_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
