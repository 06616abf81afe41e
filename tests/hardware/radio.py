"""A Bluetooth radio in a process of its own: prints a JSON line for all it says, until its stdin ends.

radio.py ADAPTER RADIO_ID HOST    ADAPTER: such as hci0, or - for the first that can be used; HOST: the address that it
                                  tells to who connects. `rename RADIO_ID` on stdin has it show another id.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from device_agent.clock import SystemClock
from device_agent.radio import RadioId
from device_agent.radio.asking import LinkRecords
from device_agent.radio.ble import BleRadio
from device_agent.radio.link_record import decode, encode

PORT = 4711


def say(what: str, **fields: Any) -> None:
    print(json.dumps({"what": what, "at_s": time.monotonic(), **fields}, default=str), flush=True)


async def tell_sightings(radio: BleRadio) -> None:
    async for one in radio.sightings():
        endpoint = None if one.endpoint is None else str(one.endpoint)
        say("sighting", radio_id=one.radio_id, rssi_dbm=one.rssi_dbm, endpoint=endpoint)


async def main(adapter: str, radio_id: str, host: str) -> None:
    radio = BleRadio(
        clock=SystemClock(),
        radio_id=RadioId(radio_id),
        family=6,
        observe=say,
        adapter=None if adapter == "-" else adapter,
        links=LinkRecords(
            own=lambda: encode(PORT, [host]),
            known=lambda _: False,
            read=lambda record: decode(record, []),
            after_s=0.0,
        ),
    )
    async with radio:
        telling = asyncio.create_task(tell_sightings(radio))
        while line := (await asyncio.to_thread(sys.stdin.readline)).split():
            await radio.rename(RadioId(line[1]))
            say("renamed", radio_id=line[1])
    await telling


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
