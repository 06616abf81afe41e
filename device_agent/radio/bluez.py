"""BlueZ as the radio needs it: adapters and advertisements, over D-Bus. Scanning is bleak's task.

What bluetoothd 5.82 does is not all in its manual: an advertisement without `Discoverable` is never shown to scanners,
and one that is too long for a legacy advertisement is refused or, by newer versions, sent so that old devices miss it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

from dbus_fast import AuthError, BusType, DBusFastError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusBool, DBusDict, DBusSignature, DBusStr
from dbus_fast.constants import PropertyAccess
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from device_agent.errors import BluetoothFault, BluetoothProblem
from device_agent.radio.advertisement import SERVICE_UUID

BLUEZ: Final = "org.bluez"
_ADAPTER: Final = "org.bluez.Adapter1"
_ADVERTISING: Final = "org.bluez.LEAdvertisingManager1"
_GATT: Final = "org.bluez.GattManager1"
_ADVERTISEMENT: Final = "org.bluez.LEAdvertisement1"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_OBJECTS: Final = "org.freedesktop.DBus.ObjectManager"
_DBUS: Final = "org.freedesktop.DBus"
_ROLES: Final = frozenset({"central", "peripheral"})

_MEANING: Final[Mapping[str, BluetoothProblem]] = {
    "org.freedesktop.DBus.Error.AccessDenied": BluetoothProblem.NO_PERMISSION,
    "org.freedesktop.DBus.Error.AuthFailed": BluetoothProblem.NO_PERMISSION,
    "org.freedesktop.DBus.Error.NameHasNoOwner": BluetoothProblem.NO_DAEMON,
    "org.freedesktop.DBus.Error.ServiceUnknown": BluetoothProblem.NO_DAEMON,
    "org.freedesktop.DBus.Error.NoReply": BluetoothProblem.NO_ANSWER,
    "org.freedesktop.DBus.Error.UnknownObject": BluetoothProblem.NO_ADAPTER,
    "org.bluez.Error.NotAuthorized": BluetoothProblem.NO_PERMISSION,
    "org.bluez.Error.NotReady": BluetoothProblem.POWERED_OFF,
    "org.bluez.Error.NotPermitted": BluetoothProblem.NO_SLOT,
}
"""What errors of D-Bus and BlueZ mean, whatever was asked."""


_Nothing = Annotated[None, DBusSignature("")]
"""None alone is, as a postponed annotation, more than dbus-fast can read."""


def meaning(error: str, otherwise: BluetoothProblem) -> BluetoothProblem:
    """Return what the error of that name means; `otherwise`, if it can mean many things."""
    return _MEANING.get(error, otherwise)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A Bluetooth adapter.

    Attributes:
        name: as the system calls it, such as hci0.
        powered: whether it is on.
        blocked: whether rfkill keeps it off.
        discovering: whether bluetoothd looks for devices with it.
        low_energy: whether it can scan and advertise with Bluetooth LE.
    """

    name: str
    powered: bool
    blocked: bool
    discovering: bool
    low_energy: bool

    @property
    def problem(self) -> BluetoothProblem | None:
        """What keeps it from being used."""
        if self.blocked:
            return BluetoothProblem.BLOCKED
        if not self.powered:
            return BluetoothProblem.POWERED_OFF
        return None if self.low_energy else BluetoothProblem.NO_LE


class Shown(ServiceInterface):
    """An advertisement, as bluetoothd reads it from us.

    Attributes:
        path: where bluetoothd finds it.
        released: whether bluetoothd has said that it does not show it any longer.
    """

    def __init__(self, path: str, payload: bytes, on_release: Callable[[], None]) -> None:
        """Make one that is not registered yet; `on_release` is called when it is released."""
        super().__init__(_ADVERTISEMENT)
        self.path = path
        self.released = False
        self._payload = payload
        self._on_release = on_release

    @dbus_method(name="Release")
    def release(self) -> _Nothing:
        """Take note that it is gone."""
        self.released = True
        self._on_release()

    @dbus_property(access=PropertyAccess.READ, name="Type")
    def kind(self) -> DBusStr:
        """Connectable: a broadcast may not be discoverable."""
        return "peripheral"

    @dbus_property(access=PropertyAccess.READ, name="Discoverable")
    def discoverable(self) -> DBusBool:
        """Without this nobody sees it."""
        return True

    @dbus_property(access=PropertyAccess.READ, name="ServiceData")
    def service_data(self) -> DBusDict:
        """What it says."""
        return {SERVICE_UUID: Variant("ay", self._payload)}


