"""Addresses as they are written (EIP-55).

Writing one costs a hash, and a few accounts are met over and over: so what was written lately is remembered.
"""

from __future__ import annotations

import re
from functools import lru_cache

from eth_hash.auto import keccak

_HEX = re.compile(r"(?:0x)?[0-9a-fA-F]{40}")


@lru_cache(maxsize=4096)
def checksum_address(address: str | bytes) -> str:
    """Return the checksum form of an address of 20 bytes or 40 hex digits. Raises ValueError for anything else."""
    plain = address.hex() if isinstance(address, bytes) else address
    if not _HEX.fullmatch(plain):
        raise ValueError(f"{plain[:80]!r} is no address")
    digits = plain[-40:].lower()
    marks = keccak(digits.encode()).hex()
    return "0x" + "".join(one.upper() if mark >= "8" else one for one, mark in zip(digits, marks, strict=False))
