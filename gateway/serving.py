"""Serves an application over HTTP, with or without TLS: one thread a connection. Why so: `serving.md`.

What is bounded: the connections, those in a handshake among them; how long a handshake takes; how long a connection may
be silent, or take nothing of its answer; what a request may bring; and how many requests the application works at.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from waitress.adjustments import Adjustments  # type: ignore[import-untyped]

from gateway.config import ConnectionSettings
from gateway.connection import Connection, Service
from gateway.waiting import MOST_WAITING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)

AT_WORK: Final = MOST_WAITING + 8
"""Requests that the application works at. However many of them wait, there is room for others."""
_GRACE_S: Final = 5.0
"""For answers on their way at the end."""
_OUT_OF_FILES_S: Final = 0.2


class Server:
    """An application on a listening socket: `run` in one thread, `stop` from any, also from a signal's handler."""

    def __init__(
        self,
        app: WSGIApplication,
        listener: socket.socket,
        *,
        settings: ConnectionSettings,
        max_body_bytes: int,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Do nothing yet.

        Args:
            app: what answers.
            listener: where.
            settings: what connections may use up.
            max_body_bytes: of a request. A body above half a megabyte lies in a file until it is whole.
            context: certificate and key; None: plain HTTP.
        """
        host, port = listener.getsockname()[:2]
        self._service = Service(
            application=_so_many_at_once(app, AT_WORK),
            server_name=host,
            effective_port=port,
            adj=Adjustments(
                ident="idml-gateway",
                max_request_body_size=max_body_bytes,
                url_scheme="http" if context is None else "https",
            ),
            settings=settings,
            context=context,
        )
        self._listener = listener
        self._open: set[Connection] = set()
        self._lock = threading.Lock()
        self._stopping = False

    def run(self) -> None:
        """Take connections until `stop`; return when what is under way is answered, or after some seconds."""
        while not self._stopping:
            try:
                connection, address = self._listener.accept()
            except OSError as error:
                if not self._stopping:
                    _log.warning("cannot take a connection: %s", error.strerror)
                    time.sleep(_OUT_OF_FILES_S)
                continue
            self._take(connection, address)
        self._end()

    def stop(self) -> None:
        """Have `run` return soon. No connection is taken any more."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)

    def _take(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        one = Connection(self._service, connection, address, over=self._left)
        with self._lock:
            full = len(self._open) >= self._service.settings.most
            if not full:
                self._open.add(one)
        if full:
            connection.close()
            return
        try:
            one.start()
        except RuntimeError as error:  # no thread to be had
            _log.warning("cannot serve a connection: %s", error)
            self._left(one)
            connection.close()

    def _left(self, one: Connection) -> None:
        with self._lock:
            self._open.discard(one)

    def _end(self) -> None:
        with self._lock:
            left = list(self._open)
        for one in left:
            one.shut(socket.SHUT_RD)
        end_s = time.monotonic() + _GRACE_S
        for one in left:
            one.join(max(0.0, end_s - time.monotonic()))
        for one in left:
            one.shut(socket.SHUT_RDWR)


def _so_many_at_once(app: WSGIApplication, most: int) -> WSGIApplication:
    """Let an application work at so many requests at once; to take in a body and to send an answer is not its work."""
    places = threading.BoundedSemaphore(most)

    def one_of_them(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with places:
            return app(environ, start_response)

    return one_of_them
