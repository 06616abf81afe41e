"""The link over a local network: one object for both of its sides, and for who this device is on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.identity import Identity
from device_agent import vouching
from device_agent.clock import Clock
from device_agent.errors import PeerFault
from device_agent.link import Deliver, Greeted, Greeting, Serve, wire
from device_agent.link.client import Client
from device_agent.link.limits import DEFAULT_LIMITS, Limits
from device_agent.link.parts import Parts
from device_agent.link.server import Server
from device_agent.link.sessions import Sessions
from device_agent.link.tls import server_context
from device_agent.observation import Observe
from device_agent.radio import Endpoint, PeerId, RadioId

_NONCE_BYTES = 32
_VOUCH_AGAIN_S = 86_400


class LanLink:
    """A device's end of the links to its peers over TLS 1.3. See `device_agent.link.Link`.

    A peer's id is its account's address.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        key: bytes,
        radio_id: Callable[[], RadioId],
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        parts: Path,
        observe: Observe,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Put it together; `open` begins to answer.

        Args:
            identity: the device's account.
            key: 32 bytes, the private Ed25519 key of the link.
            radio_id: tells what the device shows on its radios now.
            clock: monotonic time for bounds, wall time for the end of vouchings.
            random_bytes: a source of secrets.
            parts: folder for unfinished transfers.
            observe: told what goes wrong.
            limits: what a peer may cost.

        Raises `StorageFault` if the folder cannot be used.
        """
        self._identity = identity
        self._key = Ed25519PrivateKey.from_private_bytes(key)
        self._public = self._key.public_key().public_bytes_raw()
        self._radio_id = radio_id
        self._clock = clock
        self._random_bytes = random_bytes
        self._vouching: tuple[float, str] | None = None
        self._port = 0
        self._greeted: Greeted | None = None
        self.deliver: Deliver = lambda _peer, _message: None
        self.serve: Serve = lambda _peer, _digest: None
        self._client = Client(self, parts=Parts(parts, limits), limits=limits)
        self._server = Server(
            self,
            context=server_context(self._key),
            sessions=Sessions(limits, random_bytes),
            limits=limits,
            clock=clock,
            observe=observe,
        )

    async def open(self, host: str = "", port: int = 0) -> Self:
        """Answer at an address of this machine's, or at all; port 0: any that is free. Raises OSError."""
        listening = await asyncio.to_thread(_bound, host, port)
        self._port = listening.getsockname()[1]
        await self._server.start(listening)
        return self

    async def close(self) -> None:
        """Hang up on everybody."""
        self._client.close()
        await self._server.close()

    @property
    def port(self) -> int:
        """Where it answers; 0 before it does."""
        return self._port

    @property
    def address(self) -> str:
        """The device's account."""
        return self._identity.address

    def attach(self, deliver: Deliver, serve: Serve, greeted: Greeted) -> None:
        """See `device_agent.link.Link`."""
        self.deliver, self.serve, self._greeted = deliver, serve, greeted

    def account(self, peer: PeerId) -> str | None:
        """See `device_agent.link.Link`."""
        return peer

    async def greet(self, endpoint: Endpoint) -> Greeting:
        """See `device_agent.link.Link`."""
        return await self._client.greet(endpoint)

    async def send(self, peer: PeerId, message: bytes) -> None:
        """See `device_agent.link.Link`."""
        await self._client.send(peer, message)

    async def fetch(self, peer: PeerId, digest: bytes, *, max_bytes: int) -> bytes:
        """See `device_agent.link.Link`."""
        return await self._client.fetch(peer, digest, max_bytes=max_bytes)

    # -- who this device is, for both sides ------------------------------------------------------------------------

    def radio_id(self) -> str:
        """Return what the device shows on its radios."""
        return self._radio_id()

    def nonce(self) -> str:
        """Return 64 hex digits that nobody can guess."""
        return self._random_bytes(_NONCE_BYTES).hex()

    def challenge(self, nonce: str) -> wire.Challenge:
        """Say who this device is, and ask who asks."""
        return wire.Challenge(vouching=self._statement(), nonce=nonce)

    def hello(self, challenge: wire.Challenge, server_key: bytes) -> wire.Hello:
        """Answer a challenge of the server with that key."""
        unsigned = wire.Hello(
            vouching=self._statement(),
            radio_id=self.radio_id(),
            port=self._port,
            nonce=challenge.nonce,
            signature=wire.UNSIGNED,
        )
        text = wire.hello_text(unsigned, account=self.address, server_key=server_key)
        return unsigned.model_copy(update={"signature": self._key.sign(text).hex()})

    def met(self, hello: wire.Hello, host: str) -> Greeting:
        """Take the hello of a peer at `host`. Raises `PeerFault` if it is not who it says."""
        theirs = vouching.read(hello.vouching.encode())
        peer = self.vouched(hello.vouching, theirs.link_key)
        text = wire.hello_text(hello, account=peer, server_key=self._public)
        wire.check_signature(theirs.link_key, text, bytes.fromhex(hello.signature))
        if peer == self.address:
            raise PeerFault("another device has this device's account")
        endpoint = Endpoint(host=host, port=hello.port)
        greeting = Greeting(peer=peer, radio_id=RadioId(hello.radio_id), endpoint=endpoint)
        self._client.met(peer, endpoint)
        if self._greeted is not None:
            self._greeted(greeting)
        return greeting

    def vouched(self, statement: str, key: bytes) -> PeerId:
        """Return the account that vouches for a link key. Raises `PeerFault` if none does."""
        theirs = vouching.read(statement.encode())
        if theirs.link_key != key:
            raise PeerFault("the vouching is for another key")
        vouching.verify(theirs, now_s=int(self._clock.wall_s()))
        return PeerId(theirs.account)

    def manifest(self, peer: PeerId, *, digest: str, size_bytes: int, sha256: str, nonce: str) -> wire.Manifest:
        """Sign what a snapshot is on the wire, for one peer."""
        unsigned = wire.Manifest(
            digest=digest, size_bytes=size_bytes, sha256=sha256, nonce=nonce, signature=wire.UNSIGNED
        )
        text = wire.manifest_text(unsigned, account=peer)
        return unsigned.model_copy(update={"signature": self._key.sign(text).hex()})

    def _statement(self) -> str:
        """The account's word for the link's key, written anew each day."""
        now_s = self._clock.monotonic_s()
        if self._vouching is None or now_s - self._vouching[0] > _VOUCH_AGAIN_S:
            made = vouching.vouch(self._identity, self._public, now_s=int(self._clock.wall_s()))
            self._vouching = (now_s, vouching.write(made).decode())
        return self._vouching[1]


def _bound(host: str, port: int) -> socket.socket:
    """A socket of IPv6 and IPv4, or of IPv4 where there is no other or an IPv4 address is asked for."""
    if host or not socket.has_dualstack_ipv6():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
