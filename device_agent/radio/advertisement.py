"""What a device says over Bluetooth LE, and whether it is ours. Pure.

A legacy advertisement has 31 bytes. Flags take 3, and service data under a UUID of our own 18, so 10 are left: version
and capabilities in one, the radio id in eight, the family of models in one. Anyone in range reads them and anyone can
send them: they are hints, and who is really there the link finds out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from device_agent.radio import RadioId

SERVICE_UUID: Final = "a4908729-e538-4368-ac46-e783800246ed"
"""Drawn at random for this project; nobody else uses it."""
PAYLOAD_BYTES: Final = 10
LEGACY_BYTES: Final = 31
"""Of a whole advertisement. A controller that can send longer ones is not asked to: old ones would not hear them."""

_VERSION = 1
_ID_BYTES = 8
_HALF = 16
_FLAGS_BYTES = 3
_HEAD_BYTES = 1 + 1 + 16
"""Of service data: its length, its type, the UUID."""


class Reason(StrEnum):
    """Why what was heard is not an advertisement of ours."""

    SERVICE = "it is of another service"
    LENGTH = "it is not of ten bytes"
    VERSION = "it is of another version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """What a device says.

    Attributes:
        radio_id: what it shows, 8 bytes as 16 hex digits.
        family: of its models, one byte.
        capabilities: four bits that have no meaning yet; whoever does not know one ignores it.
    """

    radio_id: RadioId
    family: int
    capabilities: int = 0


def encode(said: Advertisement) -> bytes:
    """Return the payload. Raises `ValueError` for what does not fit: BlueZ would make a longer advertisement of it."""
    radio_id = bytes.fromhex(said.radio_id)
    if len(radio_id) != _ID_BYTES:
        raise ValueError(f"a radio id has {_ID_BYTES} bytes, not {len(radio_id)}")
    if not 0 <= said.capabilities < _HALF:
        raise ValueError(f"capabilities are four bits, not {said.capabilities}")
    payload = bytes([_VERSION * _HALF + said.capabilities, *radio_id, said.family])
    if _FLAGS_BYTES + _HEAD_BYTES + len(payload) > LEGACY_BYTES:
        raise ValueError(f"a payload of {len(payload)} bytes makes more than {LEGACY_BYTES} of the advertisement")
    return payload


def decode(payload: bytes) -> Advertisement | Reason:
    """Return what a payload says, or why it is not ours."""
    if len(payload) != PAYLOAD_BYTES:
        return Reason.LENGTH
    version, capabilities = divmod(payload[0], _HALF)
    if version != _VERSION:
        return Reason.VERSION
    radio_id = RadioId(payload[1 : 1 + _ID_BYTES].hex())
    return Advertisement(radio_id=radio_id, family=payload[-1], capabilities=capabilities)


def read(service_data: Mapping[str, bytes]) -> Advertisement | Reason:
    """Return what the service data of one device says, or why it is not ours.

    BlueZ keeps what an address sent before: other services than the newest stay in there, and mean nothing.
    """
    payload = service_data.get(SERVICE_UUID)
    return Reason.SERVICE if payload is None else decode(payload)
