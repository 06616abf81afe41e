"""TLS in front of the server: what is carried, what is bounded, and that a device speaks with no other gateway."""

import asyncio
import hashlib
import json
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask, Response, jsonify, request
from waitress import wasyncore

from device_agent.errors import GatewayUnreachable
from device_agent.gateway import GatewayClient
from device_agent.pinning import pinned_context, read_fingerprint
from device_agent.transport import Request
from gateway.answering import answer_errors
from gateway.certificate import fingerprint, make_certificate, server_context
from gateway.config import TlsSettings
from gateway.errors import ConfigError
from gateway.serving import open_server
from gateway.tls_front import TlsFront, plain_address

NOW_S = 1_800_000_000.0
LARGE = bytes(range(256)) * 8_192


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tls") / "tls.pem"
    make_certificate(file, ["127.0.0.1", "gateway.example"], now_s=NOW_S)
    return file


def app_of(seen: list[str]) -> Flask:
    app = Flask("behind")
    answer_errors(app)

    @app.post("/echo")
    def echo() -> Response:
        return Response(request.get_data())

    @app.get("/who")
    def who() -> Response:
        seen.append(request.path)
        return jsonify({"address": request.remote_addr, "scheme": request.scheme})

    return app


class Served:
    """The front before a real server, in this process."""

    def __init__(self, certificate: Path, **settings: Any) -> None:
        self.seen: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.inner = socket.create_server(("127.0.0.1", 0))
        self.connections: dict[int, object] = {}
        self.front = TlsFront(
            self.listener,
            behind=plain_address(self.inner),
            context=server_context(certificate, None),
            settings=TlsSettings(on=True, **settings),
        )
        app = self.front.before(app_of(self.seen))
        self.server = open_server(app, self.inner, self.connections, max_body_bytes=4 << 20)
        self.thread = threading.Thread(target=self.server.run)
        self.url = f"https://127.0.0.1:{plain_address(self.listener)[1]}"

    def connect(self) -> socket.socket:
        return socket.create_connection(plain_address(self.listener), timeout=20)

    def close(self) -> None:
        self.front.stop()
        self.server.task_dispatcher.shutdown()
        self.server.trigger.pull_trigger(lambda: wasyncore.close_all(self.connections, ignore_all=True))
        self.thread.join()
        self.listener.close()
        self.inner.close()


@contextmanager
def served(certificate: Path, **settings: Any) -> Iterator[Served]:
    one = Served(certificate, **settings)
    one.front.start()
    one.thread.start()
    try:
        yield one
    finally:
        one.close()


def pinned(file: Path) -> ssl.SSLContext:
    return pinned_context(read_fingerprint(fingerprint(file)))


def test_requests_and_answers_are_carried_whole(certificate: Path) -> None:
    with served(certificate) as one, httpx.Client(verify=pinned(certificate), trust_env=False) as client:
        for size in (0, 1, 70_000, len(LARGE)):
            assert client.post(f"{one.url}/echo", content=LARGE[:size]).content == LARGE[:size]
        assert client.get(f"{one.url}/who").json() == {"address": "127.0.0.1", "scheme": "https"}


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /who HTTP/1.1\r\nX: " + b"x" * 300_000 + b"\r\n\r\n", b"431", "headers_too_large"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n", b"413", "body_too_large"),
        (b"GET /who HTTP/1.1\r\nno header\r\n\r\n", b"400", "bad_request"),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n", b"501", "not_implemented"),
    ],
)
def test_what_the_server_itself_refuses_is_json_too(
    certificate: Path, request_bytes: bytes, status: bytes, code: str
) -> None:
    with served(certificate) as one, one.connect() as plain, speaking_tls(plain) as speaking:
        speaking.sendall(request_bytes)
        head, _, body = b"".join(iter(lambda: speaking.recv(65_536), b"")).partition(b"\r\n\r\n")
        assert head.split()[1] == status
        assert json.loads(body)["error"]["code"] == code


async def ask_once(url: str, known: bytes) -> int:
    client = GatewayClient(url, fingerprint=known)
    try:
        return (await client._send(Request(method="GET", target="/who"))).status
    finally:
        await client.close()


