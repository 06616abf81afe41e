"""A radio over Bluetooth LE as tests watch it: on a fake bluetoothd or on a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from ipaddress import ip_network
from typing import Any

from fake_bluez import Heard

from device_agent.clock import SystemClock
from device_agent.radio import RadioId, Sighting, link_record
from device_agent.radio.advertisement import SERVICE_UUID, Advertisement, encode
from device_agent.radio.asking import LinkRecords
from device_agent.radio.ble import BleRadio, Timing

A, B, C = (RadioId(letter * 16) for letter in "abc")
NETWORKS = [ip_network("10.0.0.0/24"), ip_network("fe80::/64")]
PORT = 4711
FAST = Timing(poll_s=0.05, quiet_s=60.0, answer_s=3.0, rest_s=0.01)


class Device:
    """A radio, and what it says."""

    def __init__(
        self,
        radio_id: RadioId,
        adapter: str | None = "hci0",
        timing: Timing = FAST,
        links: LinkRecords | None = None,
    ) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.asked_for_help = 0
        self.radio = BleRadio(
            clock=SystemClock(),
            radio_id=radio_id,
            family=6,
            observe=self._observe,
            adapter=adapter,
            timing=timing,
            stuck=self._stuck,
            links=links,
        )

    @property
    def faults(self) -> list[object]:
        return [fields["reason"] for name, fields in self.said if name == "radio fault"]

    @property
    def steps(self) -> list[object]:
        return [fields["step"] for name, fields in self.said if name == "radio recovers"]

    async def next_of(self, radio_id: RadioId) -> Sighting:
        async for one in self.radio.sightings():
            if one.radio_id == radio_id:
                return one
        raise AssertionError("the radio was closed")

    async def fresh_of(self, radio_id: RadioId) -> Sighting:
        """The next sighting that was not waiting already."""
        now_s = SystemClock().monotonic_s()
        while (one := await self.next_of(radio_id)).seen_at_s < now_s:
            pass
        return one

    async def told_of(self, radio_id: RadioId) -> Sighting:
        """The first sighting that says where the other one's link answers."""
        async for one in self.radio.sightings():
            if one.radio_id == radio_id and one.endpoint is not None:
                return one
        raise AssertionError("the radio was closed")

    async def told(self, reason: object) -> None:
        await until(lambda: reason in self.faults)

    def _observe(self, name: str, **fields: object) -> None:
        self.said.append((name, fields | {"at_s": SystemClock().monotonic_s()}))

    def _stuck(self) -> None:
        self.asked_for_help += 1
        self.said.append(("radio recovers", {"step": "asked"}))


def links_to(host: str, *, knows: tuple[RadioId, ...] = (), turn_s: float = 1.0) -> LinkRecords:
    """Tell that the link answers at `host`, and ask all but those who are known."""
    return LinkRecords(
        own=lambda: link_record.encode(PORT, [host]),
        known=lambda one: one in knows,
        read=lambda record: link_record.decode(record, NETWORKS),
        after_s=0.0,
        turn_s=turn_s,
    )


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - what is waited for happens in another program's view
        await asyncio.sleep(0.01)


def run(play: Callable[[], Coroutine[Any, Any, None]], limit_s: float = 30) -> None:
    async def limited() -> None:
        async with asyncio.timeout(limit_s):
            await play()

    asyncio.run(limited())


def stranger(payload: bytes, address: str = "66:00:00:00:00:01", rssi: int = -70) -> Heard:
    return Heard(address, rssi, {SERVICE_UUID: payload})


def payload_of(radio_id: RadioId) -> bytes:
    return encode(Advertisement(radio_id=radio_id, family=6))
