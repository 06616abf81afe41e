"""A hostile peer on the link: it speaks wrongly in every way we could think of, and costs a bounded amount of all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from link_rig import QUICK, Device, linked, noise, really

from contracts.identity import Identity
from device_agent import vouching
from device_agent.errors import LinkLost, PeerFault
from device_agent.link import wire
from device_agent.link.tls import client_context, server_context
from device_agent.radio import Endpoint, RadioId

MODEL = noise(1 << 20)
MOST = 8 << 20
PATIENCE_S = 8.0
"""Many times the bounds of `QUICK`: what is not over by then has no bound."""

Json = dict[str, Any]


@pytest.fixture
def good(tmp_path: Path) -> Device:
    return Device("good", tmp_path)


@pytest.fixture
def evil(tmp_path: Path) -> Device:
    return Device("evil", tmp_path)


async def speak(to: Endpoint, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Say something over TLS, part after part, and return what is answered until the other side hangs up."""
    reader, writer = await asyncio.open_connection(to.host, to.port, ssl=client_context(), server_hostname="")
    heard = bytearray()
    try:
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionError, ssl.SSLError):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
            with suppress(ConnectionError, ssl.SSLError):
                while more := await reader.read(1 << 16):
                    heard += more
    finally:
        writer.transport.abort()
    return bytes(heard)


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Bytes of a request, after which the connection is to be closed."""
    lines = [f"{method} {path} HTTP/1.1", "Host: idml", "Connection: close"]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status(heard: bytes) -> int:
    """Of the first answer; 0 where there was none."""
    return int(heard.split(b" ", 2)[1]) if heard.startswith(b"HTTP/1.") else 0


async def still_good(device: Device, folder: Path) -> None:
    """After all of that, an honest peer is served."""
    digest = device.holds(MODEL)
    honest = Device("honest", folder)
    async with linked(honest):
        await honest.link.greet(device.endpoint)
        await honest.link.send(device.peer, b"good day")
        assert (honest.peer, b"good day") in device.messages
        assert await honest.link.fetch(device.peer, digest, max_bytes=MOST) == MODEL


# -- strangers --------------------------------------------------------------------------------------------------------

STRANGERS: dict[str, tuple[bytes, set[int]]] = {
    "no token": (request("GET", "/v1/ping"), {401}),
    "a wrong token": (request("GET", "/v1/ping", Authorization="Bearer " + "0" * 64), {401}),
    "another scheme": (request("GET", "/v1/ping", Authorization="Basic eA=="), {401}),
    "a message by nobody": (request("POST", "/v1/messages", b"{}"), {401}),
    "a snapshot for nobody": (request("GET", "/v1/snapshots/" + "0" * 64), {401}),
    "a path upwards": (request("GET", "/v1/snapshots/../../../etc/passwd"), {400, 401, 404}),
    "a path upwards, encoded": (request("GET", "/v1/snapshots/%2e%2e%2f%2e%2e%2fetc%2fpasswd"), {400, 401, 404}),
    "a name that is no digest": (request("GET", "/v1/snapshots/model.bin"), {401, 404}),
    "an unknown method": (request("BREW", "/v1/challenge"), {400, 401, 405}),
    "DELETE": (request("DELETE", "/v1/snapshots/" + "0" * 64), {401, 405}),
    "no HTTP at all": (b"\x00\x01\x02" * 100 + b"\r\n\r\n", {0, 400}),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", {0, 400}),
    "a huge line": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", {0, 400, 414}),
    "a huge header": (request("GET", "/v1/challenge", X="a" * 100_000), {0, 400, 431}),
    "very many headers": (request("GET", "/v1/challenge", **{f"X{n}": "a" for n in range(500)}), {0, 400, 431}),
    "two lengths": (request("POST", "/v1/hello", b"{}", Transfer_Encoding="chunked"), {0, 400}),
    "a negative length": (b"POST /v1/hello HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", {0, 400}),
    "a length beyond words": (b"POST /v1/hello HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 99, {0, 400}),
    "a hello that is too long": (request("POST", "/v1/hello", b"x" * 100_000), {0, 400, 413}),
    "a hello that is no JSON": (request("POST", "/v1/hello", b"hello"), {400}),
    "a hello nested deeply": (request("POST", "/v1/hello", b"[" * 4000), {400}),
    "a hello of another shape": (request("POST", "/v1/hello", b'{"vouching": 1}'), {400}),
    "an expectation that is no text": (request("POST", "/v1/hello", b"hello", Expect="\x8d"), {400}),
    "an expectation of nothing": (request("GET", "/v1/nothing", Expect="\x8d"), {401}),
    "a compressed hello": (request("POST", "/v1/hello", b"\x1f\x8b" + bytes(100), Content_Encoding="gzip"), {400}),
}


@pytest.mark.parametrize("what", STRANGERS)
def test_a_stranger_who_speaks_wrongly_is_refused(good: Device, tmp_path: Path, what: str) -> None:
    said, expected = STRANGERS[what]

    async def play() -> None:
        async with linked(good):
            assert status(await speak(good.endpoint, said)) in expected
            assert good.messages == []
            assert good.greetings == []
            await still_good(good, tmp_path)

    really(play)


SLOW: dict[str, tuple[tuple[bytes, ...], float]] = {
    "says nothing": ((), 0.0),
    "drips its headers": ((b"GET ", b"/v1/", b"chal", *(b"x" for _ in range(100))), 0.2),
    "never ends its headers": (tuple(b"X-%d: a\r\n" % n for n in range(200)), 0.1),
    "drips its body": (
        (b"POST /v1/hello HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", *(b"x" for _ in range(50))),
        0.2,
    ),
    "never ends its body": (
        (
            b"POST /v1/hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            *(b"1\r\nx\r\n" for _ in range(80)),
        ),
        0.1,
    ),
}


@pytest.mark.parametrize("what", SLOW)
def test_a_stranger_who_takes_his_time_is_hung_up_on(good: Device, tmp_path: Path, what: str) -> None:
    parts, pause_s = SLOW[what]

    async def play() -> None:
        async with linked(good):
            began_s = time.monotonic()
            await speak(good.endpoint, *parts, pause_s=pause_s)
            assert time.monotonic() - began_s < PATIENCE_S
            await still_good(good, tmp_path)

    really(play)


def test_no_host_has_more_connections_than_it_needs(good: Device, tmp_path: Path) -> None:
    async def play() -> None:
        async with linked(good):
            opened = [asyncio.open_connection("127.0.0.1", good.link.port) for _ in range(60)]
            streams = await asyncio.gather(*opened)
            await asyncio.sleep(0.3)
            closed = sum(reader.at_eof() for reader, _ in streams)
            assert closed >= 60 - QUICK.connections_per_host
            for _, writer in streams:
                writer.transport.abort()
            await asyncio.sleep(0.3)
            await still_good(good, tmp_path)

    really(play)


def test_only_tls_of_today_is_spoken(good: Device, tmp_path: Path) -> None:
    old = client_context()
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    async def play() -> None:
        async with linked(good):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", good.link.port, ssl=old, server_hostname="")
            reader, writer = await asyncio.open_connection("127.0.0.1", good.link.port)
            writer.write(request("GET", "/v1/challenge"))
            assert not (await reader.read()).startswith(b"HTTP")
            writer.close()
            await still_good(good, tmp_path)

    really(play)


# -- impostors --------------------------------------------------------------------------------------------------------


def hello(evil: Device, challenge: Json, **wrong: Any) -> Json:
    """A hello of the evil device's, right but for what is wrong."""
    said = {"radio_id": evil.radio_id, "port": 4711, "nonce": challenge["nonce"]} | wrong
    key = wrong.pop("signing_key", evil.key)
    said.pop("signing_key", None)
    server_key = said.pop("server_key", None) or bytes.fromhex(json.loads(challenge["vouching"])["link_key"])
    account = said.pop("account", evil.identity.address)
    statement = vouching.write(vouching.vouch(evil.identity, evil.public, now_s=int(time.time()))).decode()
    unsigned = wire.Hello.model_construct(vouching=said.pop("vouching", statement), signature="0" * 128, **said)
    text = wire.hello_text(unsigned, account=account, server_key=server_key)
    signature = Ed25519PrivateKey.from_private_bytes(key).sign(text).hex()
    return {"vouching": unsigned.vouching, "signature": signature, **said}


