"""Where a device's link answers, as it tells over a Bluetooth connection to who finds nothing by mDNS. Pure.

    1 byte    version
    2 bytes   port, big endian
    then, for each address: 1 byte, 4 or 6, and the address

As with an mDNS record, what is read has a usable shape and no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from device_agent.radio import Endpoint
from device_agent.radio.records import Network, best_address

RECORD_UUID: Final = "07b6369b-e2e2-49bc-a829-97f46fa3d69b"
"""Of the characteristic; drawn at random for this project."""
MOST_ADDRESSES: Final = 8
_VERSION = 1
_HEAD_BYTES = 3
_LENGTHS: Final = {4: 4, 6: 16}
MOST_BYTES: Final = _HEAD_BYTES + MOST_ADDRESSES * 17


class Reason(StrEnum):
    """Why a record is not believed."""

    VERSION = "it is of another version, or of none"
    PORT = "its port is none of TCP"
    LENGTH = "it is cut off, or longer than a record is"
    ADDRESS = "none of its addresses can be reached from here"


def encode(port: int, addresses: Sequence[str]) -> bytes:
    """Return the record of a link at `port` of these addresses, the best first; of more than 8 the rest is left out."""
    said = [ip_address(one.partition("%")[0]) for one in addresses[:MOST_ADDRESSES]]
    return bytes([_VERSION]) + port.to_bytes(2) + b"".join(bytes([one.version]) + one.packed for one in said)


def decode(record: bytes, networks: Sequence[Network], scopes: Collection[str] = ()) -> Endpoint | Reason:
    """Return where to ask, or why there is nowhere.

    Args:
        record: what the other device told.
        networks: those that this device is in.
        scopes: the interfaces on which a link-local address may be.
    """
    if record[:1] != bytes([_VERSION]):
        return Reason.VERSION
    if not _HEAD_BYTES <= len(record) <= MOST_BYTES:
        return Reason.LENGTH
    port = int.from_bytes(record[1:_HEAD_BYTES])
    if port == 0:
        return Reason.PORT
    addresses = list(_addresses(record[_HEAD_BYTES:]))
    if None in addresses:
        return Reason.LENGTH
    reachable = [scoped for one in addresses if one is not None for scoped in _scoped(one, scopes)]
    host = best_address(reachable, networks)
    return Reason.ADDRESS if host is None else Endpoint(host=host, port=port)


def _addresses(rest: bytes) -> Iterator[IPv4Address | IPv6Address | None]:
    """Yield the addresses, and None where there is none that is whole."""
    at = 0
    while at < len(rest):
        length = _LENGTHS.get(rest[at], 0)
        packed = rest[at + 1 : at + 1 + length]
        yield ip_address(packed) if length and len(packed) == length else None
        at += 1 + length


def _scoped(address: IPv4Address | IPv6Address, scopes: Collection[str]) -> list[str]:
    if isinstance(address, IPv6Address) and address.is_link_local:
        return [f"{address}%{one}" for one in scopes]
    return [str(address)]
