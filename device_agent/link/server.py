"""The answering side of the link: HTTPS for peers, each of which costs a bounded amount of everything."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Protocol
from weakref import WeakSet

from aiohttp import web
from aiohttp.http import HttpProcessingError

from device_agent.clock import Clock
from device_agent.errors import AgentError, PeerFault
from device_agent.link import Deliver, Greeting, Serve, wire
from device_agent.link.limits import Limits
from device_agent.link.packed import PackedSnapshots
from device_agent.link.sessions import Session, Sessions
from device_agent.messages import MAX_MESSAGE_BYTES
from device_agent.observation import Observe
from device_agent.radio import PeerId

_BLOCK_BYTES = 256 << 10
_MAX_LINE_BYTES = 2048
_MAX_HEADERS = 32
_BEARER = "Bearer "
_SESSION: web.RequestKey[Session] = web.RequestKey("session", Session)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a fault is this device's: what strangers say wrongly is answered, and would fill its disk."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_log = logging.getLogger(__name__)
_log.addFilter(_is_ours)


class Host(Protocol):
    """Who this device is, and who takes what arrives."""

    deliver: Deliver
    serve: Serve

    def challenge(self, nonce: str) -> wire.Challenge:
        """Say who this device is."""
        ...

    def met(self, hello: wire.Hello, host: str) -> Greeting:
        """Take a peer's hello. Raises `PeerFault` if it is not who it says."""
        ...

    def radio_id(self) -> str:
        """Return what this device shows on its radios."""
        ...

    def manifest(self, peer: PeerId, *, digest: str, size_bytes: int, sha256: str, nonce: str) -> wire.Manifest:
        """Sign a manifest for a peer."""
        ...


