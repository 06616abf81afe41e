"""A radio on the local network: multicast DNS tells where the links of the devices nearby answer.

It tells who came, who changed and who spoke again. A device that has heard nobody for some seconds asks who is there:
two parts of a network that come together say nothing by themselves, and after some minutes the library asks ever more
rarely, up to once an hour. It does not tell who is still there: a device that loses its power
stays in everybody's records for an hour, so asking is the link's task.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

from zeroconf import (  # type: ignore[attr-defined]
    DNSOutgoing,
    DNSQuestion,
    NonUniqueNameException,
    RecordUpdate,
    RecordUpdateListener,
    ServiceStateChange,
    Zeroconf,
)
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from device_agent.clock import Clock
from device_agent.observation import Observe
from device_agent.radio import Endpoint, Medium, RadioId, Sighting
from device_agent.radio.addresses import OwnAddress, own_addresses
from device_agent.radio.newest import Newest
from device_agent.radio.records import SERVICE, Found, Reason, id_in_name, instance_name, properties_of, read_record

_POLL_S: Final = 5.0
_INSTANCES: Final = 256
_OWN_NAMES: Final = 64
_QUESTIONS: Final = 64
_ANSWER_MS: Final = 3000
_MARK_BYTES: Final = 2
_SRV: Final = 33
"""The type of the record that every announcement has (RFC 2782)."""
_PTR: Final = 12
_INTERNET: Final = 1
_QUERY: Final = 0
_SILENCE_S: Final = (8.0, 16.0)
"""After so long, drawn anew each time, a device that heard nobody asks who is there: one of many does it for all."""
_ONE_BREATH_S: Final = 2.0
"""An announcement is said three times in half a second: it is seen once."""


class Fault(StrEnum):
    """What keeps the radio from working as it should."""

    NO_NETWORK = "no network is up"
    NOT_OPENED = "the network cannot be opened"
    NAME_TAKEN = "another device has this instance name"


@dataclass(frozen=True, slots=True)
class _Open:
    """What is there while the network is open."""

    zeroconf: AsyncZeroconf
    addresses: tuple[OwnAddress, ...]
    browser: AsyncServiceBrowser


@dataclass(frozen=True, slots=True)
class _Known:
    """An instance: what it says, and when it was last seen to say so."""

    found: Found
    seen_at_s: float


class _Again(RecordUpdateListener):
    """Hears those who say again what is known of them: zeroconf's browser tells of changes alone."""

    def __init__(self, heard: Callable[[Zeroconf, str], None]) -> None:
        self._heard = heard
        self._names: set[str] = set()

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Note whose SRV record came once more."""
        for one in records:
            if one.old is not None and one.new.type == _SRV and not one.new.is_expired(now):
                self._names.add(one.new.name)
        self._zeroconf = zc

    def async_update_records_complete(self) -> None:
        """Tell of them, now that all that came with it can be read."""
        names, self._names = self._names, set()
        for name in names:
            self._heard(self._zeroconf, name)


class MdnsRadio:
    """Announces this device's link on the local network and sees the others'.

    Whatever is heard costs a bounded amount of memory: of the instances beyond the newest 256 nothing is remembered.
    """

    def __init__(
        self,
        *,
        port: int,
        clock: Clock,
        radio_id: RadioId,
        family: int,
        observe: Observe,
        interfaces: Collection[str] | None = None,
    ) -> None:
        """Make a radio that is not open yet.

        Args:
            port: where this device's link answers.
            clock: tells when something was seen.
            radio_id: what to show first.
            family: of this device's models, one byte.
            observe: is told of faults.
            interfaces: names of network interfaces; None for all that are up, without loopback.
        """
        self._port = port
        self._clock = clock
        self._radio_id = radio_id
        self._family = family
        self._observe = observe
        self._interfaces = interfaces
        self._open: _Open | None = None
        self._announced: AsyncServiceInfo | None = None
        self._one_at_a_time = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None
        self._parting: asyncio.Task[None] | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._own_names: deque[str] = deque(maxlen=_OWN_NAMES)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._newest = Newest(_INSTANCES)
        self._told: set[Fault | Reason] = set()
        self._heard_s = clock.monotonic_s()
        self._patience_s = _drawn(_SILENCE_S)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Begin to announce and to look, as soon as there is a network."""
        self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Say goodbye and end `sightings`."""
        for task in (self._keeping, self._parting):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        async with self._one_at_a_time:
            await self._leave()
        self._newest.close()

    async def rename(self, radio_id: RadioId) -> None:
        """Show another id: the new one comes before the old one goes."""
        async with self._one_at_a_time:
            if radio_id != self._radio_id:
                self._radio_id = radio_id
                self._told.discard(Fault.NAME_TAKEN)
                await self._announce_anew()

    def sightings(self) -> AsyncIterator[Sighting]:
        """Yield each other device as it is found, when its record changed and when it speaks again, until `close`."""
        return aiter(self._newest)

    # -- this device's side -------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Follow this device from network to network."""
        while True:
            async with self._one_at_a_time:
                await self._follow()
                self._ask_all()
            await asyncio.sleep(_POLL_S)

    async def _follow(self) -> None:
        try:
            addresses = own_addresses(self._interfaces)
        except OSError as fault:  # An interface went while it was looked at: look again later.
            self._tell(Fault.NOT_OPENED, fault)
            return
        if self._open and self._announced and addresses == self._open.addresses:
            return
        await self._leave()
        if not addresses:
            self._tell(Fault.NO_NETWORK)
            return
        try:
            self._open = self._opened(addresses)
            await self._announce()
        except (OSError, RuntimeError, TimeoutError, ZeroconfError) as fault:
            self._tell(Fault.NOT_OPENED, fault)
            await self._leave()
        else:
            self._told -= {Fault.NO_NETWORK, Fault.NOT_OPENED}

    def _ask_all(self) -> None:
        """Ask who is there if nobody was heard for a while.

        The answers of those who are known already are wanted too: not all who are known were in reach.
        """
        now_s = self._clock.monotonic_s()
        if self._open is None or now_s - self._heard_s < self._patience_s:
            return
        self._heard_s, self._patience_s = now_s, _drawn(_SILENCE_S)
        question = DNSOutgoing(_QUERY)
        question.add_question(DNSQuestion(SERVICE, _PTR, _INTERNET))
        try:
            self._open.zeroconf.zeroconf.async_send(question)
        except (OSError, ZeroconfError) as fault:
            self._tell(Fault.NOT_OPENED, fault)

    def _opened(self, addresses: tuple[OwnAddress, ...]) -> _Open:
        zeroconf = AsyncZeroconf(interfaces=[one.text for one in addresses])
        browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[self._on_change])
        zeroconf.zeroconf.async_add_listener(_Again(self._hear), None)
        return _Open(zeroconf, addresses, browser)

    async def _leave(self) -> None:
        """Say goodbye where that is possible, and forget who was there: elsewhere others are."""
        gone, self._open, self._announced = self._open, None, None
        for task in self._asking.values():
            task.cancel()
        self._asking.clear()
        self._known.clear()
        if gone is not None:
            with contextlib.suppress(OSError, ZeroconfError):
                await gone.browser.async_cancel()
                await gone.zeroconf.async_close()

    async def _announce(self, *, mark: str = "") -> None:
        if self._open is None:
            return
        name = instance_name(self._radio_id, mark)
        announcement = self._announcement(name, self._open.addresses)
        try:
            announcing = await self._open.zeroconf.async_register_service(announcement)
        except NonUniqueNameException:
            self._tell(Fault.NAME_TAKEN)
            if mark:  # Somebody claims whatever we ask for: try again at the next look.
                raise
            await self._announce(mark=secrets.token_hex(_MARK_BYTES))
            return
        self._own_names.append(name)
        self._announced = announcement
        await announcing
        self._observe("radio announces", medium=Medium.MDNS, instance=name, addresses=announcement.parsed_addresses())

    async def _announce_anew(self, *, mark: str = "") -> None:
        """Announce what this device shows now, then take back what it showed."""
        old = self._announced
        try:
            await self._announce(mark=mark)
            if self._open and old:
                await (await self._open.zeroconf.async_unregister_service(old))
        except (OSError, TimeoutError, ZeroconfError) as fault:
            self._tell(Fault.NOT_OPENED, fault)
            self._announced = None

    def _announcement(self, name: str, addresses: tuple[OwnAddress, ...]) -> AsyncServiceInfo:
        """Return this device's records. The host is called as the instance is, so that no two devices share one."""
        return AsyncServiceInfo(
            SERVICE,
            name,
            port=self._port,
            properties=properties_of(self._radio_id, self._family),
            server=name.replace(SERVICE, "local."),
            parsed_addresses=[one.text for one in addresses],
        )

    # -- the others' side ---------------------------------------------------------------------------------------------

    def _on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            self._forget(name.lower())
        else:
            self._hear(zeroconf, name)

    def _hear(self, zeroconf: Zeroconf, name: str) -> None:
        """Read what an instance says now."""
        name = name.lower()
        if not name.endswith(f".{SERVICE}"):  # Printers and the like.
            return
        if id_in_name(name) is None:
            self._tell(Reason.NAME)
        elif name not in self._asking and len(self._asking) < _QUESTIONS:
            record = AsyncServiceInfo(SERVICE, name)
            if record.load_from_cache(zeroconf):
                self._take(name, record)
            else:
                self._asking[name] = asyncio.create_task(self._ask(zeroconf, name, record))

    async def _ask(self, zeroconf: Zeroconf, name: str, record: AsyncServiceInfo) -> None:
        """Ask for what an announcement left out."""
        try:
            if await record.async_request(zeroconf, _ANSWER_MS):
                self._take(name, record)
        except (OSError, ZeroconfError) as fault:
            self._tell(Fault.NOT_OPENED, fault)
        finally:
            if self._asking.get(name) is asyncio.current_task():
                del self._asking[name]

    def _take(self, name: str, record: AsyncServiceInfo) -> None:
        if self._open is None:
            return
        if name in self._own_names:
            self._part_from_a_namesake(name, record)
            return
        networks = [one.network for one in self._open.addresses]
        own = {Endpoint(host=one.text, port=self._port) for one in self._open.addresses}
        found = read_record(name, record.properties, record.parsed_scoped_addresses(), record.port, networks, own)
        if isinstance(found, Reason):
            self._tell(found)
            return
        now_s, known = self._clock.monotonic_s(), self._known.get(name)
        self._heard_s = now_s
        if known is None or known.found != found or now_s - known.seen_at_s >= _ONE_BREATH_S:
            self._see(name, found, now_s)

    def _see(self, name: str, found: Found, now_s: float) -> None:
        self._forget(name)
        self._known[name] = _Known(found, now_s)
        self._newest.put(
            name,
            Sighting(radio_id=found.radio_id, seen_at_s=now_s, medium=Medium.MDNS, endpoint=found.endpoint),
        )
        while len(self._known) > _INSTANCES:
            self._forget(next(iter(self._known)))

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)
        self._newest.forget(name)

    def _part_from_a_namesake(self, name: str, record: AsyncServiceInfo) -> None:
        """Take another name if somebody else has this one: two that came at one moment did not hear each other ask.

        Once per id: who takes a name with a mark as well does it on purpose.
        """
        ours = {one.text for one in self._open.addresses} if self._open else set()
        strangers = any(one not in ours for one in record.parsed_addresses())
        if strangers and name == instance_name(self._radio_id) and (self._parting is None or self._parting.done()):
            self._tell(Fault.NAME_TAKEN)
            self._parting = asyncio.create_task(self._part(name))

    async def _part(self, name: str) -> None:
        async with self._one_at_a_time:
            if self._announced and self._announced.name == name:
                await self._announce_anew(mark=secrets.token_hex(_MARK_BYTES))

    def _tell(self, reason: Fault | Reason, fault: Exception | None = None) -> None:
        """Observe a fault, once until it is over: anyone on the network could fill the log otherwise."""
        if reason not in self._told:
            self._told.add(reason)
            more = {} if fault is None else {"error": repr(fault)}
            self._observe("radio fault", medium=Medium.MDNS, reason=reason, **more)


def _drawn(bounds: tuple[float, float]) -> float:
    """A number between bounds; nobody has to guess it, but two devices should not draw the same."""
    least, most = bounds
    return least + (most - least) * secrets.randbelow(1 << 16) / (1 << 16)
