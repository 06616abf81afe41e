"""A radio over Bluetooth LE: devices in range show an id and hear the others', without any network.

It advertises through bluetoothd and scans with bleak, for everything: a filter on services never matches what carries
service data alone. A sighting tells that a device is here now, and not where its link answers; a device is seen about
every 15 s, because bluetoothd listens for 10 s and rests for 5.

A scanner can fall silent for good without a word. When nobody at all is heard for a while, discovery is begun anew,
then the adapter is turned off and on, and then a person is asked for what only root can do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakError,
)
from dbus_fast import DBusFastError

from device_agent.clock import Clock
from device_agent.errors import BluetoothFault, BluetoothProblem
from device_agent.observation import Observe
from device_agent.radio import Endpoint, Medium, RadioId, Sighting
from device_agent.radio.advertisement import Advertisement, Reason, encode, read
from device_agent.radio.asking import LinkAsking, LinkRecords
from device_agent.radio.bluez import Bluez, Shown, meaning
from device_agent.radio.duty_cycle import ALWAYS, DutyCycle
from device_agent.radio.gatt import ROOT, objects
from device_agent.radio.newest import Newest
from device_agent.radio.watchdog import Step, Watchdog

_WAITING: Final = 256
_MOST_ADDRESSES: Final = 2048
"""Of devices at one time: a full hall has hundreds, one sender makes up any number."""
_ABSENT: Final = -127
"""What bleak says where bluetoothd has no signal strength: the device is remembered, and was not heard now."""
_WEAKEST_DBM: Final = -126
_STRONGEST_DBM: Final = 20
"""Of what a controller can measure; 127 means unknown (Bluetooth Core Specification, vol. 4, part E, 7.7.65)."""
_A_LITTLE_S: Final = 0.01
_DENIED: Final = frozenset(
    {
        BleakBluetoothNotAvailableReason.DENIED_BY_USER,
        BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM,
        BleakBluetoothNotAvailableReason.DENIED_BY_UNKNOWN,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How patient the radio is, in seconds.

    Attributes:
        poll_s: between two looks at whether all is as it should be.
        quiet_s: without a sign of anybody before the scanner is helped.
        answer_s: for bluetoothd to answer.
        settle_s: after a connection, until all has been said about it.
        rest_s: between turning the adapter off and on.
        duty: when to scan at all.
        crowd_rest_s: without scanning, after more addresses than anybody has around; bluetoothd forgets within 30 s.
    """

    poll_s: float = 5.0
    quiet_s: float = 120.0
    answer_s: float = 10.0
    settle_s: float = 1.0
    rest_s: float = 2.0
    crowd_rest_s: float = 60.0
    duty: DutyCycle = ALWAYS


@dataclass(slots=True)
class _Open:
    """What is there while Bluetooth can be used."""

    owner: str
    adapter: str
    scanner: BleakScanner | None = None
    shown: Shown | None = None
    shown_id: RadioId | None = None
    rests_until_s: float = 0.0
    tells: bool = False

    @property
    def crowded(self) -> bool:
        """Whether strangers fill the memory: bleak keeps each address for as long as bluetoothd does, 30 s."""
        scanner = self.scanner
        return scanner is not None and len(scanner.discovered_devices_and_advertisement_data) > _MOST_ADDRESSES


def _nothing() -> None:
    """Ask nobody."""