def _vouched(evil: Device, **changes: Any) -> str:
    made = vouching.vouch(evil.identity, evil.public, now_s=int(time.time()) + changes.pop("later_s", 0))
    return vouching.write(replace(made, **changes)).decode()


IMPOSTORS: dict[str, Callable[[Device, Json], Json]] = {
    "a nonce nobody gave": lambda evil, challenge: hello(evil, challenge, nonce="0" * 64),
    "signed for another server": lambda evil, challenge: hello(evil, challenge, server_key=b"\x01" * 32),
    "signed by another key": lambda evil, challenge: hello(evil, challenge, signing_key=b"\x02" * 32),
    "signed for another account": lambda evil, challenge: hello(evil, challenge, account="0x" + "1" * 40),
    "another one's account": lambda evil, challenge: hello(
        evil, challenge, vouching=_vouched(evil, account=Identity(b"\x03" * 32).address)
    ),
    "a vouching that ended": lambda evil, challenge: hello(
        evil, challenge, vouching=_vouched(evil, later_s=-60 * 86_400)
    ),
    "a vouching without end": lambda evil, challenge: hello(
        evil, challenge, vouching=_vouched(evil, later_s=400 * 86_400)
    ),
    "a vouching that was prolonged": lambda evil, challenge: hello(
        evil, challenge, vouching=_vouched(evil, expires_s=int(time.time()) + 31 * 86_400)
    ),
    "a vouching for another key": lambda evil, challenge: hello(
        evil, challenge, vouching=_vouched(evil, link_key=b"\x04" * 32)
    ),
    "a port that is none": lambda evil, challenge: hello(evil, challenge, port=0),
    "a port beyond all": lambda evil, challenge: hello(evil, challenge, port=70_000),
    "an id that is none": lambda evil, challenge: hello(evil, challenge, radio_id=RadioId("../../etc")),
    "more than is asked": lambda evil, challenge: hello(evil, challenge) | {"admin": True},
}


