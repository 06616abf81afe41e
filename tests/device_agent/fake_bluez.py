"""A fake `org.bluez` on a D-Bus of its own: adapters that hear each other, without root and without any radio.

It behaves as bluetoothd was seen to do: what is not discoverable is never shown, more than 31 bytes are refused,
service data is kept per address, discovery comes in windows with gaps between them, and what fails fails with BlueZ's
own error names. bluez_experiments.py asks both the same; where versions differ, it does as 5.82. The client's side is
real: bleak, dbus-fast and a dbus-daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

ADAPTER = "org.bluez.Adapter1"
ADVERTISING = "org.bluez.LEAdvertisingManager1"
DEVICE = "org.bluez.Device1"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECTS = "org.freedesktop.DBus.ObjectManager"

_LEGACY_BYTES = 31
_AT_ONCE = 16
_DBUS = "org.freedesktop.DBus"
_SHORT_UUID = "-0000-1000-8000-00805f9b34fb"

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow own="*"/> <allow send_type="method_call"/> <allow send_type="signal"/>
    <allow send_requested_reply="true"/> <allow receive_type="method_call"/> <allow receive_type="signal"/>
    <allow receive_requested_reply="true"/> {more}
  </policy>
</busconfig>
"""
DENY_BLUEZ = '<deny send_destination="org.bluez"/>'


def what_is_missing() -> str | None:
    """Return why there can be no D-Bus of one's own here, None if there can."""
    return None if shutil.which("dbus-daemon") else "dbus-daemon is missing: it is in the package dbus"


class PrivateBus:
    """A dbus-daemon that knows nobody but the test."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "bus"
        self._config = folder / "bus.conf"
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix:path={self._socket}"

    async def start(self, *, policy: str = "") -> None:
        self._daemon = self._launched(policy)
        assert self._daemon.stdout
        assert await asyncio.to_thread(self._daemon.stdout.readline), "the daemon did not begin to listen"

    def _launched(self, policy: str) -> subprocess.Popen[bytes]:
        self._config.write_text(_CONFIG.format(socket=self._socket, more=policy))
        program = shutil.which("dbus-daemon")
        assert program
        arguments = [
            program,
            f"--config-file={self._config}",
            "--nofork",
            "--nopidfile",
            "--nosyslog",
            "--print-address",
        ]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.communicate()
            self._socket.unlink(missing_ok=True)
            self._daemon = None

    @contextlib.asynccontextmanager
    async def started(self, *, policy: str = "") -> AsyncIterator[None]:
        await self.start(policy=policy)
        try:
            yield
        finally:
            self.stop()


class BluezError(Exception):
    """An answer with an error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


