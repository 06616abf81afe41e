"""Two Bluetooth controllers without a radio that hear each other, on /dev/vhci: the kernel takes them for hardware.

It obeys a line each on its standard input, and answers each with a line: `open N [legacy]`, `close N`, `rssi DBM`,
`say ADDRESS HEX`, `join ADDRESS HEX [RECORD]`, `leave ADDRESS`. Whoever joins is a device of its own, which needs no
kernel: it advertises, and tells a record to who connects.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Any

from bumble import hci, ll
from bumble.controller import Controller
from bumble.core import UUID, PhysicalTransport
from bumble.device import Device
from bumble.gatt import Characteristic, Service
from bumble.host import Host
from bumble.link import LocalLink
from bumble.transport import open_transport
from bumble.transport.common import Transport

from device_agent.radio.advertisement import SERVICE_UUID
from device_agent.radio.link_record import RECORD_UUID

_REPORTS = (hci.HCI_LE_Advertising_Report_Event, hci.HCI_LE_Extended_Advertising_Report_Event)
_ENHANCED = 1 << 9
"""In the mask of LE events: a connection is told by another event than by Bluetooth 4.0."""


_INTERVAL_MS = 500.0


class Link(LocalLink):
    """What carries packets; of a connection, from the address that it was made with.

    bumble 0.0.236 sends from the controller's random address, which no connection to an advertised one has.
    """

    def send_acl_data(
        self, sender_controller: Controller, destination_address: hci.Address, transport: PhysicalTransport, data: bytes
    ) -> None:
        connection = sender_controller.le_connections.get(destination_address)
        there = self.find_le_controller(destination_address)
        if transport != PhysicalTransport.LE or connection is None or there is None:
            super().send_acl_data(sender_controller, destination_address, transport, data)
            return
        asyncio.get_running_loop().call_soon(there.on_link_acl_data, connection.self_address, transport, data)


@dataclass
class Air:
    """What is between the controllers.

    Attributes:
        rssi_dbm: what each hears of the other; 127 where that is unknown.
    """

    rssi_dbm: int = -50
    link: Link = field(default_factory=Link)


class Heard(Controller):
    """A controller that tells the signal strength we want, and forgets what it did when it is reset."""

    def __init__(self, air: Air, number: int, *, legacy: bool, transport: Transport) -> None:
        super().__init__(
            f"C{number}",
            host_source=transport.source,
            host_sink=transport.sink,
            link=air.link,
            public_address=f"F0:F1:F2:F3:F4:0{number + 1}",
        )
        self.air = air
        if legacy:  # Bluetooth 4: an advertisement has 31 bytes
            self.le_features &= ~hci.LeFeatureMask.LE_EXTENDED_ADVERTISING

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        if isinstance(packet, _REPORTS):
            for one in packet.reports:
                one.rssi = self.air.rssi_dbm
            packet = type(packet)(packet.reports)
        elif isinstance(packet, hci.HCI_LE_Connection_Complete_Event) and self.le_event_mask & _ENHANCED:
            packet = _enhanced(packet)
        super().send_hci_packet(packet)

    def on_hci_le_create_connection_cancel_command(
        self, command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        """End the attempt, as bumble 0.0.236 does not: it would refuse each later one."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        self.send_hci_packet(
            hci.HCI_LE_Connection_Complete_Event(
                status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
                connection_handle=0,
                role=hci.Role.CENTRAL,
                peer_address_type=pending.peer_address.address_type,
                peer_address=pending.peer_address,
                connection_interval=0,
                peripheral_latency=0,
                supervision_timeout=0,
                central_clock_accuracy=0,
            )
        )
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def on_hci_reset_command(self, command: hci.HCI_Reset_Command) -> Any:
        quiet(self)
        return super().on_hci_reset_command(command)


