"""Whatever bytes reach a link over TLS: answers to its client, requests to its server; honest ones that were changed.

`make thorough` tries ten times as many.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from link_rig import QUICK, Device, linked, noise, really
from mangled import mangled

from device_agent.errors import LinkLost, PeerFault
from device_agent.link import wire
from device_agent.link.connection import Answer, Connection
from device_agent.link.parts import Part
from device_agent.link.tls import client_context, server_context
from device_agent.radio import Endpoint

MOST = wire.MAX_ANSWER_BYTES
BODY = b'{"radio_id":"0a0a0a0a0a0a0a0a"}'
LINE = 300


# -- answers -----------------------------------------------------------------------------------------------------------


class Teller:
    """A TLS server in a thread: to whatever it is asked it says what it is told to, and hangs up."""

    def __init__(self) -> None:
        self.says = b""
        self._context = server_context(Ed25519PrivateKey.from_private_bytes(b"\x08" * 32))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint(host="127.0.0.1", port=self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listening.accept()
            except OSError:
                return
            with raw, suppress(OSError), self._context.wrap_socket(raw, server_side=True) as talking:
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += talking.recv(1 << 16) or b"\r\n\r\n"
                talking.sendall(self.says)


@pytest.fixture(scope="module")
def teller() -> Iterator[Teller]:
    one = Teller()
    yield one
    one.close()


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(*chunks: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (*chunks, b""))


ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + bytes(16 << 20)
"""A chunk of a negative length: all that comes."""
HONEST = [
    answer(BODY, "Content-Type: application/json"),
    answer(b"", status="204 No Content"),
    answer(b"say hello first", "Content-Type: text/plain; charset=utf-8", "Date: now", status="401 Unauthorized"),
    b"HTTP/1.1 100 Continue\r\n\r\n" + answer(BODY),
    chunked(BODY[:9], BODY[9:]),
    b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
]


def told(teller: Teller, said: bytes) -> Answer | LinkLost | PeerFault:
    """What a client makes of an answer; any other fault is a test's."""
    teller.says = said
    connection = Connection(teller.endpoint, QUICK)
    try:
        connection.open()
        return connection.ask("GET", "/v1/ping", max_bytes=MOST)
    except (LinkLost, PeerFault) as fault:
        return fault
    finally:
        connection.close()


@pytest.mark.parametrize("said", HONEST[:4])
def test_an_honest_answer_arrives(teller: Teller, said: bytes) -> None:
    found = told(teller, said)
    assert isinstance(found, Answer)
    assert said.endswith(found.body)


@settings(deadline=None)
@given(st.sampled_from(HONEST).flatmap(mangled) | st.binary(max_size=300))
@example(chunked(BODY)[:-5])
@example(answer(BODY)[:-1])
@example(ENDLESS)
def test_an_answer_is_taken_whole_or_the_peer_is_lost_or_at_fault(teller: Teller, said: bytes) -> None:
    found = told(teller, said)
    if not isinstance(found, Answer):
        assert 0 < len(str(found)) < LINE
        assert str(found).isprintable()
        return
    assert len(found.body) <= MOST
    assert 100 <= found.status <= 999
    assert found.body in said


def test_an_answer_that_says_no_length_is_not_read(teller: Teller) -> None:
    tracemalloc.start()
    try:
        found = told(teller, ENDLESS)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert isinstance(found, PeerFault)


SNAPSHOT = noise(2000)
BEHIND = 500
"""Bytes that arrived before."""
RANGE = f"Content-Range: bytes {BEHIND}-{len(SNAPSHOT) - 1}/{len(SNAPSHOT)}"
PARTS = [
    answer(SNAPSHOT[BEHIND:], RANGE, status="206 Partial Content"),
    answer(b"busy", status="503 Service Unavailable"),
]


@settings(deadline=None)
@given(said=st.just(PARTS[0]) | st.sampled_from(PARTS).flatmap(mangled))
def test_of_a_transfer_no_more_is_taken_than_was_asked_for(
    teller: Teller, tmp_path_factory: pytest.TempPathFactory, said: bytes
) -> None:
    part = Part(tmp_path_factory.getbasetemp() / "never written.part", len(SNAPSHOT))
    part.add(SNAPSHOT[:BEHIND])
    teller.says = said
    connection = Connection(teller.endpoint, QUICK)
    try:
        connection.open()
        status = connection.download("/v1/snapshots/x", part, deadline_s=time.monotonic() + 60, headers={})
    except (LinkLost, PeerFault):
        assert said != PARTS[0]
    else:
        assert part.received == (len(SNAPSHOT) if status == 206 else BEHIND)
    finally:
        connection.close()
    assert BEHIND <= part.received <= len(SNAPSHOT)
    assert part.finish()[:BEHIND] == SNAPSHOT[:BEHIND]


