"""The link between two devices in range: small messages are pushed, snapshots are pulled by digest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from device_agent.radio import PeerId

Deliver = Callable[[PeerId, bytes], None]
"""Takes a message from a peer; must not block."""

Serve = Callable[[PeerId, bytes], bytes | None]
"""Returns the packed snapshot of a digest for a peer, or None if it may not have it."""


class Link(Protocol):
    """One device's end of the links to all its peers."""

    def attach(self, deliver: Deliver, serve: Serve) -> None:
        """Say who takes what arrives."""
        ...

    async def send(self, peer: PeerId, message: bytes) -> None:
        """Hand a message over. Raises `LinkLost` if the peer did not take it."""
        ...

    async def fetch(self, peer: PeerId, digest: bytes, *, max_bytes: int) -> bytes:
        """Pull a packed snapshot. Raises `LinkLost`, or `PeerFault` if the peer refuses or sends too much."""
        ...
