"""An MdnsRadio in a process of its own: prints a JSON line for all it says, takes `rename <radio id>` on stdin.

It says goodbye on SIGTERM. Times are the monotonic seconds of this machine, so those of two processes can be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from typing import Any

from device_agent.clock import SystemClock
from device_agent.radio import RadioId
from device_agent.radio.mdns import MdnsRadio


def say(what: str, **fields: Any) -> None:
    print(json.dumps({"what": what, "at_s": time.monotonic(), **fields}), flush=True)


def observe(name: str, **fields: object) -> None:
    say(name, **fields)


async def tell_sightings(radio: MdnsRadio) -> None:
    async for one in radio.sightings():
        say("sighting", radio_id=one.radio_id, endpoint=str(one.endpoint), seen_at_s=one.seen_at_s)
    say("end of sightings")


async def obey(radio: MdnsRadio) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().split():
        await radio.rename(RadioId(line[1]))
        say("renamed", radio_id=line[1])


async def main(port: int, radio_id: RadioId, interfaces: list[str] | None) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    radio = MdnsRadio(
        port=port, clock=SystemClock(), radio_id=radio_id, family=7, observe=observe, interfaces=interfaces
    )
    telling = asyncio.create_task(tell_sightings(radio))
    obeying = asyncio.create_task(obey(radio))
    say("opens")
    async with radio:
        await stop.wait()
        say("closes")
    await telling
    obeying.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("radio_id", type=RadioId)
    parser.add_argument("--interface", action="append")
    options = parser.parse_args()
    asyncio.run(main(options.port, options.radio_id, options.interface))
