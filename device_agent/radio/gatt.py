"""Telling where the link answers over a Bluetooth connection: for networks on which multicast does not get through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Annotated, Final

from bleak import BleakClient
from bleak.backends.device import BLEDevice
from bleak.exc import BleakError
from dbus_fast import DBusFastError
from dbus_fast.annotations import DBusBool, DBusBytes, DBusDict, DBusObjectPath, DBusSignature, DBusStr
from dbus_fast.constants import PropertyAccess
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from device_agent.radio.advertisement import SERVICE_UUID
from device_agent.radio.link_record import MOST_BYTES, RECORD_UUID

ROOT: Final = "/idml/gatt"
_SERVICE: Final = f"{ROOT}/service0"
_CHARACTERISTIC: Final = f"{_SERVICE}/char0"
_TRIES: Final = 3
_PAUSE_S: Final = 0.5
"""After a try that went wrong, until its connection is over."""


_Strings = Annotated[list[str], DBusSignature("as")]


class LinkService(ServiceInterface):
    """The service, as bluetoothd reads it from us."""

    def __init__(self) -> None:
        super().__init__("org.bluez.GattService1")

    @dbus_property(access=PropertyAccess.READ, name="UUID")
    def uuid(self) -> DBusStr:
        """The one under which we advertise."""
        return SERVICE_UUID

    @dbus_property(access=PropertyAccess.READ, name="Primary")
    def primary(self) -> DBusBool:
        """It stands by itself."""
        return True


class LinkCharacteristic(ServiceInterface):
    """The record, read anew each time somebody asks: addresses change."""

    def __init__(self, record: Callable[[], bytes]) -> None:
        """Tell what `record` returns."""
        super().__init__("org.bluez.GattCharacteristic1")
        self._record = record

    @dbus_method(name="ReadValue")
    def read_value(self, _options: DBusDict) -> DBusBytes:
        """Return the record."""
        return self._record()

    @dbus_property(access=PropertyAccess.READ, name="UUID")
    def uuid(self) -> DBusStr:
        """Of the record."""
        return RECORD_UUID

    @dbus_property(access=PropertyAccess.READ, name="Service")
    def service(self) -> DBusObjectPath:
        """Where it belongs."""
        return _SERVICE

    @dbus_property(access=PropertyAccess.READ, name="Flags")
    def flags(self) -> _Strings:
        """It is read, by anyone."""
        return ["read"]


def objects(record: Callable[[], bytes]) -> Sequence[tuple[str, ServiceInterface]]:
    """Return what there is below `ROOT`, with its paths."""
    return [(_SERVICE, LinkService()), (_CHARACTERISTIC, LinkCharacteristic(record))]


async def read_from(device: BLEDevice, answer_s: float) -> bytes | str:
    """Connect to a device and read its record: its bytes, or why there is none. It takes `answer_s` at most.

    It is tried more than once. Where both ends are BlueZ 5.66, each opens further channels for the same connection
    (EATT), and closes some of the other's: what was asked over one of these is lost, about every fourth time.
    """
    reason = "it does not answer"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(answer_s):
            for _ in range(_TRIES):
                try:
                    return await _read(device, answer_s)
                except (BleakError, DBusFastError, OSError, EOFError) as error:
                    reason = f"{type(error).__name__}: {error}"
                await asyncio.sleep(_PAUSE_S)
    return reason


async def _read(device: BLEDevice, answer_s: float) -> bytes:
    async with BleakClient(device, services=[SERVICE_UUID], timeout=answer_s) as client:
        record = bytes(await client.read_gatt_char(RECORD_UUID))
    return record[: MOST_BYTES + 1]
