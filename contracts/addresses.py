"""Addresses as they are written (EIP-55).

Writing one costs a hash, and a few accounts are met over and over: so what was written lately is remembered.
"""

from __future__ import annotations

from functools import lru_cache

from eth_utils.address import to_checksum_address


@lru_cache(maxsize=4096)
def checksum_address(address: str | bytes) -> str:
    """Return the checksum form of an address of 20 bytes or 40 hex digits. Raises ValueError for anything else."""
    return str(to_checksum_address(address))