@pytest.mark.parametrize("who", IMPOSTORS)
def test_an_impostor_is_not_let_in(good: Device, evil: Device, tmp_path: Path, who: str) -> None:
    async def play() -> None:
        async with linked(good):
            heard = await speak(good.endpoint, request("GET", "/v1/challenge"))
            challenge = json.loads(heard.split(b"\r\n\r\n", 1)[1])
            body = json.dumps(IMPOSTORS[who](evil, challenge)).encode()
            assert status(await speak(good.endpoint, request("POST", "/v1/hello", body))) == 400
            assert good.greetings == []
            await still_good(good, tmp_path)

    really(play)


def test_a_hello_is_good_once(good: Device, evil: Device) -> None:
    async def play() -> None:
        async with linked(good):
            heard = await speak(good.endpoint, request("GET", "/v1/challenge"))
            body = json.dumps(hello(evil, json.loads(heard.split(b"\r\n\r\n", 1)[1]))).encode()
            assert status(await speak(good.endpoint, request("POST", "/v1/hello", body))) == 200
            assert status(await speak(good.endpoint, request("POST", "/v1/hello", body))) == 400
            assert len(good.greetings) == 1

    really(play)


# -- peers that said who they are -------------------------------------------------------------------------------------

RANGES = ["bytes=-5", "bytes=9-3", "bytes=0-9", "bytes=99999999-", "bytes=0-,5-", "bytes=a-", "lines=0-"]


def test_a_peer_gets_only_what_it_may_have_and_in_ranges_that_make_sense(good: Device, evil: Device) -> None:
    digest = good.holds(MODEL)

    async def play() -> None:
        async with linked(good, evil):
            await evil.link.greet(good.endpoint)
            token = evil.link._client._peers[good.peer].token

            async def ask(path: str, **headers: str) -> int:
                asked = request("GET", path, Authorization=f"Bearer {token}", **headers)
                return status(await speak(good.endpoint, asked))

            assert await ask("/v1/ping") == 200
            assert await ask("/v1/snapshots/" + "0" * 64) == 403
            assert await ask("/v1/snapshots/" + "0" * 64 + "/manifest?nonce=" + "0" * 64) == 403
            assert await ask(f"/v1/snapshots/{digest.hex()}/manifest") == 400
            assert await ask(f"/v1/snapshots/{digest.hex()}/manifest?nonce=" + "z" * 64) == 400
            for one in RANGES:
                assert await ask(f"/v1/snapshots/{digest.hex()}", Range=one) == 416, one
            body = request("POST", "/v1/messages", b"x" * 5000, Authorization=f"Bearer {token}")
            assert status(await speak(good.endpoint, body)) in (0, 400, 413)
            assert good.messages == []

    really(play)


