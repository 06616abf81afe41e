"""Speaks TLS 1.3 with the devices and plain HTTP with the server behind it, byte by byte and no more.

Why it is here: `tls.md`. Each connection costs one task, no thread. What is bounded: the number of connections, those
in a handshake among them; how long a handshake takes; and how long a connection may be silent in both directions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from gateway.config import TlsSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)
_CHUNK_BYTES: Final = 64 * 1024
_GRACE_S: Final = 5.0
"""For answers on their way when the front is stopped."""
_OUT_OF_FILES_S: Final = 0.2


class TlsFront:
    """A listening socket with TLS before a plain one. `start`, and `stop` when the server behind has ended."""

    def __init__(
        self, listener: socket.socket, *, behind: tuple[str, int], context: ssl.SSLContext, settings: TlsSettings
    ) -> None:
        """Do nothing yet.

        Args:
            listener: where devices connect.
            behind: address of the server that answers, on this machine.
            context: certificate and key.
            settings: bounds.
        """
        self._listener = listener
        self._behind = behind
        self._context = context
        self._settings = settings
        self._peers: dict[int, str] = {}
        self._open: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="tls")

    def start(self) -> None:
        """Begin to take connections."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections, let answers on their way arrive, and close the rest."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __enter__(self) -> TlsFront:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def before(self, app: WSGIApplication) -> WSGIApplication:
        """Return an application that is told the device's address in place of this front's."""

        def told(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            peer = self._peers.get(int(environ.get("REMOTE_PORT") or 0))
            if peer is not None:
                environ["REMOTE_ADDR"] = peer
                environ["wsgi.url_scheme"] = "https"
            return app(environ, start_response)

        return told

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._listener.setblocking(False)
        taking = asyncio.create_task(self._take_all())
        await self._stop.wait()
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await taking
        if self._open:
            await asyncio.wait(self._open, timeout=_GRACE_S)
        for one in self._open:
            one.cancel()
        if self._open:
            await asyncio.wait(self._open)
        await asyncio.sleep(0)  # what was aborted is closed in the loop's next turn

    async def _take_all(self) -> None:
        while True:
            try:
                connection, address = await self._loop.sock_accept(self._listener)
            except OSError as error:
                _log.warning("cannot take a connection: %s", error.strerror)
                await asyncio.sleep(_OUT_OF_FILES_S)
                continue
            if len(self._open) >= self._settings.max_connections:
                connection.close()
                continue
            task = asyncio.create_task(self._serve_one(connection, str(address[0])))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _serve_one(self, connection: socket.socket, peer: str) -> None:
        try:
            device_in, device_out = await self._shake_hands(connection)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            _log.debug("no TLS with %s: %s", peer, error)
            connection.close()
            return
        try:
            await self._serve_behind(device_in, device_out, peer)
        finally:
            await _close(device_out)

    async def _serve_behind(self, device_in: asyncio.StreamReader, device_out: asyncio.StreamWriter, peer: str) -> None:
        try:
            app_in, app_out = await asyncio.open_connection(*self._behind)
        except OSError as error:
            _log.warning("the server behind takes no connection: %s", error.strerror)
            return
        port: int = app_out.get_extra_info("sockname")[1]
        self._peers[port] = peer
        try:
            await self._carry((device_in, app_out), (app_in, device_out))
        finally:
            del self._peers[port]
            app_out.transport.abort()

    async def _shake_hands(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader = asyncio.StreamReader(limit=_CHUNK_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=self._context,
            ssl_handshake_timeout=self._settings.handshake_s,
            ssl_shutdown_timeout=_GRACE_S,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def _carry(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Carry bytes both ways until one side ends or both are silent for too long."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._settings.idle_s) as limit:
                tasks = [asyncio.create_task(self._carry_one(*way, limit)) for way in ways]
                try:
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for one in done:
                        one.result()
                finally:
                    for one in tasks:
                        one.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: asyncio.Timeout
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            limit.reschedule(self._loop.time() + self._settings.idle_s)
            writer.write(data)
            await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    """Say good-bye; who does not answer is left after a while."""
    try:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    finally:
        writer.transport.abort()


def plain_address(listener: socket.socket) -> tuple[str, int]:
    """Return where a listening socket can be reached from this machine."""
    address: Any = listener.getsockname()
    return address[0], address[1]
