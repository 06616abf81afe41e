"""What bluetoothd answers, as a list of small experiments: the real one and the fake one have to answer alike.

Each is asked of `org.bluez` on the D-Bus that `DBUS_SYSTEM_BUS_ADDRESS` names, with the adapters hci0 and hci1, which
hear each other and have Bluetooth 4 (one legacy advertisement of 31 bytes). `tests/bluetooth` asks the real bluetoothd.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusBool, DBusDict, DBusSignature, DBusStr
from dbus_fast.constants import PropertyAccess
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from device_agent.radio.advertisement import SERVICE_UUID

OTHER_UUID = "0b1d6c3e-5f0e-4a43-9d39-3d3f6b1c4a10"
ADAPTER = "org.bluez.Adapter1"
ADVERTISING = "org.bluez.LEAdvertisingManager1"
DEVICE = "org.bluez.Device1"
_SOON_S = 4.0
TEN = bytes(range(10))
_Nothing = Annotated[None, DBusSignature("")]


class World(Protocol):
    """Whatever is behind the D-Bus.

    Attributes:
        silence_s: after which it may be said that nothing comes.
    """

    silence_s: float

    async def rssi(self, dbm: int) -> None:
        """Let each adapter hear the other with this strength; 127 where it is unknown."""


@dataclass(frozen=True)
class Experiment:
    """A question, and the answer that bluetoothd gave when it was asked."""

    ask: Callable[[Client, World], Awaitable[object]]
    answer: object

    def __str__(self) -> str:
        return self.ask.__name__.removeprefix("_")


class Said(ServiceInterface):
    """An advertisement; it counts how often it was released."""

    def __init__(self, data: dict[str, bytes], *, discoverable: bool) -> None:
        super().__init__("org.bluez.LEAdvertisement1")
        self._data = data
        self._discoverable = discoverable
        self.released = 0

    @dbus_method(name="Release")
    def release(self) -> _Nothing:
        self.released += 1

    @dbus_property(access=PropertyAccess.READ, name="Type")
    def kind(self) -> DBusStr:
        return "peripheral"

    @dbus_property(access=PropertyAccess.READ, name="Discoverable")
    def discoverable(self) -> DBusBool:
        return self._discoverable

    @dbus_property(access=PropertyAccess.READ, name="ServiceData")
    def service_data(self) -> DBusDict:
        return {uuid: Variant("ay", data) for uuid, data in self._data.items()}


class Client:
    """A program on the bus."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._count = 0
        self.said: dict[str, Said] = {}

    async def ask(self, path: str, interface: str, member: str, signature: str = "", *body: Any) -> str:
        """Return "ok", or the error's name."""
        reply = await self._call(path, interface, member, signature, *body)
        return "ok" if reply.message_type is not MessageType.ERROR else str(reply.error_name)

    async def adapter(self, name: str, member: str, signature: str = "", *body: Any) -> str:
        return await self.ask(f"/org/bluez/{name}", ADAPTER, member, signature, *body)

    async def power(self, name: str, on: bool) -> str:
        body = (ADAPTER, "Powered", Variant("b", on))
        return await self.ask(f"/org/bluez/{name}", "org.freedesktop.DBus.Properties", "Set", "ssv", *body)

    async def properties(self, path: str, interface: str) -> dict[str, Any]:
        reply = await self._call(path, "org.freedesktop.DBus.Properties", "GetAll", "s", interface)
        assert reply.message_type is not MessageType.ERROR, f"{reply.error_name} {reply.body}"
        return {name: value.value for name, value in reply.body[0].items()}

    async def devices(self, adapter: str) -> list[dict[str, Any]]:
        """Return the devices that bluetoothd knows there."""
        reply = await self._call("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        return [
            {name: value.value for name, value in interfaces[DEVICE].items()}
            for path, interfaces in reply.body[0].items()
            if path.startswith(f"/org/bluez/{adapter}/") and DEVICE in interfaces
        ]

    async def advertise(self, data: dict[str, bytes], *, discoverable: bool = True) -> tuple[str, str]:
        """Show service data on hci0; return its path, and "ok" or the error's name."""
        self._count += 1
        path = f"/experiment/a{self._count}"
        self.said[path] = Said(data, discoverable=discoverable)
        self._bus.export(path, self.said[path])
        return path, await self.register(path)

    async def register(self, path: str) -> str:
        return await self.ask("/org/bluez/hci0", ADVERTISING, "RegisterAdvertisement", "oa{sv}", path, {})

    async def unregister(self, path: str) -> str:
        return await self.ask("/org/bluez/hci0", ADVERTISING, "UnregisterAdvertisement", "o", path)

    async def instances(self) -> tuple[int, int]:
        """Return how many advertisements hci0 shows, and how many more it could."""
        found = await self.properties("/org/bluez/hci0", ADVERTISING)
        return found["ActiveInstances"], found["SupportedInstances"]

    async def _call(self, path: str, interface: str, member: str, signature: str = "", *body: Any) -> Message:
        message = Message(
            destination="org.bluez",
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        reply = await self._bus.call(message)
        assert reply is not None
        return reply


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """A program that hangs up at the end."""
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    try:
        yield Client(bus)
    finally:
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


class Ears:
    """What bleak hears on hci1."""

    def __init__(self) -> None:
        self._last: AdvertisementData | None = None
        self._news = asyncio.Event()

    def take(self, device: BLEDevice, said: AdvertisementData) -> None:
        self._last = said
        self._news.set()

    async def until(self, true: Callable[[AdvertisementData], bool], patience_s: float) -> AdvertisementData | None:
        """Return the first thing heard for which that is true, None if there was none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._last is None or not true(self._last):
                    self._news.clear()
                    await self._news.wait()
                return self._last
        return None


@contextlib.asynccontextmanager
async def listening(uuids: list[str] | None = None) -> AsyncIterator[Ears]:
    ears = Ears()
    async with BleakScanner(ears.take, service_uuids=uuids, bluez={"adapter": "hci1"}):
        yield ears


def _carries(uuid: str) -> Callable[[AdvertisementData], bool]:
    return lambda said: uuid in said.service_data


# -- what is heard ----------------------------------------------------------------------------------------------------


async def _what_is_discoverable_is_heard(one: Client, world: World) -> object:
    async with listening() as ears:
        await one.advertise({SERVICE_UUID: TEN})
        heard = await ears.until(_carries(SERVICE_UUID), _SOON_S)
        return heard and (heard.service_data[SERVICE_UUID].hex(), heard.rssi, heard.service_uuids)


async def _what_is_not_discoverable_is_hidden(one: Client, world: World) -> object:
    """From a discovery without any filter. With one, as bleak sets, 5.66 shows it and 5.82 does not."""
    await one.adapter("hci1", "StartDiscovery")
    await one.advertise({SERVICE_UUID: TEN}, discoverable=False)
    await asyncio.sleep(world.silence_s)
    hidden = await one.devices("hci1") == []
    await one.advertise({SERVICE_UUID: TEN})
    await asyncio.sleep(world.silence_s)
    return [hidden, len(await one.devices("hci1"))]


async def _a_filter_does_not_match_service_data(one: Client, world: World) -> object:
    async with listening([SERVICE_UUID]) as ears:
        await one.advertise({SERVICE_UUID: TEN})
        return await ears.until(_carries(SERVICE_UUID), world.silence_s) is None


async def _a_strength_of_127_is_told_as(one: Client, world: World) -> object:
    await world.rssi(127)
    async with listening() as ears:
        await one.advertise({SERVICE_UUID: TEN})
        heard = await ears.until(_carries(SERVICE_UUID), _SOON_S)
        return heard and heard.rssi


async def _after_discovery_a_device_has_no_strength(one: Client, world: World) -> object:
    async with listening() as ears:
        await one.advertise({SERVICE_UUID: TEN})
        await ears.until(_carries(SERVICE_UUID), _SOON_S)
    await asyncio.sleep(0.5)
    return ["RSSI" in device for device in await one.devices("hci1")]


async def _service_data_of_an_address_is_kept(one: Client, world: World) -> object:
    async with listening() as ears:
        path, _ = await one.advertise({OTHER_UUID: TEN})
        await ears.until(_carries(OTHER_UUID), _SOON_S)
        await one.unregister(path)
        await one.advertise({SERVICE_UUID: TEN})
        heard = await ears.until(_carries(SERVICE_UUID), _SOON_S)
        return heard and sorted(heard.service_data) == sorted([OTHER_UUID, SERVICE_UUID])


# -- what is shown ----------------------------------------------------------------------------------------------------


async def _ten_bytes_fit_and_eleven_do_not(one: Client, world: World) -> object:
    return [(await one.advertise({SERVICE_UUID: bytes(size)}))[1] for size in (10, 11)]


async def _two_services_do_not_fit(one: Client, world: World) -> object:
    return (await one.advertise({SERVICE_UUID: b"", OTHER_UUID: b""}))[1]


async def _instances_are_counted(one: Client, world: World) -> object:
    before = await one.instances()
    await one.advertise({SERVICE_UUID: TEN})
    return [before, await one.instances()]


async def _the_sixth_advertisement(one: Client, world: World) -> object:
    return [(await one.advertise({SERVICE_UUID: bytes([n] * 10)}))[1] for n in range(6)]


async def _the_same_advertisement_twice(one: Client, world: World) -> object:
    path, _ = await one.advertise({SERVICE_UUID: TEN})
    return await one.register(path)


async def _withdrawing_what_was_not_registered(one: Client, world: World) -> object:
    return await one.unregister("/experiment/nothing")


async def _withdrawing_twice(one: Client, world: World) -> object:
    path, _ = await one.advertise({SERVICE_UUID: TEN})
    return [await one.unregister(path), await one.unregister(path), one.said[path].released]


async def _of_a_client_that_hung_up_nothing_is_shown(one: Client, world: World) -> object:
    async with client() as other:
        await other.advertise({SERVICE_UUID: TEN})
        during, _ = await one.instances()
    await asyncio.sleep(0.5)
    return [during, (await one.instances())[0]]


# -- discovery --------------------------------------------------------------------------------------------------------


async def _discovery_begun_twice(one: Client, world: World) -> object:
    return [await one.adapter("hci1", "StartDiscovery") for _ in range(2)]


async def _discovery_ended_that_was_not_begun(one: Client, world: World) -> object:
    return await one.adapter("hci1", "StopDiscovery")


async def _discovery_ended_that_another_began(one: Client, world: World) -> object:
    async with client() as other:
        await other.adapter("hci1", "StartDiscovery")
        return await one.adapter("hci1", "StopDiscovery")


async def _discovery_of_two_goes_on_without_one(one: Client, world: World) -> object:
    async with client() as other:
        await other.adapter("hci1", "StartDiscovery")
        await one.adapter("hci1", "StartDiscovery")
        ended = await one.adapter("hci1", "StopDiscovery")
        return [ended, (await one.properties("/org/bluez/hci1", ADAPTER))["Discovering"]]


# -- off and on -------------------------------------------------------------------------------------------------------


async def _what_an_adapter_that_is_off_answers(one: Client, world: World) -> object:
    await one.power("hci0", False)
    return {
        "StartDiscovery": await one.adapter("hci0", "StartDiscovery"),
        "StopDiscovery": await one.adapter("hci0", "StopDiscovery"),
        "SetDiscoveryFilter": await one.adapter("hci0", "SetDiscoveryFilter", "a{sv}", {}),
        "RegisterAdvertisement": (await one.advertise({SERVICE_UUID: TEN}))[1],
        "UnregisterAdvertisement": await one.unregister("/experiment/nothing"),
        "Powered": await one.power("hci0", False),
    }


async def _discovery_after_off_and_on(one: Client, world: World) -> object:
    await one.adapter("hci1", "StartDiscovery")
    await one.power("hci1", False)
    off = (await one.properties("/org/bluez/hci1", ADAPTER))["Discovering"]
    await one.power("hci1", True)
    await asyncio.sleep(1.0)
    on = (await one.properties("/org/bluez/hci1", ADAPTER))["Discovering"]
    return {"off": off, "on": on, "begun again": await one.adapter("hci1", "StartDiscovery")}


async def _an_advertisement_after_off_and_on(one: Client, world: World) -> object:
    path, _ = await one.advertise({SERVICE_UUID: TEN})
    await one.power("hci0", False)
    await asyncio.sleep(0.5)
    off = (await one.instances())[0]
    await one.power("hci0", True)
    await asyncio.sleep(0.5)
    on = (await one.instances())[0]
    async with listening() as ears:
        heard = await ears.until(_carries(SERVICE_UUID), _SOON_S) is not None
    return {
        "off": off,
        "on": on,
        "heard": heard,
        "released": one.said[path].released,
        "withdrawn": await one.unregister(path),
    }


# -- what is not there ------------------------------------------------------------------------------------------------


async def _an_adapter_that_is_not_there(one: Client, world: World) -> object:
    properties = ("org.freedesktop.DBus.Properties", "GetAll", "s", ADAPTER)
    return [await one.ask("/org/bluez/hci7", *properties), await one.adapter("hci7", "StartDiscovery")]


async def _an_interface_that_is_not_there(one: Client, world: World) -> object:
    return await one.ask("/org/bluez/hci0", "org.freedesktop.DBus.Properties", "GetAll", "s", "org.bluez.Nothing1")


HEARD = ("00010203040506070809", -50, [])
FAILED = "org.bluez.Error.Failed"
IN_PROGRESS = "org.bluez.Error.InProgress"
NOT_READY = "org.bluez.Error.NotReady"
DOES_NOT_EXIST = "org.bluez.Error.DoesNotExist"
UNKNOWN_OBJECT = "org.freedesktop.DBus.Error.UnknownObject"

EXPERIMENTS = (
    Experiment(_what_is_discoverable_is_heard, HEARD),
    Experiment(_what_is_not_discoverable_is_hidden, [True, 1]),
    Experiment(_a_filter_does_not_match_service_data, True),
    Experiment(_a_strength_of_127_is_told_as, 127),
    Experiment(_after_discovery_a_device_has_no_strength, [False]),
    Experiment(_service_data_of_an_address_is_kept, True),
    Experiment(_ten_bytes_fit_and_eleven_do_not, ["ok", FAILED]),
    Experiment(_two_services_do_not_fit, FAILED),
    Experiment(_instances_are_counted, [(0, 5), (1, 4)]),
    Experiment(_the_sixth_advertisement, ["ok"] * 5 + ["org.bluez.Error.NotPermitted"]),
    Experiment(_the_same_advertisement_twice, "org.bluez.Error.AlreadyExists"),
    Experiment(_withdrawing_what_was_not_registered, DOES_NOT_EXIST),
    Experiment(_withdrawing_twice, ["ok", DOES_NOT_EXIST, 0]),
    Experiment(_of_a_client_that_hung_up_nothing_is_shown, [1, 0]),
    Experiment(_discovery_begun_twice, ["ok", IN_PROGRESS]),
    Experiment(_discovery_ended_that_was_not_begun, FAILED),
    Experiment(_discovery_ended_that_another_began, FAILED),
    Experiment(_discovery_of_two_goes_on_without_one, ["ok", True]),
    Experiment(
        _what_an_adapter_that_is_off_answers,
        {
            "StartDiscovery": NOT_READY,
            "StopDiscovery": NOT_READY,
            "SetDiscoveryFilter": NOT_READY,
            "RegisterAdvertisement": FAILED,
            "UnregisterAdvertisement": DOES_NOT_EXIST,
            "Powered": "ok",
        },
    ),
    Experiment(_discovery_after_off_and_on, {"off": False, "on": False, "begun again": "ok"}),
    Experiment(
        _an_advertisement_after_off_and_on, {"off": 1, "on": 1, "heard": True, "released": 0, "withdrawn": "ok"}
    ),
    Experiment(_an_adapter_that_is_not_there, [UNKNOWN_OBJECT, UNKNOWN_OBJECT]),
    Experiment(_an_interface_that_is_not_there, "org.freedesktop.DBus.Error.InvalidArgs"),
)
"""All of them, as bluetoothd 5.66 answered on Linux 6.1."""
