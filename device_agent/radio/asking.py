"""Asks devices, over Bluetooth connections, where their links answer: those whom nothing else has found.

While Linux connects it shows nothing, so two devices that ask each other at one time never reach each other. The one
with the lesser id asks first. It greets the other one over the link then, which need not ask any more.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bleak.backends.device import BLEDevice

from device_agent.clock import Clock
from device_agent.observation import Observe
from device_agent.radio import Endpoint, Medium, RadioId
from device_agent.radio.gatt import read_from
from device_agent.radio.link_record import Reason

TURN_S: Final = 20.0
"""How long the device with the lesser id has to ask; the other one's turn comes in the middle of its rests."""
_FIRST_REST_S: Final = 2 * TURN_S
_KNOWN_REST_S: Final = 15.0
_MOST_ASKED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRecords:
    """What a radio needs to tell and to ask where links answer.

    Attributes:
        own: returns this device's record.
        known: whether it is known already who shows an id: then nobody is asked.
        read: returns where to ask, or why there is nowhere; see `device_agent.radio.link_record.decode`.
        after_s: how long an id is left to be found by mDNS.
        turn_s: how long a device with a lesser id is left to ask first.
    """

    own: Callable[[], bytes]
    known: Callable[[RadioId], bool]
    read: Callable[[bytes], Endpoint | Reason]
    after_s: float
    turn_s: float = TURN_S


@dataclass(slots=True)
class _Asked:
    next_s: float
    tries: int = 0


class Questions:
    """Whom to ask next, and when again: of the ids that were shown last, the 64 newest. Pure."""

    def __init__(self, after_s: float, turn_s: float) -> None:
        """Leave an id alone for `after_s` at first, and for `turn_s` more if it is that one's turn to ask."""
        self._after_s = after_s
        self._turn_s = turn_s
        self._asked: OrderedDict[RadioId, _Asked] = OrderedDict()

    def seen(self, radio_id: RadioId, now_s: float, *, own: RadioId) -> None:
        """Take note that an id is shown, while this device shows its own."""
        wait_s = self._after_s + (self._turn_s if radio_id < own else 0.0)
        self._asked.setdefault(radio_id, _Asked(next_s=now_s + wait_s))
        self._asked.move_to_end(radio_id)
        if len(self._asked) > _MOST_ASKED:
            self._asked.popitem(last=False)

    def due(self, now_s: float) -> RadioId | None:
        """Return who is to be asked now, who has waited longest first."""
        waiting = [(one.next_s, radio_id) for radio_id, one in self._asked.items() if one.next_s <= now_s]
        return min(waiting)[1] if waiting else None

    def asked(self, radio_id: RadioId, now_s: float) -> None:
        """Leave an id alone for a while, and for twice as long each time."""
        one = self._asked.setdefault(radio_id, _Asked(next_s=now_s))
        one.next_s = now_s + _FIRST_REST_S * 2**one.tries
        one.tries += 1

    def spared(self, radio_id: RadioId, now_s: float) -> None:
        """Leave an id alone for a little while: it is known who shows it, as long as that one is in range."""
        self._asked[radio_id] = _Asked(next_s=now_s + _KNOWN_REST_S)


class LinkAsking:
    """Asks one device at a time.

    Attributes:
        address: of the device that is being asked: what changes about it now, we have changed ourselves.
    """

    def __init__(
        self,
        links: LinkRecords,
        *,
        clock: Clock,
        poll_s: float,
        answer_s: float,
        settle_s: float,
        observe: Observe,
    ) -> None:
        """Ask nobody yet.

        Args:
            links: what to ask, and how to read the answer.
            clock: tells when.
            poll_s: between two looks at whether somebody is to be asked.
            answer_s: for a connection and the answer.
            settle_s: after a connection, until all has been said about it.
            observe: is told who could not be asked, and why.
        """
        self.address: str | None = None
        self._links = links
        self._clock = clock
        self._poll_s = poll_s
        self._answer_s = answer_s
        self._settle_s = settle_s
        self._observe = observe
        self._questions = Questions(links.after_s, links.turn_s)
        self._devices: OrderedDict[RadioId, BLEDevice] = OrderedDict()

    def seen(self, radio_id: RadioId, device: BLEDevice, now_s: float, *, own: RadioId) -> None:
        """Take note that a device shows an id, while this one shows its own."""
        self._questions.seen(radio_id, now_s, own=own)
        self._devices[radio_id] = device
        self._devices.move_to_end(radio_id)
        if len(self._devices) > _MOST_ASKED:
            self._devices.popitem(last=False)

    async def run(self, found: Callable[[RadioId, Endpoint], None]) -> None:
        """Ask whoever is due, and tell `found` of each answer that leads anywhere."""
        while True:
            await asyncio.sleep(self._poll_s)
            now_s = self._clock.monotonic_s()
            radio_id = self._next(now_s)
            if radio_id is None:
                continue
            self._questions.asked(radio_id, now_s)
            device = self._devices.get(radio_id)
            if device is None:
                continue
            told = await self._ask(device)
            answer = told if isinstance(told, str) else self._links.read(told)
            if isinstance(answer, Endpoint):
                found(radio_id, answer)
            else:
                self._observe("not read", medium=Medium.BLE, instance=radio_id, reason=answer)

    def _next(self, now_s: float) -> RadioId | None:
        """Return who is due and not known."""
        while (radio_id := self._questions.due(now_s)) is not None and self._links.known(radio_id):
            self._questions.spared(radio_id, now_s)
        return radio_id

    async def _ask(self, device: BLEDevice) -> bytes | str:
        self.address = device.address
        try:
            told = await read_from(device, self._answer_s)
            await asyncio.sleep(self._settle_s)
        finally:
            self.address = None
        return told
