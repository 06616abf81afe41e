"""Serves an application over HTTP, with or without TLS: a greenlet a connection. Why so: `serving.md`.

What is bounded: the connections, those in a handshake among them; how long a handshake takes; how long a connection may
be silent, or take nothing of its answer; what a request may bring; and how many requests the application works at.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.threadpool import ThreadPool
from waitress.adjustments import Adjustments  # type: ignore[import-untyped]

from gateway.config import ConnectionSettings
from gateway.connection import Connection, Service
from gateway.cooperation import shared_thread
from gateway.waiting import MOST_WAITING

if TYPE_CHECKING:
    import ssl

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)

AT_WORK: Final = MOST_WAITING + 8
"""Requests that the application works at in threads. However many of them wait, there is room for others."""
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
        quick: Callable[[WSGIEnvironment], bool],
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Do nothing yet.

        Args:
            app: what answers.
            listener: where.
            settings: what connections may use up.
            max_body_bytes: of a request. A body above half a megabyte lies in a file until it is whole.
            quick: whether a request waits for nothing but by `elsewhere`; any other is answered by another thread.
            context: certificate and key, of gevent's kind; None: plain HTTP.
        """
        host, port = listener.getsockname()[:2]
        self._service = Service(
            application=app,
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
        self._quick = quick
        self._open: set[Connection] = set()
        self._stopping = False

    def run(self) -> None:
        """Take connections until `stop`; return when what is under way is answered, or after some seconds."""
        threads = ThreadPool(AT_WORK)
        application = _where_it_holds_up_nobody(self._service.application, self._quick, threads)
        service = replace(self._service, application=application)
        listener = gevent.socket.socket(fileno=self._listener.fileno())
        try:
            with shared_thread(AT_WORK):
                while not self._stopping:
                    try:
                        connection, address = listener.accept()
                    except OSError as error:
                        if not self._stopping:
                            _log.warning("cannot take a connection: %s", error.strerror)
                            gevent.sleep(_OUT_OF_FILES_S)
                        continue
                    self._take(service, connection, address)
                self._end()
        finally:
            threads.kill()
            listener.detach()  # whoever made it closes it

    def stop(self) -> None:
        """Have `run` return soon. No connection is taken any more."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)

    def _take(self, service: Service, connection: gevent.socket.socket, address: tuple[Any, ...]) -> None:
        if len(self._open) >= service.settings.most:
            connection.close()
            return
        one = Connection(service, connection, address, over=self._open.discard)
        self._open.add(one)
        one.start()

    def _end(self) -> None:
        left = list(self._open)
        for one in left:
            one.shut(socket.SHUT_RD)
        end_s = time.monotonic() + _GRACE_S
        for one in left:
            one.join(max(0.0, end_s - time.monotonic()))
        for one in left:
            one.shut(socket.SHUT_RDWR)


def _where_it_holds_up_nobody(
    app: WSGIApplication, quick: Callable[[WSGIEnvironment], bool], threads: ThreadPool
) -> WSGIApplication:
    """Let an application answer in this thread what it answers quickly, and the rest in others.

    Not in those of `elsewhere`: they may wait for something that is to be done there.
    """

    def answered(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if quick(environ):
            return app(environ, start_response)
        told: Iterable[bytes] = threads.apply(app, (environ, start_response))
        return told

    return answered