class BleRadio:
    """Shows this device's id over Bluetooth LE, and sees the others'.

    Whatever is heard costs a bounded amount of memory: of ids that nobody has asked for yet, the newest 256 are kept,
    and where more addresses advertise than there can be devices, scanning rests.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        radio_id: RadioId,
        family: int,
        observe: Observe,
        adapter: str | None = None,
        timing: Timing | None = None,
        stuck: Callable[[], None] = _nothing,
        links: LinkRecords | None = None,
    ) -> None:
        """Make a radio that is not open yet.

        Args:
            clock: tells when something was seen.
            radio_id: what to show first.
            family: of this device's models, one byte.
            observe: is told of faults, and of each step that is tried against silence.
            adapter: such as hci0; None for the first that can be used.
            timing: how patient to be.
            stuck: is called when all that an agent can do was tried.
            links: to tell and to ask where links answer; None: that is left to mDNS.
        """
        self._clock = clock
        self._radio_id = radio_id
        self._family = family
        self._observe = observe
        self._wanted = adapter
        self._timing = timing or Timing()
        self._stuck = stuck
        self._links = links
        self._asking = None
        if links is not None:
            self._asking = LinkAsking(
                links,
                clock=clock,
                poll_s=self._timing.poll_s,
                answer_s=self._timing.answer_s,
                settle_s=self._timing.settle_s,
                observe=observe,
            )
        self._bluez: Bluez | None = None
        self._open: _Open | None = None
        self._off_by_us: str | None = None
        self._began_s = self._looked_s = clock.monotonic_s()
        self._resting = False
        self._watchdog = Watchdog(self._timing.quiet_s, clock.monotonic_s())
        self._one_at_a_time = asyncio.Lock()
        self._look_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._newest = Newest(_WAITING)
        self._found: set[BluetoothProblem] = set()
        self._told: set[BluetoothProblem] = set()
        self._strange: set[Reason] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Begin to show and to look, as soon as Bluetooth can be used."""
        self._tasks.append(asyncio.create_task(self._keep()))
        if self._asking is not None:
            self._tasks.append(asyncio.create_task(self._asking.run(self._found_link)))

    async def close(self) -> None:
        """Show nothing any longer and end `sightings`."""
        for one in self._tasks:
            one.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        async with self._one_at_a_time:
            await self._leave()
            if self._bluez is not None:
                self._bluez.close()
        self._newest.close()

    async def rename(self, radio_id: RadioId) -> None:
        """Show another id: the new one comes before the old one goes, where the adapter can show two."""
        async with self._one_at_a_time:
            self._radio_id = radio_id
            if self._open is not None and self._bluez is not None:
                with self._telling():
                    await self._show(self._bluez, self._open)

    def sightings(self) -> AsyncIterator[Sighting]:
        """Yield each other device whenever it is heard, until `close`."""
        return aiter(self._newest)

    # -- keeping it up ------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Follow bluetoothd and its adapters as they come and go."""
        while True:
            async with self._one_at_a_time:
                await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._timing.poll_s, self._changes_in_s())):
                    await self._look_now.wait()
            self._look_now.clear()

    async def _look(self) -> None:
        self._found = set()
        usable = False
        with self._telling():
            bluez = await self._connected()
            here = await self._usable(bluez)
            usable = True
            with self._telling():  # Whoever cannot show itself can still see.
                await self._show(bluez, here)
            with self._telling():
                await self._tell_links(bluez, here)
            with self._telling():  # Refused, it is as silent as stuck.
                await self._scan(here)
            await self._watch(bluez, here)
        if not usable:
            self._watchdog.away(self._clock.monotonic_s())
            await self._leave()
        self._told &= self._found | {BluetoothProblem.STUCK}

    async def _connected(self) -> Bluez:
        if self._bluez is None or not self._bluez.alive:
            await self._leave()
            if self._bluez is not None:
                self._bluez.close()
                self._bluez = None
            self._bluez = await Bluez.connected(self._timing.answer_s)
        return self._bluez

    async def _usable(self, bluez: Bluez) -> _Open:
        """Return the adapter that is in use, or begin to use one."""
        owner = await bluez.owner()
        if self._open is not None and self._open.owner != owner:  # It knows nothing of what its forerunner was told.
            await self._leave()
        here = self._open
        adapter = await bluez.chosen(self._wanted) if here is None else await bluez.adapter(here.adapter)
        if adapter.name == self._off_by_us and not adapter.powered and not adapter.blocked:
            await bluez.set_power(adapter.name, True)
            adapter = await bluez.adapter(adapter.name)
        if adapter.problem is not None:
            raise BluetoothFault(adapter.problem, adapter.name)
        self._off_by_us = None
        if here is None:
            here = self._open = _Open(owner, adapter.name)
            self._observe("radio opened", medium=Medium.BLE, adapter=adapter.name)
        if here.shown is not None and here.shown.released:
            await self._withdraw(bluez, here, here.shown)
        if here.scanner is not None and not adapter.discovering:
            await self._stop(here)
        return here

    async def _leave(self) -> None:
        """Stop showing and looking, whether or not there is anybody to tell."""
        here, bluez, self._open = self._open, self._bluez, None
        if here is not None and bluez is not None:
            await self._stop(here, answer_s=self._timing.answer_s if bluez.alive else 0.0)
            if here.shown is not None:
                await self._withdraw(bluez, here, here.shown)
            if here.tells and bluez.alive:
                with contextlib.suppress(BluetoothFault):
                    await bluez.withhold(here.adapter, ROOT)

    # -- showing ------------------------------------------------------------------------------------------------------

    async def _show(self, bluez: Bluez, here: _Open) -> None:
        """Show the present id, if that is not so already."""
        if here.shown is not None and here.shown_id == self._radio_id:
            return
        radio_id, old = self._radio_id, here.shown
        payload = encode(Advertisement(radio_id=radio_id, family=self._family))
        wake = self._look_now.set
        try:
            new = await bluez.show(here.adapter, payload, wake)
        except BluetoothFault as fault:
            if old is None or fault.problem is not BluetoothProblem.NO_SLOT:
                raise
            await self._withdraw(bluez, here, old)
            old, new = None, await bluez.show(here.adapter, payload, wake)
        here.shown, here.shown_id = new, radio_id
        self._observe("radio announces", medium=Medium.BLE, instance=radio_id, adapter=here.adapter)
        if old is not None:
            await self._withdraw(bluez, here, old)

    async def _withdraw(self, bluez: Bluez, here: _Open, old: Shown) -> None:
        if here.shown is old:
            here.shown = None
        with contextlib.suppress(BluetoothFault):  # bluetoothd has released it by itself.
            await bluez.withdraw(here.adapter, old)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def _scan(self, here: _Open) -> None:
        """Begin to scan, if that is not so already. Raises `BluetoothFault`."""
        now_s = self._clock.monotonic_s()
        looked_s, self._looked_s = self._looked_s, now_s
        if self._resting:
            self._watchdog.rested(now_s - looked_s)
        self._resting = not self._timing.duty.listens(now_s - self._began_s)
        if self._resting:
            await self._stop(here)
            return
        if here.crowded:
            await self._stop(here)
            here.rests_until_s = now_s + self._timing.crowd_rest_s
        if now_s < here.rests_until_s:
            self._watchdog.away(now_s)
            raise BluetoothFault(BluetoothProblem.CROWDED)
        if here.scanner is not None:
            return
        scanner = BleakScanner(self._hear, bluez={"adapter": here.adapter})
        with _scan_faults():
            async with asyncio.timeout(self._timing.answer_s):
                await scanner.start()
        here.scanner = scanner

    def _changes_in_s(self) -> float:
        """How long until scanning begins or ends, to save power."""
        return self._timing.duty.changes_in_s(self._clock.monotonic_s() - self._began_s) + _A_LITTLE_S

    async def _stop(self, here: _Open, *, answer_s: float | None = None) -> bool:
        """Stop to look; return whether bluetoothd agreed. Without it bleak has to be told all the same."""
        scanner, here.scanner = here.scanner, None
        if scanner is None:
            return True
        try:
            with _scan_faults():
                async with asyncio.timeout(self._timing.answer_s if answer_s is None else answer_s):
                    await scanner.stop()
        except BluetoothFault:
            return False
        return True

    def _hear(self, device: BLEDevice, said: AdvertisementData) -> None:
        """Take what bleak has of one device: an advertisement, or anything else that changed."""
        if self._asking is not None and device.address == self._asking.address:
            return
        now_s = self._clock.monotonic_s()
        self._watchdog.heard(now_s)
        self._told.discard(BluetoothProblem.STUCK)
        if said.rssi == _ABSENT:
            return
        found = read(said.service_data)
        if isinstance(found, Reason):
            self._wonder(found)
        elif found.radio_id != self._radio_id:
            self._see(found.radio_id, said.rssi, now_s)
            if self._asking is not None:
                self._asking.seen(found.radio_id, device, now_s, own=self._radio_id)

    def _see(self, radio_id: RadioId, rssi: int | None, now_s: float, endpoint: Endpoint | None = None) -> None:
        before = self._newest.get(radio_id)
        if endpoint is None and before is not None:
            endpoint = before.endpoint
        self._newest.put(
            radio_id,
            Sighting(
                radio_id=radio_id,
                seen_at_s=now_s,
                medium=Medium.BLE,
                rssi_dbm=rssi if rssi is not None and _WEAKEST_DBM <= rssi <= _STRONGEST_DBM else None,
                endpoint=endpoint,
            ),
        )

    def _found_link(self, radio_id: RadioId, endpoint: Endpoint) -> None:
        self._see(radio_id, None, self._clock.monotonic_s(), endpoint)

    # -- where links answer -------------------------------------------------------------------------------------------

    async def _tell_links(self, bluez: Bluez, here: _Open) -> None:
        """Let others read where this device's link answers, if that is not so already."""
        if self._links is not None and not here.tells:
            await bluez.serve(here.adapter, ROOT, objects(self._links.own))
            here.tells = True

    # -- when nothing is heard ----------------------------------------------------------------------------------------

    async def _watch(self, bluez: Bluez, here: _Open) -> None:
        """Help a scanner that has fallen silent, one step after the other."""
        while (step := self._watchdog.due(self._clock.monotonic_s())) is not None:
            self._observe("radio recovers", medium=Medium.BLE, step=step, adapter=here.adapter)
            if step is Step.GIVE_UP:
                self._tell(BluetoothFault(BluetoothProblem.STUCK, here.adapter))
                self._stuck()
            elif not await self._helped(step, bluez, here):
                self._watchdog.failed(self._clock.monotonic_s())

    async def _helped(self, step: Step, bluez: Bluez, here: _Open) -> bool:
        """Take a step; return whether bluetoothd went along with it."""
        stopped = await self._stop(here)
        try:
            if step is Step.POWER_CYCLE:
                await self._power_cycle(bluez, here.adapter)
            await self._scan(here)
        except BluetoothFault as fault:
            self._tell(fault)
            return False
        return stopped or step is Step.POWER_CYCLE

    async def _power_cycle(self, bluez: Bluez, adapter: str) -> None:
        self._off_by_us = adapter
        try:
            await bluez.set_power(adapter, False)
            await asyncio.sleep(self._timing.rest_s)
        finally:  # Whatever comes in between, the adapter must not stay off.
            await bluez.set_power(adapter, True)
        self._off_by_us = None

    # -- telling ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Observe what goes wrong, and go on."""
        try:
            yield
        except BluetoothFault as fault:
            self._tell(fault)

    def _tell(self, fault: BluetoothFault) -> None:
        """Observe a fault, once until it is over: a radio looks again every few seconds."""
        self._found.add(fault.problem)
        if fault.problem not in self._told:
            self._told.add(fault.problem)
            self._observe("radio fault", medium=Medium.BLE, reason=fault.problem, error=fault.said or None)

    def _wonder(self, reason: Reason) -> None:
        """Observe, once, that others use our service for something else; other services are no news."""
        if reason is not Reason.SERVICE and reason not in self._strange:
            self._strange.add(reason)
            self._observe("radio fault", medium=Medium.BLE, reason=reason)


@contextlib.contextmanager
def _scan_faults() -> Iterator[None]:
    """Make a `BluetoothFault` of whatever bleak raises."""
    otherwise = BluetoothProblem.SCAN_REFUSED
    try:
        yield
    except BleakBluetoothNotAvailableError as error:
        denied = error.reason in _DENIED
        raise BluetoothFault(BluetoothProblem.NO_PERMISSION if denied else otherwise, str(error)) from error
    except BleakDBusError as error:
        raise BluetoothFault(meaning(error.dbus_error, otherwise), str(error)) from error
    except BleakError as error:
        raise BluetoothFault(otherwise, str(error)) from error
    except TimeoutError as error:
        raise BluetoothFault(BluetoothProblem.NO_ANSWER, "scanning") from error
    except (OSError, EOFError, DBusFastError) as error:
        raise BluetoothFault(BluetoothProblem.NO_DBUS, str(error)) from error