class Server:
    """Listens, answers, and shuts the door on who asks for too much."""

    def __init__(
        self,
        host: Host,
        *,
        context: ssl.SSLContext,
        sessions: Sessions,
        limits: Limits,
        clock: Clock,
        observe: Observe,
    ) -> None:
        self._host = host
        self._context = context
        self._sessions = sessions
        self._limits = limits
        self._clock = clock
        self._observe = observe
        self._packed = PackedSnapshots()
        self._transfers = asyncio.Semaphore(limits.transfers)
        self._known: WeakSet[asyncio.BaseTransport] = WeakSet()
        self._open: dict[asyncio.BaseTransport, str] = {}
        self._opening: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._listening: list[socket.socket] = []

    async def start(self, listening: socket.socket) -> None:
        """Answer on a socket that is bound; it is the server's from now on."""
        application = web.Application(middlewares=[self._answered], client_max_size=MAX_MESSAGE_BYTES)
        routes: list[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]] = [
            ("GET", "/v1/challenge", self._challenge),
            ("POST", "/v1/hello", self._hello),
            ("GET", "/v1/ping", self._ping),
            ("POST", "/v1/messages", self._message),
            ("GET", "/v1/snapshots/{digest:[0-9a-f]{64}}/manifest", self._manifest),
            ("GET", "/v1/snapshots/{digest:[0-9a-f]{64}}", self._snapshot),
            ("*", "/{anything:.*}", _nothing),
        ]
        for method, path, handler in routes:
            application.router.add_route(method, path, handler, expect_handler=_expected)
        self._runner = web.AppRunner(
            application,
            logger=_log,
            access_log=None,
            auto_decompress=False,  # what is unpacked has no bound
            keepalive_timeout=75,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
            max_headers=_MAX_HEADERS,
            lingering_time=1,
        )
        await self._runner.setup()
        listening.setblocking(False)
        listening.listen(self._limits.connections)
        self._listening.append(listening)
        self._spawn(self._accept(listening))

    async def close(self) -> None:
        """Hang up on everybody."""
        for task in list(self._tasks):
            task.cancel()
        for one in self._listening:
            one.close()
        for transport in list(self._open):
            transport.abort()  # type: ignore[attr-defined]
        if self._runner is not None:
            await self._runner.cleanup()
        self._packed.forget()

    # -- connections -----------------------------------------------------------------------------------------------

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:  # too many open files: the others go on
                self._observe("fault", where="link", reason=str(error))
                await asyncio.sleep(1)
                continue
            host = str(address[0])
            self._open = {one: of for one, of in self._open.items() if not one.is_closing()}
            of_host = self._opening[host] + sum(of == host for of in self._open.values())
            all_open = self._opening.total() + len(self._open)
            if of_host >= self._limits.connections_per_host or all_open >= self._limits.connections:
                accepted.close()
                continue
            self._opening[host] += 1
            self._spawn(self._shake_hands(accepted, host))

    async def _shake_hands(self, accepted: socket.socket, host: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._runner is None or self._runner.server is None:
                raise ConnectionError("closed")
            transport, _ = await loop.connect_accepted_socket(
                self._runner.server,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._limits.handshake_s,
                ssl_shutdown_timeout=1,
            )
        except (OSError, TimeoutError):  # a scanner, or one that pins another key
            accepted.close()
            return
        finally:
            self._opening[host] -= 1
            if not self._opening[host]:
                del self._opening[host]
        self._open[transport] = host
        loop.call_later(self._limits.unknown_s, self._hang_up_on_a_stranger, transport)

    def _hang_up_on_a_stranger(self, transport: asyncio.Transport) -> None:
        if transport not in self._known:
            transport.abort()

    def _spawn(self, life: Awaitable[None]) -> None:
        task = asyncio.ensure_future(life)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _knows(self, request: web.Request) -> None:
        if request.transport is not None:
            self._known.add(request.transport)

    # -- requests --------------------------------------------------------------------------------------------------

    @web.middleware
    async def _answered(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Find out who asks; answer a fault of the peer's with a line of text."""
        if request.path not in ("/v1/challenge", "/v1/hello"):
            token = request.headers.get("Authorization", "").removeprefix(_BEARER)
            session = self._sessions.get(token, self._clock.monotonic_s())
            if session is None:
                return _refused(HTTPStatus.UNAUTHORIZED, "say hello first")
            request[_SESSION] = session
            self._knows(request)
        try:
            return await handler(request)
        except PeerFault as fault:
            return _refused(HTTPStatus.BAD_REQUEST, str(fault))
        except TimeoutError:
            return _refused(HTTPStatus.REQUEST_TIMEOUT, "too slow")
        except web.HTTPException as error:
            return _refused(HTTPStatus(error.status), error.reason)
        except AgentError as error:
            self._observe("fault", where="link", reason=str(error))
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "not now")

    async def _challenge(self, _: web.Request) -> web.Response:
        return _said(self._host.challenge(self._sessions.challenge(self._clock.monotonic_s())))

    async def _hello(self, request: web.Request) -> web.Response:
        hello = wire.read(await self._body(request), wire.Hello)
        now_s = self._clock.monotonic_s()
        if not self._sessions.answered(hello.nonce, now_s):
            raise PeerFault("the nonce is not one to be answered")
        greeting = self._host.met(hello, _host(request))
        self._knows(request)
        token = self._sessions.welcome(greeting.peer, now_s)
        return _said(wire.Welcome(token=token, radio_id=self._host.radio_id()))

    async def _ping(self, _: web.Request) -> web.Response:
        return _said(wire.Pong(radio_id=self._host.radio_id()))

    async def _message(self, request: web.Request) -> web.Response:
        session = request[_SESSION]
        if not self._sessions.may_speak(session, self._clock.monotonic_s()):
            return _refused(HTTPStatus.TOO_MANY_REQUESTS, "too many messages")
        self._host.deliver(session.peer, await self._body(request))
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _body(self, request: web.Request) -> bytes:
        if (request.content_length or 0) > MAX_MESSAGE_BYTES:
            raise PeerFault(f"a body of {request.content_length} bytes; at most {MAX_MESSAGE_BYTES} are read")
        try:
            async with asyncio.timeout(self._limits.answer_s):
                return await request.read()
        except (ConnectionError, web.RequestPayloadError, HttpProcessingError) as error:
            raise PeerFault("the body breaks off") from error

    async def _manifest(self, request: web.Request) -> web.Response:
        peer, digest = request[_SESSION].peer, request.match_info["digest"]
        nonce = request.query.get("nonce", "")
        if len(nonce) != 64 or not set(nonce) <= set("0123456789abcdef"):
            raise PeerFault("nonce must be 64 hex digits")
        snapshot = self._host.serve(peer, bytes.fromhex(digest))
        if snapshot is None:
            return _refused(HTTPStatus.FORBIDDEN, "not for you, or not now")
        packed = await self._packed.get(bytes.fromhex(digest), snapshot)
        if not self._sessions.may_have(peer, len(packed.data), self._clock.monotonic_s()):
            return _refused(HTTPStatus.TOO_MANY_REQUESTS, "more than one peer is given in an hour")
        return _said(
            self._host.manifest(peer, digest=digest, size_bytes=len(packed.data), sha256=packed.sha256, nonce=nonce)
        )

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        peer, digest = request[_SESSION].peer, bytes.fromhex(request.match_info["digest"])
        snapshot = self._host.serve(peer, digest)
        if snapshot is None:
            return _refused(HTTPStatus.FORBIDDEN, "not for you, or not now")
        if self._transfers.locked():
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "busy with other transfers")
        async with self._transfers:
            packed = await self._packed.get(digest, snapshot)
            size_bytes = len(packed.data)
            start = _start(request)
            if not 0 <= start < size_bytes:
                return _refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"there are {size_bytes} bytes")
            return await self._send(request, packed.data, start)

    async def _send(self, request: web.Request, data: bytes, start: int) -> web.StreamResponse:
        size_bytes = len(data)
        response = web.StreamResponse(
            status=HTTPStatus.PARTIAL_CONTENT,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(size_bytes - start),
                "Content-Range": f"bytes {start}-{size_bytes - 1}/{size_bytes}",
            },
        )
        view = memoryview(data)
        try:
            async with asyncio.timeout(self._limits.longest_s(size_bytes - start)):
                await response.prepare(request)
                for begin in range(start, size_bytes, _BLOCK_BYTES):
                    async with asyncio.timeout(self._limits.idle_s):
                        await response.write(view[begin : begin + _BLOCK_BYTES])
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # it will ask for the rest
        return response


async def _nothing(_: web.Request) -> web.Response:
    raise PeerFault("there is nothing at this path, or not by this method")


async def _expected(_: web.Request) -> None:
    """Go on whatever a request expects: aiohttp quotes it in its refusal, and not all that may stand there is text."""


def _host(request: web.Request) -> str:
    """Return the peer's address: IPv4 as such, IPv6 of one link with that link."""
    name = None if request.transport is None else request.transport.get_extra_info("peername")
    if name is None:
        raise PeerFault("the connection is closed")
    address = ip_address(name[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{address}%{name[3]}" if address.is_link_local and len(name) > 3 else str(address)


def _start(request: web.Request) -> int:
    """Return where the range begins that is asked for: all of them go on to the end."""
    try:
        asked = request.http_range
    except ValueError:
        return -1
    return -1 if asked.stop is not None else asked.start or 0


def _said(said: wire.Challenge | wire.Welcome | wire.Pong | wire.Manifest) -> web.Response:
    return web.Response(body=wire.write(said), content_type="application/json")


def _refused(status: HTTPStatus, reason: str) -> web.Response:
    with suppress(UnicodeError):
        return web.Response(status=status, text=" ".join(reason.split())[:200])
    return web.Response(status=status)