def test_a_peer_is_given_so_much_an_hour(evil: Device, tmp_path: Path) -> None:
    good = Device("good", tmp_path, limits=replace(QUICK, served_bytes_per_hour=5 << 19))
    digest = good.holds(MODEL)

    async def play() -> None:
        async with linked(good, evil):
            await evil.link.greet(good.endpoint)
            for _ in range(2):
                await evil.link.fetch(good.peer, digest, max_bytes=MOST)
            with pytest.raises(LinkLost, match="busy"):
                await evil.link.fetch(good.peer, digest, max_bytes=MOST)

    really(play)


def test_a_peer_that_does_not_read_is_hung_up_on(good: Device, evil: Device, tmp_path: Path) -> None:
    digest = good.holds(noise(40 << 20))

    async def play() -> None:
        async with linked(good, evil):
            await evil.link.greet(good.endpoint)
            token = evil.link._client._peers[good.peer].token
            asked = request("GET", f"/v1/snapshots/{digest.hex()}", Authorization=f"Bearer {token}")
            stuck = [
                await asyncio.open_connection(
                    "127.0.0.1", good.link.port, ssl=client_context(), server_hostname="", limit=1024
                )
                for _ in range(2)
            ]
            for _, writer in stuck:
                writer.write(asked)
            await asyncio.sleep(3 * QUICK.idle_s)
            await still_good(good, tmp_path)  # both places for transfers are free again
            for _, writer in stuck:
                writer.transport.abort()

    really(play)


# -- hostile servers --------------------------------------------------------------------------------------------------

Answer = Callable[["Liar", str], bytes]


