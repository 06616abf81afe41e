"""Snapshots as they go over the wire: compressed once, and kept for as long as a peer may ask for the rest."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from models.packing import pack

_KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One snapshot on the wire.

    Attributes:
        data: the compressed bytes.
        sha256: of them, in hex.
    """

    data: bytes
    sha256: str


class PackedSnapshots:
    """The last few that were asked for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Packed] = OrderedDict()
        self._packing = asyncio.Lock()

    async def get(self, digest: bytes, snapshot: bytes) -> Packed:
        """Return the snapshot of `digest`, packed; it is packed in a thread if that was not done lately."""
        async with self._packing:
            found = self._kept.get(digest)
            if found is None:
                found = await asyncio.to_thread(_packed, snapshot)
            self._kept[digest] = found
            self._kept.move_to_end(digest)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return found

    def forget(self) -> None:
        """Free the memory."""
        self._kept.clear()


def _packed(snapshot: bytes) -> Packed:
    data = pack(snapshot)
    return Packed(data=data, sha256=hashlib.sha256(data).hexdigest())
