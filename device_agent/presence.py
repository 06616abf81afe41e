"""Finds out who is near: listens to the radios, greets whom they show, and greets again who has gone quiet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from device_agent.acquaintances import Acquaintances
from device_agent.clock import Clock
from device_agent.contact_log import ContactLog
from device_agent.errors import AccountShared, LinkLost, PeerFault
from device_agent.link import Greeting, Link
from device_agent.neighborhood import SIGNS_OF_LIFE, NeighborDown, Neighborhood, NeighborUp
from device_agent.observation import Observe
from device_agent.radio import Endpoint, Medium, Radio, RadioId


class Presence:
    """The shell around a `Neighborhood`: it does the listening and the greeting."""

    def __init__(
        self,
        *,
        radios: Sequence[Radio],
        link: Link,
        neighborhood: Neighborhood,
        acquaintances: Acquaintances,
        clock: Clock,
        contacts: ContactLog | None,
        observe: Observe,
    ) -> None:
        self._acquaintances = acquaintances
        self._radios = radios
        self._link = link
        self._neighborhood = neighborhood
        self._clock = clock
        self._contacts = contacts
        self._observe = observe
        self._tasks: asyncio.TaskGroup | None = None

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to listen."""
        self._tasks = tasks
        for radio in self._radios:
            tasks.create_task(self._listen(radio))

    def look(self) -> tuple[NeighborDown, ...]:
        """Greet who is due, and return who has gone."""
        now_s = self._clock.monotonic_s()
        if self._contacts is not None:
            self._contacts.look(now_s)
        gone = self._neighborhood.forget_silent(now_s)
        for down in gone:
            self._acquaintances.met(down.neighbor.peer, down.contact_s)
            self._observe("neighbor down", peer=down.neighbor.peer)
        self._greet_due()
        return gone

    def met(self, greeting: Greeting) -> None:
        """Take the greeting of a peer that made contact by itself."""
        now_s = self._clock.monotonic_s()
        self._log(greeting.radio_id, Medium.LINK, now_s)
        self._tell(self._neighborhood.greeted(greeting, now_s))

    async def _listen(self, radio: Radio) -> None:
        async for sighting in radio.sightings():
            self._neighborhood.observe(sighting)
            if sighting.medium in SIGNS_OF_LIFE:
                self._log(sighting.radio_id, sighting.medium, sighting.seen_at_s, sighting.rssi_dbm)
            self._greet_due()

    def _greet_due(self) -> None:
        if self._tasks is not None:
            for endpoint in self._neighborhood.due(self._clock.monotonic_s()):
                self._tasks.create_task(self._greet(endpoint))

    async def _greet(self, endpoint: Endpoint) -> None:
        try:
            greeting = await self._link.greet(endpoint)
        except (LinkLost, PeerFault) as fault:
            if isinstance(fault, AccountShared):
                self._observe("fault", where="account", reason=str(fault))
            else:
                self._observe("not greeted", endpoint=str(endpoint), reason=str(fault))
            self._neighborhood.unanswered(endpoint, self._clock.monotonic_s())
        else:
            now_s = self._clock.monotonic_s()
            self._log(greeting.radio_id, Medium.LINK, now_s)
            self._tell(self._neighborhood.greeted(greeting, now_s, asked=endpoint))
        self._greet_due()

    def _log(self, heard: RadioId, medium: Medium, now_s: float, rssi_dbm: int | None = None) -> None:
        if self._contacts is not None:
            self._contacts.sign(heard, medium, now_s=now_s, rssi_dbm=rssi_dbm)

    def _tell(self, up: NeighborUp | None) -> None:
        if up is not None:
            self._observe("neighbor up", peer=up.neighbor.peer, endpoint=str(up.neighbor.endpoint))
