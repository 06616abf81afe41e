"""Telling where the link answers over a Bluetooth connection: for networks on which multicast does not get through."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from bleak import BleakClient
from bleak.backends.device import BLEDevice
from bleak.exc import BleakError
from dbus_fast import DBusFastError
from dbus_fast.annotations import DBusBool, DBusBytes, DBusDict, DBusObjectPath, DBusSignature, DBusStr
from dbus_fast.constants import PropertyAccess
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from device_agent.radio import Endpoint, RadioId
from device_agent.radio.advertisement import SERVICE_UUID
from device_agent.radio.link_record import MOST_BYTES, RECORD_UUID, Reason

ROOT: Final = "/idml/gatt"
_SERVICE: Final = f"{ROOT}/service0"
_CHARACTERISTIC: Final = f"{_SERVICE}/char0"


_Strings = Annotated[list[str], DBusSignature("as")]

_FIRST_REST_S: Final = 60.0
_RESTS_GROW: Final = 4
_MOST_ASKED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRecords:
    """What a radio needs to tell and to ask where links answer.

    Attributes:
        own: returns this device's record.
        known: whether it is known already who shows an id: then nobody is asked.
        read: returns where to ask, or why there is nowhere; see `device_agent.radio.link_record.decode`.
        after_s: how long an id is left to be found by mDNS.
    """

    own: Callable[[], bytes]
    known: Callable[[RadioId], bool]
    read: Callable[[bytes], Endpoint | Reason]
    after_s: float


@dataclass(slots=True)
class _Asked:
    next_s: float
    tries: int = 0


class Questions:
    """Whom to ask next, and when again: of the ids that were shown last, the 64 newest. Pure."""

    def __init__(self, after_s: float) -> None:
        """Leave an id alone for `after_s` at first."""
        self._after_s = after_s
        self._asked: OrderedDict[RadioId, _Asked] = OrderedDict()

    def seen(self, radio_id: RadioId, now_s: float) -> None:
        """Take note that an id is shown."""
        self._asked.setdefault(radio_id, _Asked(next_s=now_s + self._after_s))
        self._asked.move_to_end(radio_id)
        if len(self._asked) > _MOST_ASKED:
            self._asked.popitem(last=False)

    def due(self, now_s: float) -> RadioId | None:
        """Return who is to be asked now, who has waited longest first."""
        waiting = [(one.next_s, radio_id) for radio_id, one in self._asked.items() if one.next_s <= now_s]
        return min(waiting)[1] if waiting else None

    def asked(self, radio_id: RadioId, now_s: float) -> None:
        """Leave an id alone for a while, and for four times longer each time."""
        one = self._asked.setdefault(radio_id, _Asked(next_s=now_s))
        one.next_s = now_s + _FIRST_REST_S * _RESTS_GROW**one.tries
        one.tries += 1


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
    """Connect to a device and read its record: its bytes, or why there is none. It takes `answer_s` at most."""
    try:
        async with asyncio.timeout(answer_s), BleakClient(device, services=[SERVICE_UUID], timeout=answer_s) as client:
            record = bytes(await client.read_gatt_char(RECORD_UUID))
    except TimeoutError:
        return "it does not answer"
    except (BleakError, DBusFastError, OSError, EOFError) as error:
        return f"{type(error).__name__}: {error}"
    return record[: MOST_BYTES + 1]