# -- requests ----------------------------------------------------------------------------------------------------------

AT_ONCE = 32
WAIT_S = 1.0
"""How long one that was told nothing waits before it hangs up."""
HASTY = replace(QUICK, unknown_s=0.3, answer_s=0.3, connections_per_host=2 * AT_ONCE, messages_at_once=1 << 20)
"""Bounds of a server that waits for no stranger, and takes many at once: what is cut costs little time."""
GOOD = {100, 200, 204, 206}
REFUSALS = {0, 400, 401, 403, 404, 405, 408, 411, 413, 414, 416, 417, 429, 431, 501, 503, 505}
"""How a server may refuse; 0: it hangs up. Its own fault would be 500."""


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: idml", *headers, "Connection: close"]
    lines += [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


async def honest_requests(good: Device, evil: Device) -> list[bytes]:
    """All that a peer may ask for, each good once."""
    await evil.link.greet(good.endpoint)
    known = f"Authorization: Bearer {evil.link._client._peers[good.peer].token}"
    digest = good.holds(SNAPSHOT).hex()
    heard = await say(good.endpoint, request("GET /v1/challenge"))
    challenge = wire.read(heard.split(b"\r\n\r\n", 1)[1], wire.Challenge)
    hello = wire.write(evil.link.hello(challenge, good.public))
    return [
        request("GET /v1/challenge"),
        request("POST /v1/hello", body=hello),
        request("GET /v1/ping", known),
        request("POST /v1/messages", known, body=b"good day"),
        request("POST /v1/messages", known, "Expect: 100-continue", body=b"good day"),
        request("POST /v1/messages", known, "Transfer-Encoding: chunked") + b"8\r\ngood day\r\n0\r\n\r\n",
        request(f"GET /v1/snapshots/{digest}/manifest?nonce={'b' * 64}", known),
        request(f"GET /v1/snapshots/{digest}", known, "Range: bytes=5-"),
    ]


async def say(to: Endpoint, said: bytes) -> bytes:
    """Say something over TLS, and return what is answered until either side hangs up."""
    heard = bytearray()
    with suppress(OSError, TimeoutError):
        reader, writer = await asyncio.open_connection(to.host, to.port, ssl=client_context(), server_hostname="")
        try:
            writer.write(said)
            async with asyncio.timeout(WAIT_S):
                while more := await reader.read(1 << 16):
                    heard += more
        finally:
            writer.transport.abort()
    return bytes(heard)


def status(heard: bytes) -> int:
    """Of the first answer; 0 where there was none."""
    return int(heard.split(b" ", 2)[1]) if heard.startswith(b"HTTP/1.") else 0


def test_an_honest_request_is_answered(tmp_path: Path) -> None:
    good, evil = Device("good", tmp_path, limits=HASTY), Device("evil", tmp_path)

    async def play() -> None:
        async with linked(good, evil):
            for one in await honest_requests(good, evil):
                assert status(await say(good.endpoint, one)) in GOOD

    really(play)
    assert len(good.messages) == 3


@settings(
    deadline=None,
    max_examples=settings.default.max_examples // 12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each takes a second: nobody waits for the simplest one
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_request_is_answered_or_refused_and_the_next_one_is_served(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("link")
    good, evil = Device("good", folder, limits=HASTY), Device("evil", folder)

    async def play() -> None:
        async with linked(good, evil):
            honest = await honest_requests(good, evil)
            batch = data.draw(st.lists(st.sampled_from(honest).flatmap(mangled), min_size=AT_ONCE, max_size=AT_ONCE))
            for heard in await asyncio.gather(*(say(good.endpoint, one) for one in batch)):
                assert status(heard) in GOOD | REFUSALS
                assert b"HTTP/1.1 500" not in heard
            before = len(good.messages)
            await evil.link.send(good.peer, b"good day")
            assert good.messages[before:] == [(evil.peer, b"good day")]

    caplog.clear()
    with caplog.at_level(logging.ERROR):
        really(play)
    assert caplog.messages == []
    assert {peer for peer, _ in good.messages} == {evil.peer} == {one.peer for one in good.greetings}