def answer(body: bytes, code: int = 200, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Liar:
    """A device with a key and an account of its own, that answers as it likes: right, but for some paths."""

    def __init__(self, lies: dict[str, Answer], wire_bytes: bytes = b"") -> None:
        self.identity = Identity(b"\x07" * 32)
        self.key = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
        self.public = self.key.public_key().public_bytes_raw()
        self.lies = lies
        self.wire = wire_bytes
        self.server: asyncio.Server | None = None

    async def __aenter__(self) -> Liar:
        context = server_context(self.key)
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.server is not None
        self.server.close()

    @property
    def endpoint(self) -> Endpoint:
        assert self.server is not None
        return Endpoint(host="127.0.0.1", port=self.server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                for line in head.split("\r\n"):
                    if line.lower().startswith("content-length:"):
                        await reader.readexactly(int(line.split(":")[1]))
                path = head.split(" ")[1]
                kind = path.split("?")[0].split("/")[-1] if "/snapshots/" not in path else "snapshot"
                kind = "manifest" if "/manifest" in path else kind
                said = self.lies[kind](self, path) if kind in self.lies else self.truth(kind, path)
                writer.write(said)
                await writer.drain()
                if said.endswith(END):
                    break
        writer.transport.abort()

    def truth(self, kind: str, path: str) -> bytes:
        match kind:
            case "challenge":
                return answer(self.challenge())
            case "hello":
                return answer(b'{"token": "%s", "radio_id": "%s"}' % (b"a" * 64, b"b" * 16))
            case "ping":
                return answer(b'{"radio_id": "%s"}' % (b"b" * 16))
            case "manifest":
                return answer(self.manifest(path))
            case _:
                size = len(self.wire)
                return answer(self.wire, 206, Content_Range=f"bytes 0-{size - 1}/{size}")

    def challenge(self, link_key: bytes | None = None) -> bytes:
        made = vouching.vouch(self.identity, link_key or self.public, now_s=int(time.time()))
        return json.dumps({"vouching": vouching.write(made).decode(), "nonce": "c" * 64}).encode()

    def manifest(self, path: str, *, account: str | None = None, **wrong: Any) -> bytes:
        said = {
            "digest": path.split("/")[3],
            "size_bytes": len(self.wire),
            "sha256": hashlib.sha256(self.wire).hexdigest(),
            "nonce": path.split("nonce=")[1],
        } | wrong
        unsigned = wire.Manifest.model_construct(signature="0" * 128, **said)
        text = wire.manifest_text(unsigned, account=account or CALLER.address)
        return json.dumps(said | {"signature": self.key.sign(text).hex()}).encode()


END = b"\r\nthe end"
CALLER = Identity(hashlib.sha256(b"account of good").digest())

GREETING_LIES: dict[str, dict[str, Answer]] = {
    "an endless challenge": {"challenge": lambda *_: b"HTTP/1.1 200 X\r\n\r\n" + b"x" * 10_000_000},
    "a challenge that is no JSON": {"challenge": lambda *_: answer(b"<html>")},
    "a challenge of another shape": {"challenge": lambda *_: answer(b'{"nonce": 5}')},
    "endless headers": {"challenge": lambda *_: b"HTTP/1.1 200 X\r\n" + b"X: a\r\n" * 100_000},
    "an endless header": {"challenge": lambda *_: b"HTTP/1.1 200 X\r\nX: " + b"a" * 10_000_000},
    "no HTTP": {"challenge": lambda *_: b"\x00" * 1000 + END},
    "a negative length": {"challenge": lambda *_: b"HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\nx" + END},
    "a redirect": {"challenge": lambda *_: answer(b"", 302, Location="https://127.0.0.1:1/")},
    "a vouching for another key": {"challenge": lambda liar, _: answer(liar.challenge(b"\x09" * 32))},
    "no answer": {"challenge": lambda *_: b""},
    "half an answer": {"challenge": lambda *_: b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\nhalf"},
    "a welcome that is none": {"hello": lambda *_: answer(b'{"token": ""}')},
    "a welcome with a header in it": {"hello": lambda *_: answer(b'{"token": "a\\r\\nX: y", "radio_id": "b"}')},
    "a refusal with a novel": {"hello": lambda *_: answer(b"no! " * 1000, 400)},
}


@pytest.mark.parametrize("what", GREETING_LIES)
def test_a_server_that_lies_is_not_greeted(good: Device, what: str) -> None:
    async def play() -> None:
        async with linked(good), Liar(GREETING_LIES[what]) as liar:
            began_s = time.monotonic()
            with pytest.raises((LinkLost, PeerFault)) as refused:
                await good.link.greet(liar.endpoint)
            assert time.monotonic() - began_s < PATIENCE_S
            assert len(str(refused.value)) < 500

    really(play)


WIRE = zstandard.compress(MODEL)
BOMB = zstandard.ZstdCompressor(level=19).compress(bytes(64 << 20))

TRANSFER_LIES: dict[str, tuple[bytes, dict[str, Answer]]] = {
    "a manifest of something else": (
        WIRE,
        {"manifest": lambda liar, path: answer(liar.manifest(path, digest="0" * 64))},
    ),
    "an old manifest": (WIRE, {"manifest": lambda liar, path: answer(liar.manifest(path, nonce="0" * 64))}),
    "a manifest for another": (
        WIRE,
        {"manifest": lambda liar, path: answer(liar.manifest(path, account="0x" + "1" * 40))},
    ),
    "a manifest of too much": (WIRE, {"manifest": lambda liar, path: answer(liar.manifest(path, size_bytes=1 << 29))}),
    "a manifest of nothing": (WIRE, {"manifest": lambda liar, path: answer(liar.manifest(path, size_bytes=0))}),
    "a manifest with a path": (WIRE, {"manifest": lambda liar, path: answer(liar.manifest(path, sha256="../x"))}),
    "all instead of a range": (WIRE, {"snapshot": lambda liar, _: answer(liar.wire)}),
    "another range": (WIRE, {"snapshot": lambda liar, _: answer(liar.wire, 206, Content_Range="bytes 5-9/10")}),
    "less than the range": (
        WIRE,
        {"snapshot": lambda liar, _: answer(b"x", 206, Content_Range=f"bytes 0-{len(liar.wire) - 1}/{len(liar.wire)}")},
    ),
    "no snapshot after all": (WIRE, {"snapshot": lambda *_: answer(b"", 404)}),
    "busy for ever": (WIRE, {"snapshot": lambda *_: answer(b"", 503)}),
    "nothing at all": (WIRE, {"snapshot": lambda *_: b""}),
    "what is not compressed": (b"plain", {}),
    "a bomb": (BOMB, {}),
}


@pytest.mark.parametrize("what", TRANSFER_LIES)
def test_a_transfer_that_is_a_lie_comes_to_an_end(good: Device, what: str) -> None:
    wire_bytes, lies = TRANSFER_LIES[what]

    async def play() -> None:
        async with linked(good), Liar(lies, wire_bytes) as liar:
            greeting = await good.link.greet(liar.endpoint)
            began_s = time.monotonic()
            with pytest.raises((LinkLost, PeerFault)):
                await good.link.fetch(greeting.peer, b"d" * 32, max_bytes=4 << 20)
            assert time.monotonic() - began_s < PATIENCE_S

    really(play)