class Bluez:
    """A connection to bluetoothd. Everything it does raises `BluetoothFault`."""

    def __init__(self, bus: MessageBus, answer_s: float) -> None:
        """Use a connected bus; `answer_s`: how long to wait for any answer."""
        self._bus = bus
        self._answer_s = answer_s
        self._count = 0
        self._served: str | None = None
        self._ending = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        self._ending.add_done_callback(lambda one: one.cancelled() or one.exception())

    @classmethod
    async def connected(cls, answer_s: float) -> Self:
        """Return a new connection to the system's D-Bus."""
        try:
            async with asyncio.timeout(answer_s):
                return cls(await MessageBus(bus_type=BusType.SYSTEM).connect(), answer_s)
        except (PermissionError, AuthError) as error:
            raise BluetoothFault(BluetoothProblem.NO_PERMISSION, str(error)) from error
        except (OSError, EOFError, TimeoutError, DBusFastError) as error:
            raise BluetoothFault(BluetoothProblem.NO_DBUS, str(error)) from error

    @property
    def alive(self) -> bool:
        """Whether D-Bus is still there."""
        return self._bus.connected

    def close(self) -> None:
        """Hang up; bluetoothd takes back whatever was shown over this connection."""
        self._bus.disconnect()

    async def owner(self) -> str:
        """Return who bluetoothd is: another name after it was started anew."""
        if self._bus.unique_name is None:
            raise BluetoothFault(BluetoothProblem.NO_DBUS)
        reply = await self._call(_DBUS, "/org/freedesktop/DBus", _DBUS, "GetNameOwner", "s", BLUEZ)
        return str(reply[0])

    async def adapters(self) -> tuple[Adapter, ...]:
        """Return all adapters, in the order of their names."""
        reply = await self._call(BLUEZ, "/", _OBJECTS, "GetManagedObjects")
        found = [
            _adapter(path, interfaces[_ADAPTER], advertises=_ADVERTISING in interfaces)
            for path, interfaces in reply[0].items()
            if _ADAPTER in interfaces
        ]
        return tuple(sorted(found, key=lambda one: one.name))

    async def chosen(self, wanted: str | None) -> Adapter:
        """Return the adapter of that name, or else the first without a problem; it may have one."""
        found = await self.adapters()
        if wanted is not None:
            named = [one for one in found if one.name == wanted]
            if not named:
                raise BluetoothFault(BluetoothProblem.NO_SUCH_ADAPTER, wanted)
            return named[0]
        if not found:
            raise BluetoothFault(BluetoothProblem.NO_ADAPTER)
        return next((one for one in found if one.problem is None), found[0])

    async def adapter(self, name: str) -> Adapter:
        """Return how the adapter of that name is now."""
        own = await self._properties(name, _ADAPTER, BluetoothProblem.NO_ADAPTER)
        try:
            await self._properties(name, _ADVERTISING, BluetoothProblem.NO_LE)
        except BluetoothFault as fault:
            if fault.problem is not BluetoothProblem.NO_LE:
                raise
            return _adapter(_path(name), own, advertises=False)
        return _adapter(_path(name), own, advertises=True)

    async def set_power(self, name: str, on: bool) -> None:
        """Turn an adapter on or off."""
        body = (_ADAPTER, "Powered", Variant("b", on))
        otherwise = BluetoothProblem.POWERED_OFF
        await self._call(BLUEZ, _path(name), _PROPERTIES, "Set", "ssv", *body, otherwise=otherwise)

    async def show(self, name: str, payload: bytes, on_release: Callable[[], None]) -> Shown:
        """Advertise on an adapter, beside whatever is shown there already."""
        self._count += 1
        shown = Shown(f"/idml/advertisement{self._count}", payload, on_release)
        self._bus.export(shown.path, shown)
        try:
            await self._manage(name, "RegisterAdvertisement", "oa{sv}", shown.path, {})
        except BaseException:
            self._bus.unexport(shown.path, shown)
            raise
        return shown

    async def withdraw(self, name: str, shown: Shown) -> None:
        """Do not show it any longer."""
        try:
            await self._manage(name, "UnregisterAdvertisement", "o", shown.path)
        finally:
            self._bus.unexport(shown.path, shown)

    async def serve(self, name: str, root: str, objects: Sequence[tuple[str, ServiceInterface]]) -> None:
        """Let who connects to an adapter read what these objects below `root` tell."""
        if self._served is None:
            for path, one in objects:
                self._bus.export(path, one)
            self._served = root
        await self._register(name, "RegisterApplication", "oa{sv}", root, {})

    async def withhold(self, name: str, root: str) -> None:
        """Tell it no longer."""
        await self._register(name, "UnregisterApplication", "o", root)

    async def _register(self, name: str, member: str, signature: str, *body: Any) -> None:
        otherwise = BluetoothProblem.RECORD_REFUSED
        await self._call(BLUEZ, _path(name), _GATT, member, signature, *body, otherwise=otherwise)

    async def _manage(self, name: str, member: str, signature: str, *body: Any) -> None:
        otherwise = BluetoothProblem.ADVERTISEMENT_REFUSED
        await self._call(BLUEZ, _path(name), _ADVERTISING, member, signature, *body, otherwise=otherwise)

    async def _properties(self, name: str, interface: str, otherwise: BluetoothProblem) -> dict[str, Variant]:
        reply = await self._call(BLUEZ, _path(name), _PROPERTIES, "GetAll", "s", interface, otherwise=otherwise)
        return dict(reply[0])

    async def _call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *body: Any,
        otherwise: BluetoothProblem = BluetoothProblem.NO_DAEMON,
    ) -> list[Any]:
        """Return what is answered; an error means `otherwise` unless its name tells more."""
        if not self.alive:  # The library would wait for an answer all the same.
            raise BluetoothFault(BluetoothProblem.NO_DBUS, "the connection was lost")
        asked = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(self._answer_s):
                reply = await self._bus.call(asked)
        except TimeoutError as error:
            raise BluetoothFault(BluetoothProblem.NO_ANSWER, member) from error
        except (OSError, EOFError, DBusFastError) as error:
            raise BluetoothFault(BluetoothProblem.NO_DBUS, str(error)) from error
        if reply is None:  # The connection ended while we waited.
            raise BluetoothFault(BluetoothProblem.NO_DBUS, "the connection was lost")
        if reply.message_type is MessageType.ERROR:
            said = f"{reply.error_name} {' '.join(map(str, reply.body))}"
            raise BluetoothFault(meaning(reply.error_name or "", otherwise), said)
        return list(reply.body)


async def usable(wanted: str | None, answer_s: float) -> Adapter:
    """Return the adapter that a radio would use now. Raises `BluetoothFault` if it could not."""
    bluez = await Bluez.connected(answer_s)
    try:
        await bluez.owner()
        found = await bluez.chosen(wanted)
    finally:
        bluez.close()
    if found.problem is not None:
        raise BluetoothFault(found.problem, found.name)
    return found


def _path(name: str) -> str:
    return f"/org/bluez/{name}"


def _adapter(path: str, own: Mapping[str, Variant], *, advertises: bool) -> Adapter:
    def said(name: str, default: Any) -> Any:
        return own[name].value if name in own else default

    return Adapter(
        name=path.rpartition("/")[2],
        powered=bool(said("Powered", False)),
        blocked=said("PowerState", "") == "off-blocked",
        discovering=bool(said("Discovering", False)),
        low_energy=advertises and set(said("Roles", _ROLES)) >= _ROLES,
    )
