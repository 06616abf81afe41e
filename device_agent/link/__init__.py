"""The link between two devices in range: small messages are pushed, snapshots are pulled by digest.

It also finds out who a device is: radios show ids that change, a link knows its peers by their accounts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from device_agent.radio import Endpoint, PeerId, RadioId


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What two devices tell each other first, authenticated.

    Attributes:
        peer: who it is.
        radio_id: what it shows on its radios now.
        endpoint: where its link answers.
    """

    peer: PeerId
    radio_id: RadioId
    endpoint: Endpoint


Deliver = Callable[[PeerId, bytes], None]
"""Takes a message from a peer; must not block."""

Serve = Callable[[PeerId, bytes], bytes | None]
"""Returns the canonical bytes of the snapshot of a digest for a peer, or None if it may not have it."""

Greeted = Callable[[Greeting], None]
"""Takes the greeting of a peer that made contact by itself; must not block."""


class Link(Protocol):
    """One device's end of the links to all its peers."""

    def attach(self, deliver: Deliver, serve: Serve, greeted: Greeted) -> None:
        """Say who takes what arrives."""
        ...

    def account(self, peer: PeerId) -> str | None:
        """Return the account by which a peer is known: nobody deals in another one's name. None: not known."""
        ...

    async def greet(self, endpoint: Endpoint) -> Greeting:
        """Find out who answers there, or whether it still does. Raises `LinkLost`, or `PeerFault` for an impostor."""
        ...

    async def send(self, peer: PeerId, message: bytes) -> None:
        """Hand a message over to a peer that was greeted. Raises `LinkLost` if the peer did not take it."""
        ...

    async def fetch(self, peer: PeerId, digest: bytes, *, max_bytes: int) -> bytes:
        """Pull a snapshot's canonical bytes, at most `max_bytes`; they are to be checked against `digest`.

        Raises `LinkLost`, or `PeerFault` if the peer refuses, or sends too much or what cannot be unpacked.
        """
        ...