def quiet(controller: Controller) -> None:
    """Have a controller neither show nor look, and hang up."""
    controller.le_scan_enable = False
    controller.pending_le_connection = None
    for connection in controller.le_connections.values():
        connection.send_ll_control_pdu(ll.TerminateInd(hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR))
    controller.le_connections.clear()
    controller.le_legacy_advertiser.stop()
    for one in controller.advertising_sets.values():
        one.stop()
    controller.advertising_sets.clear()


def _enhanced(told: hci.HCI_LE_Connection_Complete_Event) -> hci.HCI_LE_Enhanced_Connection_Complete_Event:
    """Tell of a connection as a host wants it that has asked for more: Linux waits for nothing else.

    bumble 0.0.236 sends the older event, whatever was asked for; Linux then gives the connection up.
    """
    return hci.HCI_LE_Enhanced_Connection_Complete_Event(
        status=told.status,
        connection_handle=told.connection_handle,
        role=told.role,
        peer_address_type=told.peer_address_type,
        peer_address=told.peer_address,
        local_resolvable_private_address=hci.Address.ANY,
        peer_resolvable_private_address=hci.Address.ANY,
        connection_interval=told.connection_interval,
        peripheral_latency=told.peripheral_latency,
        supervision_timeout=told.supervision_timeout,
        central_clock_accuracy=told.central_clock_accuracy,
    )


class Stranger:
    """A device beside those of the kernel.

    Attributes:
        device: with a controller, an address and a host of its own.
    """

    def __init__(self, air: Air, address: str, record: bytes) -> None:
        self._air = air
        self._controller = Controller(address, link=air.link)
        self.device = Device(name=address, address=hci.Address(address), host=Host(self._controller, self._controller))
        properties, permissions = Characteristic.Properties.READ, Characteristic.READABLE
        told = Characteristic(UUID(RECORD_UUID), properties, permissions, record)
        self.device.add_service(Service(UUID(SERVICE_UUID), [told]))

    async def show(self, data: bytes) -> None:
        await self.device.power_on()
        await self.device.start_advertising(
            advertising_data=data,
            auto_restart=True,
            advertising_interval_min=_INTERVAL_MS,
            advertising_interval_max=_INTERVAL_MS,
        )

    def vanish(self) -> None:
        """Be gone without a word."""
        quiet(self._controller)
        self._air.link.remove_controller(self._controller)


class Controllers:
    """Those that are plugged in, and the strangers."""

    def __init__(self) -> None:
        self._air = Air()
        self._open: dict[int, tuple[Heard, Transport]] = {}
        self._strangers: dict[str, Stranger] = {}

    async def obey(self, command: str, *arguments: str) -> None:
        match command, arguments:
            case "open", (number, *kind):
                await self._plug(int(number), legacy=kind == ["legacy"])
            case "close", (number,):
                await self._unplug(int(number))
            case "say", (address, data):
                self._say(hci.Address(address), bytes.fromhex(data))
            case "join", (address, data, *record):
                self._strangers[address] = Stranger(self._air, address, bytes.fromhex("".join(record)))
                await self._strangers[address].show(bytes.fromhex(data))
            case "leave", (address,):
                self._strangers.pop(address).vanish()
            case "rssi", (dbm,):
                self._air.rssi_dbm = int(dbm)
            case _:
                raise ValueError(f"what is {command} {arguments}?")

    async def _plug(self, number: int, *, legacy: bool) -> None:
        transport = await open_transport("vhci")
        self._open[number] = Heard(self._air, number, legacy=legacy, transport=transport), transport

    def _say(self, address: hci.Address, data: bytes) -> None:
        """Let all hear a legacy advertisement of a stranger, whatever is in it."""
        for controller, _ in self._open.values():
            controller.on_ll_advertising_pdu(ll.AdvInd(advertiser_address=address, data=data))

    async def _unplug(self, number: int) -> None:
        controller, transport = self._open.pop(number)
        quiet(controller)
        self._air.link.remove_controller(controller)
        await transport.close()


async def main() -> None:
    controllers = Controllers()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while words := (await lines.readline()).decode().split():
        await controllers.obey(*words)
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