@dataclass
class FakeAdapter:
    """An adapter, and what can be wrong with it.

    Attributes:
        stop_is_in_progress: how many times StopDiscovery is refused.
        deaf_until: what makes it hear again, None if it hears: "discovery", "power" or "restart".
        slots: how many advertisements it can show.
    """

    name: str
    address: str
    powered: bool = True
    power_state: str = "on"
    roles: tuple[str, ...] = ("central", "peripheral")
    advertises: bool = True
    slots: int = 5
    stop_is_in_progress: int = 0
    start_error: tuple[str, str] | None = None
    power_error: tuple[str, str] | None = None
    deaf_until: str | None = None
    present: bool = True
    discovering: set[str] = field(default_factory=set)
    filters: dict[str, dict[str, Any]] = field(default_factory=dict)
    shown: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    known: dict[str, dict[str, Variant]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"/org/bluez/{self.name}"

    def interfaces(self) -> dict[str, dict[str, Variant]]:
        own = {
            "Address": Variant("s", self.address),
            "AddressType": Variant("s", "public"),
            "Name": Variant("s", self.name),
            "Alias": Variant("s", self.name),
            "Powered": Variant("b", self.powered),
            "PowerState": Variant("s", self.power_state),
            "Discovering": Variant("b", bool(self.discovering)),
            "Roles": Variant("as", list(self.roles)),
            "UUIDs": Variant("as", []),
        }
        advertising = {
            "ActiveInstances": Variant("y", len(self.shown)),
            "SupportedInstances": Variant("y", max(0, self.slots - len(self.shown))),
        }
        return {ADAPTER: own, ADVERTISING: advertising} if self.advertises else {ADAPTER: own}


@dataclass(frozen=True)
class Heard:
    """What an antenna takes up: the address of whoever sends, and the properties that BlueZ makes of it."""

    address: str
    rssi: int
    service_data: dict[str, bytes] = field(default_factory=dict)
    manufacturer_data: dict[int, bytes] = field(default_factory=dict)
    uuids: tuple[str, ...] = ()
    name: str | None = None


class FakeBluez:
    """bluetoothd, with one loop of discovery windows for all adapters."""

    def __init__(self, bus: PrivateBus, *, adapters: int = 2, window_s: float = 0.2, gap_s: float = 0.1) -> None:
        self._bus_address = bus.address
        self.adapters = [FakeAdapter(f"hci{n}", f"02:00:00:00:00:{n:02X}") for n in range(adapters)]
        self.rssi = -55
        self.strangers: dict[str, Heard] = {}
        self.mute = False
        self.refuse: tuple[str, str] | None = None
        """An error for each RegisterAdvertisement."""
        self._window_s, self._gap_s = window_s, gap_s
        self._bus: MessageBus | None = None
        self._listening = False
        self._outgoing: asyncio.Queue[Message] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FakeBluez:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Come up, with adapters that remember nothing."""
        for one in self.adapters:
            for memory in (one.discovering, one.filters, one.shown, one.known):
                memory.clear()
            one.deaf_until = None if one.deaf_until == "restart" else one.deaf_until
        self._outgoing = asyncio.Queue()
        self._bus = await MessageBus(bus_address=self._bus_address).connect()
        self._spawn(self._deliver(self._bus))
        self._bus.add_message_handler(self._on_message)
        watch = "type='signal',interface='org.freedesktop.DBus',member='NameOwnerChanged'"
        await self._bus.call(_to_the_bus("AddMatch", watch))
        await self._bus.request_name("org.bluez")
        for one in self.adapters:
            if one.present:
                self._signal("/", OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [one.path, one.interfaces()])
        self._spawn(self._windows())

    async def stop(self) -> None:
        """Die without a word."""
        for one in self._tasks:
            one.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._bus is not None:
            self._bus.disconnect()
            with contextlib.suppress(Exception):  # whichever way the bus went
                await self._bus.wait_for_disconnect()
        self._bus = None

    # -- what happens to adapters -------------------------------------------------------------------------------------

    def turn(self, adapter: FakeAdapter, on: bool, *, power_state: str | None = None) -> None:
        """Turn an adapter on or off: discovery ends then, what it shows comes back with it."""
        adapter.powered = on
        adapter.power_state = power_state or ("on" if on else "off")
        if not on:
            self._end_discovery(adapter)
        elif adapter.deaf_until == "power":
            adapter.deaf_until = None
        changed = {"Powered": Variant("b", on), "PowerState": Variant("s", adapter.power_state)}
        self._changed(adapter.path, ADAPTER, changed)

    def unplug(self, adapter: FakeAdapter) -> None:
        """Take an adapter away."""
        self._end_discovery(adapter)
        for path in list(adapter.known):
            self._signal("/", OBJECTS, "InterfacesRemoved", "oas", [path, [DEVICE]])
        for owner, path in adapter.shown:
            self._release(owner, path)
        adapter.known.clear()
        adapter.shown.clear()
        adapter.present = False
        self._signal("/", OBJECTS, "InterfacesRemoved", "oas", [adapter.path, [ADAPTER, ADVERTISING]])

    def plug(self, adapter: FakeAdapter) -> None:
        """Bring it back."""
        adapter.present = True
        self._signal("/", OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [adapter.path, adapter.interfaces()])

    def _end_discovery(self, adapter: FakeAdapter) -> None:
        adapter.discovering.clear()
        self._changed(adapter.path, ADAPTER, {"Discovering": Variant("b", False)})
        for path, device in adapter.known.items():
            if device.pop("RSSI", None):  # It is remembered, and nobody knows whether it is still there.
                self._changed(path, DEVICE, {}, ["RSSI"])

    # -- the air ------------------------------------------------------------------------------------------------------

    async def _windows(self) -> None:
        """Listen for a while, rest for a while; each device is heard once per window."""
        while True:
            self._listening = True
            for one in self.adapters:
                self._listen(one)
            await asyncio.sleep(self._window_s)
            self._listening = False
            await asyncio.sleep(self._gap_s)

    def _listen(self, adapter: FakeAdapter) -> None:
        can_hear = adapter.present and adapter.powered and adapter.deaf_until is None and not self.mute
        if self._listening and can_hear and adapter.discovering:
            for one in [*self._sent_by_others(adapter), *self.strangers.values()]:
                self._hear(adapter, one)

    def _sent_by_others(self, adapter: FakeAdapter) -> Iterator[Heard]:
        for other in self.adapters:
            if other is adapter or not (other.present and other.powered):
                continue
            for said in other.shown.values():
                if said.get("Discoverable"):
                    data = {uuid: bytes(value.value) for uuid, value in said.get("ServiceData", {}).items()}
                    yield Heard(other.address, self.rssi, data, uuids=tuple(said.get("ServiceUUIDs", ())))

    def _hear(self, adapter: FakeAdapter, heard: Heard) -> None:
        filters = [one.get("UUIDs") for one in adapter.filters.values()]
        if filters and all(one and not set(one) & set(heard.uuids) for one in filters):
            return  # Service data alone matches no filter.
        path = f"{adapter.path}/dev_{heard.address.replace(':', '_')}"
        said = {
            "RSSI": Variant("n", heard.rssi),
            "UUIDs": Variant("as", list(heard.uuids)),
            **({"Name": Variant("s", heard.name)} if heard.name else {}),
        }
        before = adapter.known.get(path, {})
        for key, signature, data in (
            ("ServiceData", "a{sv}", heard.service_data),
            ("ManufacturerData", "a{qv}", heard.manufacturer_data),
        ):
            old = before[key].value if key in before else {}
            kept = {**old, **{one: Variant("ay", value) for one, value in data.items()}}  # Old keys linger.
            if kept:
                said[key] = Variant(signature, kept)
        if before:
            before.update(said)
            self._changed(path, DEVICE, said)
            return
        adapter.known[path] = {
            "Address": Variant("s", heard.address),
            "AddressType": Variant("s", "random"),
            "Adapter": Variant("o", adapter.path),
            "Alias": Variant("s", heard.name or heard.address.replace(":", "-")),
            "Paired": Variant("b", False),
            "Connected": Variant("b", False),
            "ServicesResolved": Variant("b", False),
            **said,
        }
        self._signal("/", OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [path, {DEVICE: adapter.known[path]}])

    # -- D-Bus --------------------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> bool:
        if message.member == "NameOwnerChanged" and message.interface == _DBUS:
            name, _, now = message.body
            if not now:
                self._forget(name)
            return False
        if message.message_type is not MessageType.METHOD_CALL or message.interface == "org.freedesktop.DBus.Peer":
            return False
        self._spawn(self._reply(message))
        return True

    async def _reply(self, message: Message) -> None:
        try:
            signature, body = await self._answer(message)
        except BluezError as error:
            self._outgoing.put_nowait(Message.new_error(message, error.name, str(error)))
        else:
            self._outgoing.put_nowait(Message.new_method_return(message, signature, body))

    async def _answer(self, message: Message) -> tuple[str, list[Any]]:
        if message.interface == OBJECTS:
            return "a{oa{sa{sv}}}", [self._objects()]
        here = next((one for one in self.adapters if one.path == message.path and one.present), None)
        if here is None:
            text = f'Method "{message.member}" with signature "{message.signature}" doesn\'t exist'
            raise BluezError("org.freedesktop.DBus.Error.UnknownObject", text)
        here.calls.append(str(message.member))
        if message.interface == PROPERTIES:
            return self._property(here, message)
        if message.interface == ADAPTER:
            return self._discovery(here, message)
        if message.interface == ADVERTISING and here.advertises:
            return await self._advertisement(here, message)
        raise BluezError("org.freedesktop.DBus.Error.UnknownMethod", f"{message.interface} is not there")

    def _forget(self, client: str) -> None:
        """Take back what a client wanted that has hung up."""
        for one in self.adapters:
            for key in [key for key in one.shown if key[0] == client]:
                del one.shown[key]
            one.filters.pop(client, None)
            if client in one.discovering:
                one.discovering.discard(client)
                if not one.discovering:
                    self._end_discovery(one)

    def _objects(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for one in self.adapters:
            if one.present:
                found[one.path] = one.interfaces()
                found.update({path: {DEVICE: device} for path, device in one.known.items()})
        return found

    def _property(self, here: FakeAdapter, message: Message) -> tuple[str, list[Any]]:
        interface = message.body[0]
        if interface not in here.interfaces():
            raise BluezError("org.freedesktop.DBus.Error.InvalidArgs", f"No such interface '{interface}'")
        if message.member == "GetAll":
            return "a{sv}", [here.interfaces()[interface]]
        assert message.member == "Set"
        assert message.body[1] == "Powered"
        on = message.body[2].value
        here.calls[-1] = f"Powered={on}"
        if here.power_state == "off-blocked":
            raise BluezError("org.bluez.Error.Failed", "Blocked through rfkill")
        if here.power_error is not None:
            raise BluezError(*here.power_error)
        self.turn(here, on)
        return "", []

    def _discovery(self, here: FakeAdapter, message: Message) -> tuple[str, list[Any]]:
        sender = str(message.sender)
        if not here.powered:
            raise BluezError("org.bluez.Error.NotReady", "Resource Not Ready")
        match message.member:
            case "SetDiscoveryFilter":
                here.filters[sender] = {name: value.value for name, value in message.body[0].items()}
            case "StartDiscovery":
                if here.start_error is not None:
                    raise BluezError(*here.start_error)
                if sender in here.discovering:
                    raise BluezError("org.bluez.Error.InProgress", "Operation already in progress")
                here.discovering.add(sender)
                if here.deaf_until == "discovery":
                    here.deaf_until = None
                self._changed(here.path, ADAPTER, {"Discovering": Variant("b", True)})
                asyncio.get_running_loop().call_soon(self._listen, here)
            case "StopDiscovery":
                if sender not in here.discovering:
                    raise BluezError("org.bluez.Error.Failed", "No discovery started")
                here.discovering.discard(sender)
                if here.stop_is_in_progress:
                    here.stop_is_in_progress -= 1
                    raise BluezError("org.bluez.Error.InProgress", "Operation already in progress")
                if not here.discovering:
                    self._end_discovery(here)
        return "", []

    async def _advertisement(self, here: FakeAdapter, message: Message) -> tuple[str, list[Any]]:
        key = (str(message.sender), str(message.body[0]))
        if message.member == "UnregisterAdvertisement":
            if here.shown.pop(key, None) is None:
                raise BluezError("org.bluez.Error.DoesNotExist", "Does Not Exist")
            return "", []
        if key in here.shown:
            raise BluezError("org.bluez.Error.AlreadyExists", "Already Exists")
        if not here.powered:
            raise BluezError("org.bluez.Error.Failed", "Failed to register advertisement")
        if self.refuse is not None:
            raise BluezError(*self.refuse)
        if len(here.shown) >= here.slots:
            raise BluezError("org.bluez.Error.NotPermitted", "Maximum advertisements reached")
        said = await self._read_advertisement(*key)
        if legacy_bytes(said) > _LEGACY_BYTES:
            raise BluezError("org.bluez.Error.Failed", "Failed to parse advertisement.")
        here.shown[key] = said
        for one in self.adapters:
            self._listen(one)
        return "", []

    async def _read_advertisement(self, owner: str, path: str) -> dict[str, Any]:
        assert self._bus
        asked = Message(
            destination=owner,
            path=path,
            interface=PROPERTIES,
            member="GetAll",
            signature="s",
            body=["org.bluez.LEAdvertisement1"],
        )
        reply = await self._bus.call(asked)
        if reply.message_type is MessageType.ERROR:
            raise BluezError("org.bluez.Error.Failed", "Failed to register advertisement")
        return {name: value.value for name, value in reply.body[0].items()}

    def _release(self, owner: str, path: str) -> None:
        assert self._bus
        message = Message(destination=owner, path=path, interface="org.bluez.LEAdvertisement1", member="Release")
        self._spawn(self._called(message))

    async def _called(self, message: Message) -> None:
        assert self._bus
        await self._bus.call(message)

    def _changed(self, path: str, interface: str, changed: dict[str, Variant], gone: list[str] | None = None) -> None:
        self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, changed, gone or []])

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        self._outgoing.put_nowait(Message.new_signal(path, interface, member, signature, body))

    async def _deliver(self, bus: MessageBus) -> None:
        """Send what is to be sent, in its order, and wait until the daemon has taken it.

        dbus-fast hangs up when a socket is full.
        """
        while True:
            for _ in range(_AT_ONCE):
                bus.send(await self._outgoing.get())
                if self._outgoing.empty():
                    break
            await bus.call(_to_the_bus("GetId"))

    def _spawn(self, doing: Any) -> None:
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _to_the_bus(member: str, *words: str) -> Message:
    """Return a question to the daemon that carries the bus."""
    place = "/org/freedesktop/DBus"
    signature = "s" * len(words)
    return Message(destination=_DBUS, path=place, interface=_DBUS, member=member, signature=signature, body=list(words))


def legacy_bytes(said: dict[str, Any]) -> int:
    """Return how long an advertisement is in the air; a name goes into the scan response."""
    length = 3 if said.get("Discoverable") else 0
    for uuid, data in said.get("ServiceData", {}).items():
        length += 2 + (2 if uuid.endswith(_SHORT_UUID) else 16) + len(data.value)
    for data in said.get("ManufacturerData", {}).values():
        length += 2 + 2 + len(data.value)
    uuids = said.get("ServiceUUIDs", [])
    short = [one for one in uuids if one.endswith(_SHORT_UUID)]
    length += 2 + 2 * len(short) if short else 0
    length += 2 + 16 * (len(uuids) - len(short)) if len(uuids) > len(short) else 0
    return length
