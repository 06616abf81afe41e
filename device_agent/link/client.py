"""The asking side of the link: who is at an endpoint, messages to it, snapshots from it. What blocks is in threads."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from device_agent.errors import AccountShared, LinkLost, PeerFault
from device_agent.link import Greeting, wire
from device_agent.link.connection import Answer, Connection
from device_agent.link.limits import Limits
from device_agent.link.parts import Part, Parts
from device_agent.radio import Endpoint, PeerId, RadioId
from models.errors import MalformedSnapshot
from models.packing import unpack

T = TypeVar("T")

_THREADS = 12
_AGAIN_S = 0.5
_BUSY = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS})


class Caller(Protocol):
    """Who this device is."""

    def hello(self, challenge: wire.Challenge, server_key: bytes) -> wire.Hello:
        """Answer a challenge."""
        ...

    def vouched(self, statement: str, key: bytes) -> PeerId:
        """Return the account that vouches for `key`. Raises `PeerFault` if none does."""
        ...

    def nonce(self) -> str:
        """Return 64 hex digits that nobody can guess."""
        ...

    @property
    def address(self) -> str:
        """Its own account."""
        ...


@dataclass(slots=True)
class _Peer:
    """A peer that was greeted, and the connection for small requests."""

    endpoint: Endpoint
    key: bytes
    token: str
    radio_id: RadioId
    connection: Connection
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Client:
    """Knows whom it has greeted."""

    def __init__(self, caller: Caller, *, parts: Parts, limits: Limits) -> None:
        self._caller = caller
        self._parts = parts
        self._limits = limits
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="link")
        self._taking = asyncio.Semaphore(limits.transfers)
        self._peers: OrderedDict[PeerId, _Peer] = OrderedDict()
        self._places: OrderedDict[PeerId, Endpoint] = OrderedDict()

    def close(self) -> None:
        """Hang up on everybody."""
        for one in self._peers.values():
            one.connection.close()
        self._peers.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def greet(self, endpoint: Endpoint) -> Greeting:
        """See `device_agent.link.Link`."""
        for peer, known in self._peers.items():
            if known.endpoint == endpoint:
                with suppress(LinkLost, PeerFault):  # else it may be another one by now
                    answer = await self._ask(peer, "GET", "/v1/ping")
                    known.radio_id = RadioId(wire.read(answer.body, wire.Pong).radio_id)
                    return Greeting(peer=peer, radio_id=known.radio_id, endpoint=endpoint)
                break
        return await self._introduce(endpoint)

    def met(self, peer: PeerId, endpoint: Endpoint) -> None:
        """Remember where a peer is that made contact by itself: the next request to it goes there."""
        known = self._peers.get(peer)
        self._places.pop(peer, None)
        if known is None or known.endpoint != endpoint:
            self._places[peer] = endpoint
            if len(self._places) > self._limits.sessions:
                self._places.popitem(last=False)

    async def send(self, peer: PeerId, message: bytes) -> None:
        """See `device_agent.link.Link`."""
        answer = await self._ask(peer, "POST", "/v1/messages", body=message)
        if answer.status in _BUSY:
            raise LinkLost(f"{peer} takes no messages now")
        if answer.status != HTTPStatus.NO_CONTENT:
            raise PeerFault(f"{peer} answers a message with {_shown(answer)}")

    async def fetch(self, peer: PeerId, digest: bytes, *, max_bytes: int) -> bytes:
        """See `device_agent.link.Link`. A transfer that is cut goes on where it was, also after a restart."""
        async with self._taking:
            packed = await self._packed(peer, digest.hex(), max_bytes)
        try:
            return await asyncio.to_thread(unpack, packed, max_bytes)
        except MalformedSnapshot as error:
            raise PeerFault(f"{peer} sends what cannot be unpacked: {error}") from error

    async def _packed(self, peer: PeerId, digest: str, max_bytes: int) -> bytearray:
        give_up_s = time.monotonic() + self._limits.patience_s
        part: Part | None = None
        try:
            while True:
                try:
                    if part is None:
                        part = await self._begin(peer, digest, max_bytes)
                        deadline_s = time.monotonic() + self._limits.longest_s(part.size_bytes)
                    before = part.received
                    if before < part.size_bytes:
                        await self._receive(peer, digest, part, deadline_s)
                    return part.finish()
                except LinkLost:
                    now_s = time.monotonic()
                    if part is not None and part.received > before:
                        give_up_s = now_s + self._limits.patience_s
                    if now_s + _AGAIN_S > (give_up_s if part is None else min(give_up_s, deadline_s)):
                        raise
                await asyncio.sleep(_AGAIN_S)
        finally:
            if part is not None:
                self._parts.done(part)

    async def _begin(self, peer: PeerId, digest: str, max_bytes: int) -> Part:
        nonce = self._caller.nonce()
        path = f"/v1/snapshots/{digest}/manifest?nonce={nonce}"
        answer = await self._ask(peer, "GET", path, patience_s=self._limits.patience_s)
        if answer.status in _BUSY:
            raise LinkLost(f"{peer} is busy")
        if answer.status != HTTPStatus.OK:
            raise PeerFault(f"{peer} does not hand out {digest}: {_shown(answer)}")
        manifest = wire.read(answer.body, wire.Manifest)
        text = wire.manifest_text(manifest, account=self._caller.address)
        wire.check_signature(self._peers[peer].key, text, bytes.fromhex(manifest.signature))
        if (manifest.digest, manifest.nonce) != (digest, nonce):
            raise PeerFault(f"{peer} shows the manifest of something else")
        if manifest.size_bytes > max_bytes:
            raise PeerFault(f"{peer} sends {manifest.size_bytes} bytes, more than {max_bytes}")
        return self._parts.open(digest=digest, sha256=manifest.sha256, size_bytes=manifest.size_bytes)

    async def _receive(self, peer: PeerId, digest: str, part: Part, deadline_s: float) -> None:
        """Take the rest of a part over a connection of its own. Raises `LinkLost` if the peer is busy."""
        known = await self._reached(peer)
        connection = Connection(known.endpoint, self._limits)
        path = f"/v1/snapshots/{digest}"
        status = await self._in_thread(
            connection,
            lambda: _download(connection, known, path, part, deadline_s),
            deadline_s - time.monotonic() + self._limits.idle_s,
        )
        if status in _BUSY:
            raise LinkLost(f"{peer} is busy with other transfers")
        if status == HTTPStatus.UNAUTHORIZED:
            await self._introduce(known.endpoint)
            raise LinkLost(f"{peer} had forgotten this device")
        if status != HTTPStatus.PARTIAL_CONTENT:
            raise PeerFault(f"{peer} answers {status} for the rest of {digest}")

    async def _ask(
        self, peer: PeerId, method: str, path: str, *, body: bytes = b"", patience_s: float | None = None
    ) -> Answer:
        """Ask a peer that was greeted or that greeted; say hello again if it has forgotten."""
        for again in (False, True):
            known = await self._reached(peer)
            call = partial(self._call, known, method, path, body)
            async with known.lock:
                answer = await self._in_thread(known.connection, call, patience_s or 2 * self._limits.answer_s)
            if answer.status != HTTPStatus.UNAUTHORIZED:
                break
            if again or (await self._introduce(known.endpoint)).peer != peer:
                raise LinkLost(f"{peer} is not at {known.endpoint} any more")
        return answer

    def _call(self, known: _Peer, method: str, path: str, body: bytes) -> Answer:
        """Ask over the kept connection; over a new one if it was closed in between."""
        connection = known.connection
        options: dict[str, Any] = {"body": body, "headers": known.headers, "max_bytes": wire.MAX_ANSWER_BYTES}
        if connection.is_open:
            with suppress(LinkLost):
                return connection.ask(method, path, **options)
        _open(connection, known)
        return connection.ask(method, path, **options)

    async def _introduce(self, endpoint: Endpoint) -> Greeting:
        """Say who this device is, and learn who answers."""
        connection = Connection(endpoint, self._limits)
        heard = self._places.copy()
        try:
            peer, known = await self._in_thread(
                connection, lambda: self._say_hello(connection, endpoint), 2 * self._limits.answer_s
            )
        except BaseException:
            connection.close()
            raise
        old = self._peers.pop(peer, None)
        if old is not None:
            old.connection.close()
        self._peers[peer] = known
        if self._places.get(peer) in (endpoint, heard.get(peer)):  # else it made contact from elsewhere meanwhile
            self._places.pop(peer, None)
        while len(self._peers) > self._limits.sessions:
            _, oldest = self._peers.popitem(last=False)
            oldest.connection.close()
        return Greeting(peer=peer, radio_id=known.radio_id, endpoint=endpoint)

    def _say_hello(self, connection: Connection, endpoint: Endpoint) -> tuple[PeerId, _Peer]:
        key = connection.open()
        challenge = wire.read(
            _expected(connection.ask("GET", "/v1/challenge", max_bytes=wire.MAX_ANSWER_BYTES)), wire.Challenge
        )
        peer = self._caller.vouched(challenge.vouching, key)
        if peer == self._caller.address:
            raise AccountShared(
                f"{endpoint} is this device, or another one with this device's account: make keys of its own for it"
            )
        hello = wire.write(self._caller.hello(challenge, key))
        answer = connection.ask("POST", "/v1/hello", body=hello, max_bytes=wire.MAX_ANSWER_BYTES)
        welcome = wire.read(_expected(answer), wire.Welcome)
        known = _Peer(
            endpoint=endpoint,
            key=key,
            token=welcome.token,
            radio_id=RadioId(welcome.radio_id),
            connection=connection,
        )
        return peer, known

    async def _in_thread(self, connection: Connection, call: Callable[[], T], patience_s: float) -> T:
        """Let a thread do what blocks; end its connection if it takes too long or is not wanted any more."""
        loop = asyncio.get_running_loop()
        try:
            working = loop.run_in_executor(self._threads, call)
        except RuntimeError as error:
            raise LinkLost("the link is closed") from error
        try:
            return await asyncio.wait_for(asyncio.shield(working), patience_s)
        except (TimeoutError, asyncio.CancelledError) as error:
            connection.abort()
            working.add_done_callback(_forget)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise LinkLost("no answer in time") from error

    async def _reached(self, peer: PeerId) -> _Peer:
        """Return a peer that this device said hello to, where it was heard of last."""
        place = self._places.get(peer)
        if place is not None:
            found = await self._introduce(place)
            if found.peer != peer:
                raise LinkLost(f"{peer} is not at {place} any more")
        known = self._peers.get(peer)
        if known is None:
            raise LinkLost(f"{peer} is not known where it is")
        return known


def _open(connection: Connection, known: _Peer) -> None:
    connection.close()
    if connection.open() != known.key:
        connection.close()
        raise LinkLost(f"another device answers at {known.endpoint}")


def _download(connection: Connection, known: _Peer, path: str, part: Part, deadline_s: float) -> int:
    try:
        _open(connection, known)
        return connection.download(path, part, deadline_s=deadline_s, headers=known.headers)
    finally:
        connection.close()


def _expected(answer: Answer) -> bytes:
    if answer.status != HTTPStatus.OK:
        raise PeerFault(_shown(answer))
    return answer.body


def _shown(answer: Answer) -> str:
    """A peer's answer for people: what it says is text, and not too much of it."""
    return f"{answer.status} {answer.body[:80].decode(errors='replace')!r}"


def _forget(done: asyncio.Future[Any]) -> None:
    """Look at what nobody waits for any more, so that it is not complained about."""
    if not done.cancelled():
        done.exception()