def test_another_certificate_ends_it_before_anything_is_sent(certificate: Path, tmp_path: Path) -> None:
    """The one who answers knows the right certificate's names, but has another key."""
    other = tmp_path / "other.pem"
    make_certificate(other, ["127.0.0.1", "gateway.example"], now_s=NOW_S)
    with served(other) as one:
        wrong = read_fingerprint(fingerprint(certificate))
        with pytest.raises(GatewayUnreachable, match=fingerprint(other)):
            asyncio.run(ask_once(one.url, wrong))
        assert one.seen == []
        assert asyncio.run(ask_once(one.url, read_fingerprint(fingerprint(other)))) == 200
        assert one.seen == ["/who"]


def test_a_fingerprint_is_for_https_alone() -> None:
    with pytest.raises(ValueError, match="https"):
        GatewayClient("http://gateway", fingerprint=bytes(32))


def test_nothing_older_than_tls_1_3_is_spoken(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with served(certificate) as one, one.connect() as plain:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(plain)
        assert one.seen == []


def test_who_says_nothing_holds_up_nobody_and_is_closed(certificate: Path) -> None:
    with served(certificate, handshake_s=0.5) as one, one.connect() as silent, one.connect() as babbling:
        babbling.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with httpx.Client(verify=pinned(certificate), trust_env=False) as client:
            assert client.get(f"{one.url}/who").status_code == 200
        assert ended(silent)
        assert ended(babbling)


def ended(one: socket.socket) -> bool:
    """Whether the other side closed it, whatever it said before."""
    try:
        while one.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def test_a_connection_that_falls_silent_is_closed(certificate: Path) -> None:
    with served(certificate, idle_s=0.3) as one, one.connect() as plain, speaking_tls(plain) as speaking:
        speaking.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
        assert speaking.recv(15) == b"HTTP/1.1 200 OK"
        assert ended(speaking)


def speaking_tls(plain: socket.socket) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)


def test_the_number_of_connections_is_bounded(certificate: Path) -> None:
    with (
        served(certificate, max_connections=2) as one,
        one.connect() as first,
        one.connect() as second,
        one.connect() as third,
        speaking_tls(first),
        speaking_tls(second),
    ):
        assert ended(third)


def test_an_answer_on_its_way_arrives_though_the_front_stops(certificate: Path) -> None:
    with served(certificate) as one, one.connect() as plain, speaking_tls(plain) as speaking:
        speaking.sendall(b"POST /echo HTTP/1.0\r\nContent-Length: 2000000\r\n\r\n" + LARGE[:2_000_000])
        assert speaking.recv(15) == b"HTTP/1.0 200 OK"
        stopping = threading.Thread(target=one.front.stop)
        stopping.start()
        rest = b"".join(iter(lambda: speaking.recv(65_536), b""))
        stopping.join()
        assert rest.endswith(LARGE[:2_000_000])


def test_the_certificate_is_made_once_and_its_key_is_nobody_elses(tmp_path: Path) -> None:
    file = tmp_path / "data" / "tls.pem"
    make_certificate(file, ["gateway.example", "::1"], now_s=NOW_S)
    first = fingerprint(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    make_certificate(file, ["gateway.example"], now_s=NOW_S)
    assert fingerprint(file) == first
    assert list(file.parent.iterdir()) == [file]
    der = ssl.PEM_cert_to_DER_cert(file.read_text()[file.read_text().index("-----BEGIN CERT") :])
    assert hashlib.sha256(der).hexdigest() == first


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_a_certificate_that_is_none_is_told(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "tls.pem"
    if content is not None:
        file.write_bytes(content)
    for use in (fingerprint, lambda one: server_context(one, None)):
        with pytest.raises(ConfigError, match="certificate"):
            use(file)


@pytest.mark.parametrize("text", ["", "12", "g" * 64, "0" * 65])
def test_a_fingerprint_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        read_fingerprint(text)
    assert read_fingerprint(":".join(["AB"] * 32)) == b"\xab" * 32
