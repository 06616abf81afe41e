"""One connection and the greenlet that serves it, on waitress's parser and tasks."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gevent import Greenlet, socket, ssl
from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.buffers import ReadOnlyFileBasedBuffer  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser  # type: ignore[import-untyped]
from waitress.task import ErrorTask, Task, WSGITask  # type: ignore[import-untyped]
from waitress.utilities import InternalServerError  # type: ignore[import-untyped]

from gateway.answering import code_of, error_body
from gateway.config import ConnectionSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_log = logging.getLogger(__name__)
_CHUNK_BYTES: Final = 64 * 1024
_LINGER_S: Final = 2.0
"""For who is told that it is over to stop sending: what is unread when a connection is closed may undo the answer."""
_LINGER_BYTES: Final = 8 << 20
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What all connections have in common; waitress's tasks know it as their server.

    Attributes:
        application: what answers.
        server_name: where it listens.
        effective_port: where it listens.
        adj: waitress's settings.
        settings: what connections may use up.
        context: certificate and key, of gevent's kind; None: plain HTTP.
    """

    application: WSGIApplication
    server_name: str
    effective_port: int
    adj: Adjustments
    settings: ConnectionSettings
    context: ssl.SSLContext | None


class Connection:
    """A client's connection. Waitress's tasks know it as their channel."""

    def __init__(
        self,
        service: Service,
        plain: socket.socket,
        address: tuple[Any, ...],
        *,
        over: Callable[[Connection], object],
    ) -> None:
        """Do nothing yet.

        Args:
            service: what answers, and what connections may use up.
            plain: the socket.
            address: of the client.
            over: called when it is over.
        """
        self.server = service
        self.adj = service.adj
        self.addr = address
        self._over = over
        self._socket = plain
        self._rest = b""
        """What was received beyond the request before."""
        self._greenlet = Greenlet(self._run)

    def start(self) -> None:
        """Begin to serve it."""
        self._greenlet.start()

    def join(self, wait_s: float) -> None:
        """Wait until it is over, so long at the most."""
        self._greenlet.join(wait_s)

    def shut(self, how: int) -> None:
        """End one direction, or both: whoever waits for it goes on, and finds it ended."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)  # not `SSLSocket.shutdown`, after which nothing is encrypted

    def write_soon(self, data: bytes | ReadOnlyFileBasedBuffer) -> int:
        """Send all of it. Raises `_Gone`."""
        sent = 0
        for piece in _pieces(data):
            view = memoryview(piece)
            try:
                while view:
                    view = view[self._socket.send(view[:_CHUNK_BYTES]) :]
            except OSError as error:
                raise _Gone from error
            sent += len(piece)
        return sent

    def check_client_disconnected(self) -> bool:
        """A part of waitress's interface; it shows at the next write."""
        return False

    def _run(self) -> None:
        try:
            if self._ready():
                while (request := self._next_request()) is not None:
                    if not self._answered(request):
                        self._take_leave()
                        break
        except (OSError, _Gone) as error:
            _log.debug("%s: %s", self.addr[0], error)
        finally:
            self._over(self)
            self._socket.close()

    def _ready(self) -> bool:
        """Shake hands; return whether there is anyone to be served."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings, context = self.server.settings, self.server.context
        if context is not None:
            self._socket = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
            self._socket.settimeout(settings.handshake_s)
            try:
                self._socket.do_handshake()
            except OSError as error:  # ssl.SSLError is one
                _log.debug("no TLS with %s: %s", self.addr[0], error)
                return False
        self._socket.settimeout(settings.idle_s)
        return True

    def _next_request(self) -> HTTPRequestParser | None:
        """Return the next request as soon as it is whole or wrong, None if none comes any more."""
        request = HTTPRequestParser(self.adj)
        try:
            while not request.completed:
                if not self._rest:
                    self._rest = self._socket.recv(_CHUNK_BYTES)
                    if not self._rest:
                        request.close()
                        return None
                self._rest = self._rest[request.received(self._rest) :]
                if request.empty:
                    request = HTTPRequestParser(self.adj)
                elif request.expect_continue and request.headers_finished and not request.completed:
                    request.expect_continue = False
                    self.write_soon(_CONTINUE)
        except BaseException:
            request.close()
            raise
        return request

    def _answered(self, request: HTTPRequestParser) -> bool:
        """Answer a request; return whether the connection goes on. Raises `_Gone`."""
        task: Task = _ErrorTask(self, request) if request.error else _WholeTask(self, request)
        try:
            task.service()
        except _Gone:
            raise
        except Exception:  # whatever the application raised ends this answer, not the server
            _log.exception("unexpected fault in an answer")
            task.close_on_finish = True
            if not task.wrote_header:
                request.error = InternalServerError("the gateway failed on this request; its log says why")
                task = _ErrorTask(self, request)
                task.service()
        finally:
            request.close()
        return not task.close_on_finish

    def _take_leave(self) -> None:
        """Let the answer arrive: say that it was the last, and read what still comes until the other side ends too."""
        if isinstance(self._socket, ssl.SSLSocket):
            self._socket.settimeout(0)
            with contextlib.suppress(OSError, ValueError):  # it wants the other side's good-bye at once, too
                self._socket.unwrap()
        socket.socket.shutdown(self._socket, socket.SHUT_WR)
        self._socket.settimeout(_LINGER_S)
        left_bytes, end_s = _LINGER_BYTES, time.monotonic() + _LINGER_S
        while left_bytes > 0 and time.monotonic() < end_s:
            dropped = socket.socket.recv(self._socket, _CHUNK_BYTES)  # not `SSLSocket.recv`: nobody reads it
            if not dropped:
                break
            left_bytes -= len(dropped)


class _Gone(Exception):
    """The other side takes no answer any more."""


def _pieces(data: bytes | ReadOnlyFileBasedBuffer) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    try:
        while piece := data.get(_CHUNK_BYTES, skip=True):
            yield piece
    finally:
        data.close()


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Answers what is no HTTP, or too much of it, as the application tells its own errors."""

    def execute(self) -> None:
        error = self.request.error
        body = json.dumps(error_body(code_of(error.code), str(error.body), retry=error.code >= 500)).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _WholeTask(WSGITask):  # type: ignore[misc]
    """Sends an answer that is there as a whole in one piece, not its headers first: most are some hundred bytes."""

    def write(self, data: bytes) -> None:
        begun: bool = self.wrote_header  # type: ignore[has-type]
        if begun or not self.complete or not self.has_body or self.content_length != len(data):
            super().write(data)
            return
        headers = self.build_response_header()
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(headers + data)
