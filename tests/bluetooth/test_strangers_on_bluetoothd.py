"""A crowd of strangers on a real bluetoothd, some of them hostile: what they say has to pass through all of it."""

from __future__ import annotations

import asyncio
import random
import uuid
from pathlib import Path

import pytest
from ble_device import Device, run
from stack import Stack, stack_in

from device_agent.radio import RadioId
from device_agent.radio.advertisement import SERVICE_UUID, Advertisement, Reason, encode
from device_agent.radio.ble import Timing

_FLAGS = bytes([2, 0x01, 0x06])
_SERVICE_DATA_128 = 0x21
_OURS = uuid.UUID(SERVICE_UUID).bytes[::-1]
_HONEST = 20
_TIMING = Timing(poll_s=0.5)
_LIMIT_S = 90.0


def advertisement(payload: bytes) -> bytes:
    """Return the bytes of an advertisement with this service data under our UUID."""
    return _FLAGS + bytes([17 + len(payload), _SERVICE_DATA_128]) + _OURS + payload


def hostile(chance: random.Random) -> list[bytes]:
    """Return advertisements that say nothing of ours, or lie about how long they are."""
    honest = encode(Advertisement(radio_id=RadioId("0" * 16), family=6))
    return [
        advertisement(b""),
        advertisement(honest[:-1]),
        advertisement(bytes([0xF0]) + honest[1:]),
        advertisement(honest)[:-5],
        _FLAGS + bytes([255, _SERVICE_DATA_128]) + _OURS,
        _FLAGS + bytes([0] * 28),
        _FLAGS + bytes([1, _SERVICE_DATA_128]) * 14,
        *(_FLAGS + chance.randbytes(28) for _ in range(10)),
    ]


def address(number: int) -> str:
    return f"C0:00:00:00:00:{number:02X}"


def test_each_of_a_crowd_is_seen_between_hostile_strangers(tmp_path: Path) -> None:
    seen: set[RadioId] = set()
    crowd = [RadioId(f"{number:016x}") for number in range(1, _HONEST + 1)]
    one = Device(RadioId("f" * 16), "hci0", _TIMING)

    async def listen() -> None:
        async for sighting in one.radio.sightings():
            seen.add(sighting.radio_id)
            if seen >= set(crowd):
                return

    async def talk(say: list[tuple[str, bytes]], stack: Stack) -> None:
        while True:
            for who, data in say:
                await stack.say(who, data)
            await asyncio.sleep(0.2)

    async def play() -> None:
        lies = [(address(0x80 + number), data) for number, data in enumerate(hostile(random.Random(7)))]
        truths = [
            (address(number), advertisement(encode(Advertisement(radio_id=radio_id, family=6))))
            for number, radio_id in enumerate(crowd)
        ]
        async with stack_in(tmp_path, legacy=True) as stack, one.radio:
            talking = asyncio.create_task(talk(lies + truths, stack))
            await listen()
            await asyncio.gather(one.told(Reason.VERSION), one.told(Reason.LENGTH))
            talking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await talking

    run(play, _LIMIT_S)
    assert seen == set(crowd)
    assert set(one.faults) == {Reason.LENGTH, Reason.VERSION}
