"""What an application answers goes over the wire as it was given; what is sent to it badly is bounded and refused."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from serving_rig import Served, ended, everything, served

from gateway.cooperation import elsewhere
from gateway.serving import AT_WORK

LARGE = bytes(range(256)) * 12_288  # 3 MiB
ANSWERS: dict[str, tuple[str, list[tuple[str, str]], list[bytes]]] = {
    "/whole": ("202 ACCEPTED", [("Content-Length", "5")], [b"whole"]),
    "/nothing": ("200 OK", [("Content-Length", "0")], []),
    "/none": ("204 NO CONTENT", [], []),
    "/parts": ("200 OK", [("Content-Length", "6")], [b"in ", b"two"]),
    "/unknown": ("200 OK", [], [b"of no ", b"known length"]),
    "/large": ("200 OK", [("Content-Length", str(len(LARGE)))], [LARGE]),
}
GET = b"GET %s HTTP/1.1\r\nHost: here\r\n\r\n"


class Tried:
    """An application to be served: it answers from the table, or as the path says."""

    def __init__(self, file: Path) -> None:
        file.write_bytes(LARGE)
        self.file = file
        self.inside = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.seen: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        self.seen.append(environ)
        if path == "/echo":
            body = environ["wsgi.input"].read()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        if path == "/file":
            start_response("200 OK", [("Content-Length", str(len(LARGE)))])
            return environ["wsgi.file_wrapper"](self.file.open("rb"), 1 << 16)
        if path == "/wait":
            self.inside.release()
            self.go_on.wait(20)
        elif path == "/fault":
            raise ValueError("a fault of the application")
        elif path == "/late":
            start_response("200 OK", [("Content-Length", "10")])
            return self.fails_late()
        status, headers, body = ANSWERS.get(path, ANSWERS["/whole"])
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body

    def fails_late(self) -> Iterator[bytes]:
        yield b"12345"
        raise OSError("the disk is gone")


@pytest.fixture
def tried(tmp_path: Path) -> Tried:
    return Tried(tmp_path / "large")


@pytest.fixture
def one(tried: Tried) -> Iterator[Served]:
    with served(tried) as it:
        yield it


def test_each_answer_arrives_as_it_was_given_over_one_connection(one: Served) -> None:
    connection = http.client.HTTPConnection(*one.address, timeout=10)
    for method in ("GET", "HEAD", "GET"):
        for path, (status, headers, body) in ANSWERS.items():
            connection.request(method, path)
            answer = connection.getresponse()
            assert f"{answer.status} {answer.reason}" == status
            assert answer.read() == (b"" if method == "HEAD" else b"".join(body))
            for name, value in headers:
                assert answer.headers[name] == value
    connection.close()


def test_a_file_arrives_whole_and_the_connection_goes_on(one: Served) -> None:
    connection = http.client.HTTPConnection(*one.address, timeout=10)
    for _ in range(2):
        connection.request("GET", "/file")
        assert connection.getresponse().read() == LARGE
    connection.close()


def test_a_whole_answer_comes_in_one_piece(one: Served) -> None:
    with one.connect() as connection:
        connection.sendall(GET % b"/whole")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 202 ACCEPTED\r\n")
    assert answer.endswith(b"\r\n\r\nwhole")


def test_requests_that_come_together_are_answered_in_their_order(one: Served) -> None:
    with one.connect() as connection:
        connection.sendall(GET % b"/whole" + b"\r\n" + GET % b"/parts" + b"GET /nothing HTTP/1.0\r\n\r\n")
        told = everything(connection)
    assert [told.count(line) for line in (b"202 ACCEPTED", b"in two", b"200 OK")] == [1, 1, 2]
    assert told.index(b"whole") < told.index(b"in two") < told.rindex(b"HTTP/1.0 200 OK")


def test_a_request_may_come_byte_by_byte(one: Served) -> None:
    with one.connect() as connection:
        for byte in b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert connection.recv(65536).endswith(b"\r\n\r\nabcde")


def test_who_asks_whether_to_go_on_is_told_before_the_body(one: Served) -> None:
    with one.connect() as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert connection.recv(65536).endswith(b"\r\n\r\nbody")


def test_what_is_too_large_is_refused_before_it_is_sent(one: Served) -> None:
    with one.connect() as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000 + b"\r\n\r\n", b"431", "headers_too_large"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000, b"413", "body_too_large"),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", b"400", "bad_request"),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n", b"501", "not_implemented"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400", "bad_request"),
    ],
)
def test_what_is_no_request_is_answered_in_json_also_to_who_still_sends(
    one: Served, tried: Tried, request_bytes: bytes, status: bytes, code: str
) -> None:
    with one.connect() as connection:
        connection.sendall(request_bytes)
        head, _, body = everything(connection).partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert json.loads(body)["error"]["code"] == code
    assert tried.seen == []


def test_a_fault_is_told_as_json_where_nothing_was_sent_yet(one: Served, caplog: pytest.LogCaptureFixture) -> None:
    with one.connect() as connection:
        connection.sendall(GET % b"/fault")
        head, _, body = everything(connection).partition(b"\r\n\r\n")
    assert head.split()[1] == b"500"
    assert json.loads(body)["error"]["code"] == "internal"
    assert "a fault of the application" in caplog.text


def test_an_answer_that_breaks_off_ends_the_connection(one: Served, caplog: pytest.LogCaptureFixture) -> None:
    with one.connect() as connection:
        connection.sendall(GET % b"/late")
        assert everything(connection).endswith(b"12345")
    assert "the disk is gone" in caplog.text


def test_who_leaves_in_the_middle_leaves_nothing_behind(one: Served, tried: Tried) -> None:
    before = threading.active_count()
    for part in (b"", b"GET /wh", b"POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nab", GET % b"/large"):
        with one.connect() as connection:
            connection.sendall(part)
    with one.connect() as connection:
        connection.sendall(GET % b"/whole")
        assert connection.recv(9) == b"HTTP/1.1 "
    until_s = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until_s:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_connection_that_falls_silent_is_closed(tried: Tried) -> None:
    with served(tried, idle_s=0.3) as one, one.connect() as silent, one.connect() as stuck:
        silent.sendall(GET % b"/whole")
        stuck.sendall(b"GET /who")
        assert silent.recv(9) == b"HTTP/1.1 "
        assert ended(silent)
        assert ended(stuck)


def answers(one: Served) -> bool:
    """Whether a new connection is served, not closed at once."""
    with one.connect() as connection:
        try:
            connection.sendall(GET % b"/whole")
            return bool(connection.recv(9))
        except ConnectionError:
            return False


def test_who_takes_nothing_of_an_answer_is_left(tried: Tried) -> None:
    with served(tried, idle_s=0.3, most=1) as one, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(20)
        slow.connect(one.address)
        slow.sendall(3 * (GET % b"/large"))
        assert slow.recv(9) == b"HTTP/1.1 "
        until_s = time.monotonic() + 10
        while not (answered := answers(one)) and time.monotonic() < until_s:
            time.sleep(0.05)
        assert answered  # the only place is free again


def test_what_is_quick_is_answered_in_the_thread_that_serves_and_the_rest_in_others(tried: Tried) -> None:
    answered_in: dict[str, str] = {}

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        answered_in[environ["PATH_INFO"]] = threading.current_thread().name
        return tried(environ, start_response)

    with served(app, quick=lambda environ: environ["PATH_INFO"] == "/parts") as one, one.connect() as connection:
        for path, end in ((b"/parts", b"in two"), (b"/whole", b"whole")):
            connection.sendall(GET % path)
            told = b""
            while not told.endswith(end):
                told += connection.recv(65536)
        assert answered_in["/parts"] == one.thread
        assert answered_in["/whole"] != one.thread


@pytest.mark.parametrize("quick", [False, True])
def test_who_has_to_wait_holds_up_nobody(tried: Tried, quick: bool) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        waits = quick and environ["PATH_INFO"] == "/wait"
        return elsewhere(lambda: tried(environ, start_response)) if waits else tried(environ, start_response)

    with served(app, quick=lambda _: quick) as one, ExitStack() as connections:
        waiting = [connections.enter_context(one.connect()) for _ in range(AT_WORK - 1)]
        for each in waiting:
            each.sendall(GET % b"/wait")
        for _ in waiting:
            assert tried.inside.acquire(timeout=20)
        assert answers(one)
        tried.go_on.set()
        for each in waiting:
            assert each.recv(9) == b"HTTP/1.1 "


def test_what_is_quick_does_not_queue_behind_requests_that_wait(tried: Tried) -> None:
    """Some of these may wait for what it writes."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        return elsewhere(lambda: tried(environ, start_response))

    with served(app, quick=lambda environ: environ["PATH_INFO"] == "/whole") as one, ExitStack() as connections:
        for _ in range(AT_WORK + 1):
            connections.enter_context(one.connect()).sendall(GET % b"/wait")
        for _ in range(AT_WORK):
            assert tried.inside.acquire(timeout=20)
        asking = connections.enter_context(one.connect())
        asking.settimeout(5)  # the others wait for longer
        asking.sendall(GET % b"/whole")
        assert asking.recv(9) == b"HTTP/1.1 "
        tried.go_on.set()


def test_the_number_of_connections_is_bounded(tried: Tried) -> None:
    with served(tried, most=2) as one, one.connect() as first, one.connect() as second:
        for each in (first, second):
            each.sendall(GET % b"/whole")
            assert each.recv(9) == b"HTTP/1.1 "
        with one.connect() as third:
            assert ended(third)
        first.sendall(GET % b"/whole")
        assert b"HTTP/1.1 202" in first.recv(65536) + first.recv(65536)


def test_an_answer_on_its_way_arrives_though_the_server_stops(one: Served, tried: Tried) -> None:
    with one.connect() as asking, one.connect() as idle:
        asking.sendall(GET % b"/wait")
        assert tried.inside.acquire(timeout=20)
        stopping = threading.Thread(target=one.stop)
        stopping.start()
        assert ended(idle)
        tried.go_on.set()
        assert everything(asking).endswith(b"whole")
        stopping.join()
        with pytest.raises(ConnectionRefusedError):
            one.connect()


def test_it_can_be_stopped_at_once_and_twice(tried: Tried) -> None:
    with served(tried) as one:
        one.stop()
