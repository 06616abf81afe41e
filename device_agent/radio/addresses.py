"""The addresses of this device at this moment."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Final

import ifaddr

from device_agent.radio.records import MOST_ADDRESSES, Network

_GET_FLAGS: Final = 0x8913
_RUNNING: Final = 0x40
_MULTICAST: Final = 0x1000
_TENTATIVE: Final = 0x40
_IPV6_ADDRESSES = Path("/proc/net/if_inet6")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAddress:
    """An address of this device.

    Attributes:
        ip: with its network.
        interface: the name of where it is.
    """

    ip: IPv4Interface | IPv6Interface
    interface: str

    @property
    def text(self) -> str:
        """Return it without its network and scope."""
        return str(self.ip.ip).partition("%")[0]

    @property
    def network(self) -> Network:
        """Return the network it is in."""
        return self.ip.network


def own_addresses(interfaces: Collection[str] | None) -> tuple[OwnAddress, ...]:
    """Return the IPv4 and IPv6 link-local addresses of some interfaces that are up; IPv4 first, in a stable order.

    Args:
        interfaces: their names; None for all that take multicast, so not for loopback.
    """
    unproven = _tentative()
    found = [
        OwnAddress(ip=ip, interface=adapter.name)
        for adapter in ifaddr.get_adapters()
        if _serves(adapter.name, interfaces)
        for ip in map(_parsed, adapter.ips)
        if isinstance(ip, IPv4Interface) or (ip.is_link_local and int(ip.ip) not in unproven)
    ]
    return tuple(sorted(found, key=lambda one: (one.ip.version, one.interface, int(one.ip))))[:MOST_ADDRESSES]


def _parsed(one: ifaddr.IP) -> IPv4Interface | IPv6Interface:
    if isinstance(one.ip, tuple):
        return IPv6Interface(f"{one.ip[0].partition('%')[0]}/{one.network_prefix}")
    return IPv4Interface(f"{one.ip}/{one.network_prefix}")


def _serves(name: str, interfaces: Collection[str] | None) -> bool:
    if interfaces is not None and name not in interfaces:
        return False
    flags = _flags(name)
    return bool(flags & _RUNNING) and (interfaces is not None or bool(flags & _MULTICAST))


def _flags(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, _GET_FLAGS, struct.pack("16s24x", name.encode()))
        except OSError:
            return 0
    return int(struct.unpack_from("H", answer, 16)[0])


def _tentative() -> set[int]:
    """Return the IPv6 addresses that the kernel still asks the network about: nothing can be bound to them yet."""
    if not _IPV6_ADDRESSES.exists():
        return set()
    fields = [line.split() for line in _IPV6_ADDRESSES.read_text("ascii").splitlines()]
    return {int(one[0], 16) for one in fields if int(one[4], 16) & _TENTATIVE}
