"""What an application answers goes over the wire as it was given, and in one piece where it is there as a whole."""

import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from waitress import wasyncore

from gateway.serving import open_server

ANSWERS: dict[str, tuple[str, list[tuple[str, str]], list[bytes]]] = {
    "/whole": ("202 ACCEPTED", [("Content-Length", "5")], [b"whole"]),
    "/nothing": ("200 OK", [("Content-Length", "0")], []),
    "/none": ("204 NO CONTENT", [], []),
    "/parts": ("200 OK", [("Content-Length", "6")], [b"in ", b"two"]),
    "/unknown": ("200 OK", [], [b"of no ", b"known length"]),
    "/large": ("200 OK", [("Content-Length", str(3 << 20))], [bytes(3 << 20)]),
}


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        status, headers, body = ANSWERS[environ["PATH_INFO"]]
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body

    connections: dict[int, object] = {}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = open_server(app, listener, connections, max_body_bytes=1 << 20)
        thread = threading.Thread(target=server.run)
        thread.start()
        yield listener.getsockname()
        server.task_dispatcher.shutdown()
        server.trigger.pull_trigger(lambda: wasyncore.close_all(connections, ignore_all=True))
        thread.join()


def test_each_answer_arrives_as_it_was_given_over_one_connection(address: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*address, timeout=10)
    for method in ("GET", "HEAD", "GET"):
        for path, (status, headers, body) in ANSWERS.items():
            connection.request(method, path)
            answer = connection.getresponse()
            assert f"{answer.status} {answer.reason}" == status
            assert answer.read() == (b"" if method == "HEAD" else b"".join(body))
            for name, value in headers:
                assert answer.headers[name] == value
    connection.close()


def test_a_whole_answer_comes_in_one_piece(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"GET /whole HTTP/1.1\r\nHost: here\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 202 ACCEPTED\r\n")
    assert answer.endswith(b"\r\n\r\nwhole")
