"""A BleRadio in a process of its own, so that it can be told what it costs: prints how many sightings it has had."""

from __future__ import annotations

import asyncio

from device_agent.clock import SystemClock
from device_agent.radio import RadioId
from device_agent.radio.ble import BleRadio


async def main() -> None:
    radio = BleRadio(
        clock=SystemClock(),
        radio_id=RadioId("f" * 16),
        family=6,
        observe=lambda name, **fields: None,
        adapter="hci0",
    )
    count = 0
    async with radio:
        async for _ in radio.sightings():
            count += 1
            if count % 100 == 0:
                print(count, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
