"""A Bluetooth radio in a process of its own, for `ble_scan_cpu_pct`.

scanning_radio.py    opens its radio on hci0 and takes its sightings; at each line on stdin it prints the seconds of
                     CPU that it has taken and how many sightings there were, and ends with stdin.
"""

from __future__ import annotations

import asyncio
import sys
import time

from device_agent.clock import SystemClock
from device_agent.radio import RadioId
from device_agent.radio.ble import BleRadio


async def main() -> None:
    radio = BleRadio(
        clock=SystemClock(), radio_id=RadioId("0" * 16), family=6, observe=lambda *_, **__: None, adapter="hci0"
    )
    count = 0

    async def take() -> None:
        nonlocal count
        async for _ in radio.sightings():
            count += 1

    async with radio:
        taking = asyncio.create_task(take())
        while await asyncio.to_thread(sys.stdin.readline):
            print(time.process_time(), count, flush=True)
        taking.cancel()


if __name__ == "__main__":
    asyncio.run(main())
