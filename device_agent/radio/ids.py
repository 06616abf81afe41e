"""What a device shows on its radios: an id that changes before anyone can follow it for long. Pure.

Who knows the root key can tell which ids are the device's; nobody else can link two of them. What an observer in range
learns all the same is in the threat notes.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from device_agent.radio import RadioId

INTERVAL_S: Final = 12 * 60
_DAY_S = 86_400
_ID_BYTES = 8


def radio_id(root_key: bytes, now_s: float) -> RadioId:
    """Return the id of this moment (Unix s): a truncated HMAC of the day's key and the interval's number."""
    number, _ = _interval(root_key, now_s)
    day_key = _hmac(root_key, f"day {number * INTERVAL_S // _DAY_S}")
    return RadioId(_hmac(day_key, f"interval {number}")[:_ID_BYTES].hex())


def changes_in_s(root_key: bytes, now_s: float) -> float:
    """Return how long the id of this moment (Unix s) is still shown. Devices do not all change at once."""
    _, left_s = _interval(root_key, now_s)
    return left_s


def _interval(root_key: bytes, now_s: float) -> tuple[int, float]:
    shift_s = int.from_bytes(_hmac(root_key, "shift")[:4], "big") % INTERVAL_S
    number, passed_s = divmod(now_s + shift_s, INTERVAL_S)
    return int(number), INTERVAL_S - passed_s


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, f"iDML radio {text}".encode(), hashlib.sha256)
