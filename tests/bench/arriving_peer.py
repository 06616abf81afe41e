"""A device's link and mDNS radio in a process of its own, for `first_byte_p50_s`.

arriving_peer.py NAME    says "ready" once all is loaded; opens at the line "go", greets whoever its radio sees, and
                         prints "opened" and "met", with the seconds since "go". A newline later it says goodbye.

Met is whom it has greeted, or who has greeted it: then each has proved its key, for which its account vouches.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contracts.identity import Identity
from device_agent.clock import SystemClock
from device_agent.errors import LinkLost, PeerFault
from device_agent.link.lan import LanLink
from device_agent.radio import RadioId
from device_agent.radio.mdns import MdnsRadio


def say(what: str, **fields: Any) -> None:
    print(json.dumps({"what": what, **fields}), flush=True)


async def greet_all(radio: MdnsRadio, link: LanLink, met: asyncio.Event) -> None:
    async for one in radio.sightings():
        if one.endpoint is not None:
            with contextlib.suppress(LinkLost, PeerFault):
                await link.greet(one.endpoint)
                met.set()


async def live(name: str, folder: Path) -> None:
    radio_id = RadioId(hashlib.sha256(name.encode()).hexdigest()[:16])
    identity, key = Identity(os.urandom(32)), os.urandom(32)
    met = asyncio.Event()
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    began_s = time.monotonic()
    link = LanLink(
        identity=identity,
        key=key,
        radio_id=lambda: radio_id,
        clock=SystemClock(),
        random_bytes=os.urandom,
        parts=folder,
        observe=lambda *_, **__: None,
    )
    link.attach(lambda *_: None, lambda *_: None, lambda _: met.set())
    await link.open()
    radio = MdnsRadio(port=link.port, clock=SystemClock(), radio_id=radio_id, family=6, observe=lambda *_, **__: None)
    async with radio:
        say("opened", after_s=time.monotonic() - began_s)
        greeting = asyncio.create_task(greet_all(radio, link, met))
        await met.wait()
        say("met", after_s=time.monotonic() - began_s)
        await asyncio.to_thread(sys.stdin.readline)
    greeting.cancel()
    await link.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(live(sys.argv[1], Path(place)))
