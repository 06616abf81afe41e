"""What stands in an mDNS record, and whether to believe it. Pure.

Anyone on the network can announce anything. What is returned here has a usable shape and no more: it is still a hint,
and who is really there the link finds out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from device_agent.radio import Endpoint, RadioId

SERVICE: Final = "_idml._tcp.local."
MOST_ADDRESSES: Final = 16
"""How many addresses one device may have."""

_VERSION = b"1"
_INSTANCE = re.compile(r"([0-9a-f]{16})(?:-[0-9a-f]{4})?")
_FAMILY = re.compile(rb"[0-9a-f]{2}")
_OUT_OF_REACH = 99

Network = IPv4Network | IPv6Network


class Reason(StrEnum):
    """Why a record is not believed."""

    NAME = "its instance name is not a radio id"
    VERSION = "it is of another version, or of none"
    RADIO_ID = "its id is not the one in its name"
    FAMILY = "its model family is not two hex digits"
    PORT = "its port is none of TCP"
    TOO_MANY = "it has more addresses than a device has"
    ADDRESS = "none of its addresses can be reached from here"
    OURSELVES = "it leads back to this device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a believable record says.

    Attributes:
        radio_id: what the device shows.
        family: of its models, one byte.
        endpoint: where its link answers.
    """

    radio_id: RadioId
    family: int
    endpoint: Endpoint


def instance_name(radio_id: RadioId, mark: str = "") -> str:
    """Return the full name of an instance; a mark (4 hex digits) tells two with one id apart."""
    return f"{radio_id}-{mark}.{SERVICE}" if mark else f"{radio_id}.{SERVICE}"


def properties_of(radio_id: RadioId, family: int) -> dict[bytes, bytes]:
    """Return what a device writes into its TXT record."""
    return {b"v": _VERSION, b"id": radio_id.encode(), b"f": f"{family:02x}".encode()}


def id_in_name(name: str) -> RadioId | None:
    """Return the radio id in an instance's full name, None if it is not a name as we give them."""
    instance = _INSTANCE.fullmatch(name.removesuffix(f".{SERVICE}"))
    return RadioId(instance[1]) if instance and name.endswith(f".{SERVICE}") else None


def read_record(
    name: str,
    properties: Mapping[bytes, bytes | None],
    addresses: Sequence[str],
    port: int | None,
    networks: Sequence[Network],
    own: Collection[Endpoint] = (),
) -> Found | Reason:
    """Return what a record says, or why it is not believed.

    Args:
        name: of the instance, in full.
        properties: its TXT record.
        addresses: its A and AAAA records, the newest first, each with its scope where that is known.
        port: of its SRV record.
        networks: those that this device is in.
        own: where this device's own link answers, without scopes.
    """
    radio_id = id_in_name(name)
    family = properties.get(b"f") or b""
    if radio_id is None:
        return Reason.NAME
    if properties.get(b"v") != _VERSION:
        return Reason.VERSION
    if properties.get(b"id") != radio_id.encode():
        return Reason.RADIO_ID
    if not _FAMILY.fullmatch(family):
        return Reason.FAMILY
    if port is None or not 0 < port < 1 << 16:
        return Reason.PORT
    if len(addresses) > MOST_ADDRESSES:
        return Reason.TOO_MANY
    others = [one for one in addresses if Endpoint(host=one.partition("%")[0], port=port) not in own]
    host = best_address(others, networks)
    if host is None:
        return Reason.ADDRESS if len(others) == len(addresses) else Reason.OURSELVES
    return Found(radio_id=radio_id, family=int(family, 16), endpoint=Endpoint(host=host, port=port))


def best_address(addresses: Sequence[str], networks: Sequence[Network]) -> str | None:
    """Return the address that a device in these networks should try first, None if it can reach none of them."""
    ranked = [(_rank(one, networks), one) for one in map(_parsed, addresses) if one is not None]
    rank, best = min(ranked, key=lambda one: one[0], default=(_OUT_OF_REACH, None))
    return None if rank == _OUT_OF_REACH else str(best)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(address)
    except ValueError:
        return None


def _rank(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> int:
    """Return how good an address is, 0 the best: IPv4 in a network of ours, other IPv4, IPv6 on one of our links."""
    ours = [one for one in networks if address in one]
    if address.is_multicast or address.is_unspecified or (address.is_loopback and not ours):
        return _OUT_OF_REACH
    if isinstance(address, IPv6Address):
        return 2 if address.is_link_local and address.scope_id else _OUT_OF_REACH
    if address.is_reserved or any(one.broadcast_address == address and one.prefixlen < 31 for one in ours):
        return _OUT_OF_REACH
    return 0 if ours else 1
