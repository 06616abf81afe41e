"""A crowd of devices on a real bluetoothd, some of them hostile: what they say has to pass through all of it."""

from __future__ import annotations

import asyncio
import random
import uuid
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import link_rig
import pytest
from ble_device import Device, payload_of, run, until
from guest_hosts import GUEST_IP
from stack import Stack, stack_in

from device_agent.acquaintances import Acquaintances
from device_agent.clock import SystemClock
from device_agent.journal import Journal
from device_agent.neighborhood import Neighborhood
from device_agent.presence import Presence
from device_agent.radio import PeerId, RadioId
from device_agent.radio.advertisement import SERVICE_UUID, Reason
from device_agent.radio.asking import LinkRecords
from device_agent.radio.ble import Timing
from device_agent.radio.link_record import decode, encode

_FLAGS = bytes([2, 0x01, 0x06])
_SERVICE_DATA_128 = 0x21
_OURS = uuid.UUID(SERVICE_UUID).bytes[::-1]
_HONEST = 20
_TIMING = Timing(poll_s=0.5)
_LIMIT_S = 90.0


def advertisement(payload: bytes) -> bytes:
    """Return the bytes of an advertisement with this service data under our UUID."""
    return _FLAGS + bytes([17 + len(payload), _SERVICE_DATA_128]) + _OURS + payload


def hostile(chance: random.Random, someone: RadioId) -> list[bytes]:
    """Return advertisements of every type and length: they say nothing of ours, or lie about it or how long it is.

    One of them is as `someone` would send it.
    """
    honest = payload_of(someone)
    ours = _OURS + honest
    return [
        *(advertisement(honest[:length]) for length in range(len(honest))),
        advertisement(bytes([0xF0]) + honest[1:]),
        advertisement(honest)[:-5],
        _FLAGS + bytes([0] * 28),
        _FLAGS + bytes([1, _SERVICE_DATA_128]) * 14,
        *(_FLAGS + bytes([length, _SERVICE_DATA_128]) + ours for length in range(256)),
        *(_FLAGS + bytes([27, kind]) + chance.randbytes(26) for kind in range(256)),
        *(_FLAGS + chance.randbytes(length) for length in range(29)),
        *(chance.randbytes(length) for length in range(1, 32)),
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

    async def talk(lies: list[bytes], stack: Stack) -> None:
        for number, data in enumerate(lies):
            await stack.say(address(0x80 + number % 0x40), data)

    async def play() -> None:
        async with stack_in(tmp_path, legacy=True) as stack, one.radio:
            for number, radio_id in enumerate([*crowd, crowd[0]]):  # two of them show one id
                await stack.join(address(number), advertisement(payload_of(radio_id)))
            talking = asyncio.create_task(talk(hostile(random.Random(7), crowd[0]), stack))
            await listen()
            await talking
            await asyncio.gather(one.told(Reason.VERSION), one.told(Reason.LENGTH))
            assert seen == set(crowd)
            seen.clear()
            await listen()

    run(play, _LIMIT_S)
    assert seen == set(crowd)
    assert set(one.faults) == {Reason.LENGTH, Reason.VERSION}


# -- who shows what another one has shown -----------------------------------------------------------------------------

_NETWORKS = [ip_network(f"{GUEST_IP}/24", strict=False)]
_PING_S = 1.0


class Finder:
    """A device that finds others by Bluetooth alone and greets them, as an agent does, and all whom it met."""

    def __init__(self, linked: link_rig.Device, journal: Journal) -> None:
        self.met: list[PeerId] = []
        self.lost: list[PeerId] = []
        self._near = Neighborhood(
            lost_after_s=3 * _PING_S,
            usual_contact_s=60.0,
            ping_every_s=_PING_S,
            past_contacts_s=lambda _: (),
        )
        links = LinkRecords(
            own=lambda: record_of(linked),
            known=self._near.knows,
            read=lambda record: decode(record, _NETWORKS),
            after_s=0.0,
            turn_s=0.0,
        )
        self.radio = Device(linked.radio_id, "hci0", _TIMING, links).radio
        self._presence = Presence(
            radios=[self.radio],
            link=linked.link,
            neighborhood=self._near,
            acquaintances=Acquaintances(journal, SystemClock().wall_s, avoid_below=-1.0),
            clock=SystemClock(),
            contacts=None,
            observe=self._observe,
        )

    def _observe(self, name: str, **fields: Any) -> None:
        if name == "neighbor up":
            self.met.append(fields["peer"])
        elif name == "neighbor down":
            self.lost.append(fields["peer"])

    async def live(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._presence.start(tasks)
            while True:
                self._presence.look()
                await asyncio.sleep(0.2)


def record_of(one: link_rig.Device) -> bytes:
    return encode(one.link.port, [GUEST_IP])


def test_who_shows_again_what_another_one_has_shown_is_met_as_itself(tmp_path: Path) -> None:
    finder, known, copy, honest = (link_rig.Device(name, tmp_path) for name in ("finder", "known", "copy", "honest"))
    copy.radio_id = known.radio_id
    recorded = advertisement(payload_of(known.radio_id))

    async def play() -> None:
        async with stack_in(tmp_path, legacy=True) as stack:
            for one in (finder, known, copy, honest):
                await one.link.open(GUEST_IP, 0)
            journal = Journal(tmp_path / "journal.sqlite")
            one = Finder(finder, journal)
            async with one.radio:
                living = asyncio.create_task(one.live())
                await stack.join(address(1), recorded, record_of(known))
                await until(lambda: one.met == [known.peer])
                await stack.leave(address(1))
                await known.link.close()
                await stack.join(address(2), recorded, record_of(copy))
                await until(lambda: one.lost == [known.peer])
                await until(lambda: one.met == [known.peer, copy.peer])
                await stack.join(address(3), advertisement(payload_of(honest.radio_id)), record_of(honest))
                await until(lambda: one.met == [known.peer, copy.peer, honest.peer])
                living.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await living
            for device in (finder, copy, honest):
                await device.link.close()
            journal.close()

    run(play, _LIMIT_S)
