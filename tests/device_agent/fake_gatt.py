"""The fake `org.bluez` with connections: an adapter's applications can be read by who connects to its address."""

from __future__ import annotations

from typing import Any

from dbus_fast import Message, MessageType, Variant
from fake_bluez import ADAPTER, DEVICE, OBJECTS, BluezError, FakeAdapter, FakeBluez

MANAGER = "org.bluez.GattManager1"
SERVICE = "org.bluez.GattService1"
CHARACTERISTIC = "org.bluez.GattCharacteristic1"


class FakeBluezWithGatt(FakeBluez):
    """bluetoothd that serves and reads GATT.

    Attributes:
        refuse_application: an error for each RegisterApplication.
        unreachable: addresses to which no connection comes about.
        connected: how many connections were made.
        reads_lost: how many reads are still to fail, as when the channel they went over is closed.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.refuse_application: tuple[str, str] | None = None
        self.unreachable: set[str] = set()
        self.connected = 0
        self.reads_lost = 0
        self._applications: dict[str, tuple[str, dict[str, Any]]] = {}
        self._there: dict[str, dict[str, Any]] = {}
        """Objects of devices that are connected: path, interfaces."""
        self._told_at: dict[str, str] = {}
        """Where the application has them, by our own paths, which hold handles."""

    async def _answer(self, message: Message) -> tuple[str, list[Any]]:
        if message.interface == MANAGER:
            return await self._application(message)
        if message.interface == DEVICE:
            return await self._connection(message)
        if message.interface == CHARACTERISTIC:
            return await self._read_value(message)
        return await super()._answer(message)

    def _objects(self) -> dict[str, Any]:
        return super()._objects() | self._there

    async def _application(self, message: Message) -> tuple[str, list[Any]]:
        here = self._adapter_at(str(message.path))
        if message.member == "UnregisterApplication":
            if self._applications.pop(here.address, None) is None:
                raise BluezError("org.bluez.Error.DoesNotExist", "Does Not Exist")
            return "", []
        if self.refuse_application is not None:
            raise BluezError(*self.refuse_application)
        if here.address in self._applications:
            raise BluezError("org.bluez.Error.AlreadyExists", "Already Exists")
        root = str(message.body[0])
        reply = await self._ask(str(message.sender), root, OBJECTS, "GetManagedObjects")
        found = reply.body[0]
        if not any(CHARACTERISTIC in one for one in found.values()):
            raise BluezError("org.bluez.Error.Failed", "No object received")
        self._applications[here.address] = (str(message.sender), found)
        return "", []

    async def _connection(self, message: Message) -> tuple[str, list[Any]]:
        path = str(message.path)
        adapter, device = self._device_at(path)
        address = str(device["Address"].value)
        if message.member == "Disconnect":
            for one in [one for one in self._there if one.startswith(path + "/")]:
                self._signal("/", OBJECTS, "InterfacesRemoved", "oas", [one, list(self._there.pop(one))])
            self._set(path, device, Connected=Variant("b", False), ServicesResolved=Variant("b", False))
            return "", []
        assert message.member == "Connect"
        if address in self.unreachable or not adapter.powered:
            raise BluezError("org.bluez.Error.Failed", "le-connection-abort-by-local")
        self.connected += 1
        self._set(path, device, Connected=Variant("b", True))
        _, objects = self._applications.get(address, ("", {}))
        for place, interfaces in objects.items():
            mine = path + place.removeprefix("/idml/gatt").replace("service0", "service000a").replace(
                "char0", "char000b"
            )
            self._told_at[mine] = place
            for interface, said in interfaces.items():
                values = dict(said)
                if interface == SERVICE:
                    values["Device"] = Variant("o", path)
                elif interface == CHARACTERISTIC:
                    values["Service"] = Variant("o", mine.rpartition("/")[0])
                else:
                    continue
                self._there[mine] = {interface: values}
                self._signal("/", OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [mine, {interface: values}])
        self._set(path, device, ServicesResolved=Variant("b", True))
        return "", []

    async def _read_value(self, message: Message) -> tuple[str, list[Any]]:
        if self.reads_lost > 0:
            self.reads_lost -= 1
            raise BluezError("org.bluez.Error.Failed", "Operation failed with ATT error: 0x0e")
        path = str(message.path)
        device_path = "/".join(path.split("/")[:5])
        _, device = self._device_at(device_path)
        owner, _ = self._applications[str(device["Address"].value)]
        reply = await self._ask(owner, self._told_at[path], CHARACTERISTIC, "ReadValue", "a{sv}", {})
        return "ay", [bytes(reply.body[0])]

    async def _ask(
        self, owner: str, path: str, interface: str, member: str, signature: str = "", *body: object
    ) -> Message:
        assert self._bus
        asked = Message(
            destination=owner, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        reply = await self._bus.call(asked)
        if reply is None or reply.message_type is MessageType.ERROR:
            raise BluezError("org.bluez.Error.Failed", f"no answer from the application: {reply and reply.body}")
        return reply

    def _adapter_at(self, path: str) -> FakeAdapter:
        found = next((one for one in self.adapters if one.path == path and one.present), None)
        if found is None:
            raise BluezError("org.freedesktop.DBus.Error.UnknownObject", f"{ADAPTER} is not at {path}")
        return found

    def _device_at(self, path: str) -> tuple[FakeAdapter, dict[str, Variant]]:
        for one in self.adapters:
            if path in one.known:
                return one, one.known[path]
        raise BluezError("org.freedesktop.DBus.Error.UnknownObject", f"{DEVICE} is not at {path}")

    def _set(self, path: str, device: dict[str, Variant], **changed: Variant) -> None:
        device.update(changed)
        self._changed(path, DEVICE, changed)
