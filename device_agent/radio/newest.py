"""What a radio has seen and nobody has taken yet: of each device the newest, in a bounded amount of memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator

from device_agent.radio import Sighting


class Newest:
    """A queue of sightings in which a newer one of the same device replaces the one before."""

    def __init__(self, most: int) -> None:
        """Keep `most` at the most; the oldest go first."""
        self._most = most
        self._waiting: OrderedDict[str, Sighting] = OrderedDict()
        self._news = asyncio.Event()
        self._closed = False

    def get(self, device: str) -> Sighting | None:
        """Return what waits of a device."""
        return self._waiting.get(device)

    def put(self, device: str, sighting: Sighting) -> None:
        """Add a sighting, behind all others."""
        self._waiting.pop(device, None)
        self._waiting[device] = sighting
        if len(self._waiting) > self._most:
            self._waiting.popitem(last=False)
        self._news.set()

    def forget(self, device: str) -> None:
        """Take back what nobody has taken of a device."""
        self._waiting.pop(device, None)

    def close(self) -> None:
        """Let whoever takes come to an end, after what still waits."""
        self._closed = True
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Sighting]:
        """Take one after the other, until `close`."""
        while True:
            while self._waiting:
                yield self._waiting.popitem(last=False)[1]
            if self._closed:
                return
            self._news.clear()
            await self._news.wait()
