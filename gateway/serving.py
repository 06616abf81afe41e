"""Puts an application behind waitress, whose own refusals are told as the application tells its own."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Final

from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]
from waitress.task import ErrorTask, WSGITask  # type: ignore[import-untyped]

from gateway.answering import code_of, error_body
from gateway.waiting import MOST_WAITING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

THREADS: Final = MOST_WAITING + 8
"""However many requests wait, some threads are left for the others."""
_CONNECTIONS: Final = 1_000


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]
    """Answers what is no HTTP, or too much of it."""

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


class _Channel(HTTPChannel):  # type: ignore[misc]
    task_class = _WholeTask
    error_task_class = _JsonErrorTask


def open_server(
    app: WSGIApplication, listener: socket.socket, connections: dict[int, object], *, max_body_bytes: int
) -> Any:
    """Return waitress's server of an application on a listening socket; its `run` returns at an interrupt.

    Args:
        app: what answers.
        listener: where.
        connections: where the server keeps its sockets; who closes them all ends it.
        max_body_bytes: of a request. A body above half a megabyte lies in a file until it is whole.
    """
    server = create_server(
        app,
        map=connections,
        sockets=[listener],
        threads=THREADS,
        connection_limit=_CONNECTIONS,
        max_request_body_size=max_body_bytes,
        ident="idml-gateway",
    )
    server.channel_class = _Channel
    return server
