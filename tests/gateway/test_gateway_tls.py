"""TLS: what is carried, what is bounded, and that a device speaks with no other gateway."""

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
from serving_rig import Served, ended, everything, served

from device_agent.errors import GatewayUnreachable
from device_agent.gateway import GatewayClient
from device_agent.pinning import pinned_context, read_fingerprint
from device_agent.transport import Request
from gateway.answering import answer_errors
from gateway.certificate import fingerprint, make_certificate, server_context
from gateway.errors import ConfigError

NOW_S = 1_800_000_000.0
LARGE = bytes(range(256)) * 8_192


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tls") / "tls.pem"
    make_certificate(file, ["127.0.0.1", "gateway.example"], now_s=NOW_S)
    return file


@pytest.fixture
def app() -> Flask:
    app = Flask("behind")
    answer_errors(app)
    app.config["seen"] = []

    @app.post("/echo")
    def echo() -> Response:
        return Response(request.get_data())

    @app.get("/who")
    def who() -> Response:
        app.config["seen"].append(request.path)
        return jsonify({"address": request.remote_addr, "scheme": request.scheme})

    return app


@contextmanager
def speaking(app: Flask, certificate: Path, **settings: Any) -> Iterator[Served]:
    with served(app, server_context(certificate, None), **settings) as one:
        yield one


def pinned(file: Path) -> ssl.SSLContext:
    return pinned_context(read_fingerprint(fingerprint(file)))


def test_requests_and_answers_are_carried_whole(app: Flask, certificate: Path) -> None:
    with speaking(app, certificate) as one, httpx.Client(verify=pinned(certificate), trust_env=False) as client:
        for size in (0, 1, 70_000, len(LARGE)):
            assert client.post(f"{one.url}/echo", content=LARGE[:size]).content == LARGE[:size]
        assert client.get(f"{one.url}/who").json() == {"address": "127.0.0.1", "scheme": "https"}


def test_what_the_server_itself_refuses_is_json_and_ends_in_a_good_bye(app: Flask, certificate: Path) -> None:
    with speaking(app, certificate) as one, one.connect() as plain, tls(plain, strict=True) as client:
        client.sendall(b"GET /who HTTP/1.1\r\nX: " + b"x" * 300_000 + b"\r\n\r\n")
        head, _, body = everything(client).partition(b"\r\n\r\n")
    assert head.split()[1] == b"431"
    assert json.loads(body)["error"]["code"] == "headers_too_large"


async def ask_once(url: str, known: bytes) -> int:
    client = GatewayClient(url, fingerprint=known)
    try:
        return (await client._send(Request(method="GET", target="/who"))).status
    finally:
        await client.close()


def test_another_certificate_ends_it_before_anything_is_sent(app: Flask, certificate: Path, tmp_path: Path) -> None:
    """The one who answers knows the right certificate's names, but has another key."""
    other = tmp_path / "other.pem"
    make_certificate(other, ["127.0.0.1", "gateway.example"], now_s=NOW_S)
    with speaking(app, other) as one:
        wrong = read_fingerprint(fingerprint(certificate))
        with pytest.raises(GatewayUnreachable, match=fingerprint(other)):
            asyncio.run(ask_once(one.url, wrong))
        assert app.config["seen"] == []
        assert asyncio.run(ask_once(one.url, read_fingerprint(fingerprint(other)))) == 200
        assert app.config["seen"] == ["/who"]


def test_a_fingerprint_is_for_https_alone() -> None:
    with pytest.raises(ValueError, match="https"):
        GatewayClient("http://gateway", fingerprint=bytes(32))


def test_nothing_older_than_tls_1_3_is_spoken(app: Flask, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with speaking(app, certificate) as one, one.connect() as plain:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(plain)
        assert app.config["seen"] == []


def test_who_says_nothing_holds_up_nobody_and_is_closed(app: Flask, certificate: Path) -> None:
    with (
        speaking(app, certificate, handshake_s=0.5) as one,
        one.connect() as silent,
        one.connect() as babbling,
    ):
        babbling.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with httpx.Client(verify=pinned(certificate), trust_env=False) as client:
            assert client.get(f"{one.url}/who").status_code == 200
        assert ended(silent)
        assert ended(babbling)


def test_a_connection_that_falls_silent_is_closed(app: Flask, certificate: Path) -> None:
    with speaking(app, certificate, idle_s=0.3) as one, one.connect() as plain, tls(plain) as client:
        client.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        assert ended(client)


def tls(plain: socket.socket, *, strict: bool = False) -> ssl.SSLSocket:
    """The client's side; `strict`: to end without a good-bye is an error."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain, suppress_ragged_eofs=not strict)


def test_an_answer_on_its_way_arrives_though_the_server_stops(app: Flask, certificate: Path) -> None:
    with speaking(app, certificate) as one, one.connect() as plain, tls(plain) as client:
        client.sendall(b"POST /echo HTTP/1.0\r\nContent-Length: 2000000\r\n\r\n" + LARGE[:2_000_000])
        assert client.recv(15) == b"HTTP/1.0 200 OK"
        stopping = threading.Thread(target=one.stop)
        stopping.start()
        rest = everything(client)
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
