"""A server on loopback, run by a thread of the test."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.config import ConnectionSettings
from gateway.serving import Server


class Served:
    """Where it listens, and what ends it."""

    def __init__(self, app: Any, context: ssl.SSLContext | None, settings: ConnectionSettings, quick: Any) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._server = Server(
            app, self._listener, settings=settings, max_body_bytes=4 << 20, context=context, quick=quick
        )
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        self.thread = self._thread.name
        self.address: tuple[str, int] = self._listener.getsockname()
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.address[1]}"

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)

    def stop(self) -> None:
        self._server.stop()
        self._thread.join()
        self._listener.close()


@contextmanager
def served(
    app: Any, context: ssl.SSLContext | None = None, *, quick: Any = lambda _: False, **settings: Any
) -> Iterator[Served]:
    one = Served(app, context, ConnectionSettings(**settings), quick)
    try:
        yield one
    finally:
        one.stop()


def ended(one: socket.socket) -> bool:
    """Whether the other side closed it, whatever it said before."""
    try:
        while one.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def everything(one: socket.socket) -> bytes:
    """What comes until the other side ends."""
    return b"".join(iter(lambda: one.recv(65_536), b""))
