"""The way to a gateway over sockets, for real: what is sent, and what is made of whatever comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from device_agent.errors import GatewayUnreachable
from device_agent.transport import HttpTransport, Request, Response

SILENCE_S = 0.5
GET = Request(method="GET", target="/v1/jobs?validator=0x1%2F2&wait_s=5", headers={"X-Was": "here"})
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def asked(serve: Serve, request: Request = GET, *, max_bytes: int = 1000, times: int = 1) -> list[Response]:
    """Ask a server, one time after the other."""

    async def main() -> list[Response]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        way = HttpTransport(f"http://{host}:{port}")
        try:
            return [await way.ask(request, silence_s=SILENCE_S, max_bytes=max_bytes) for _ in range(times)]
        finally:
            await way.close()
            server.close()
            await server.wait_closed()

    return asyncio.run(main())


def saying(said: bytes, heard: list[bytes] | None = None, *, endless: bytes = b"", silent: bool = False) -> Serve:
    """A server that says the same to everyone, goes on with `endless` for as long as it is heard, or is silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split()[1]) for line in head.lower().splitlines() if b"content-length" in line), 0)
        body = await reader.readexactly(length)
        if heard is not None:
            heard.append(head + body)
        writer.write(said)
        await writer.drain()
        while endless:
            writer.write(endless)
            await writer.drain()
        if silent:
            await reader.read()

    return serve


def test_what_is_asked_goes_out_as_it_is_signed() -> None:
    heard: list[bytes] = []
    saying_ok = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", heard)
    post = Request(method="POST", target="/a%20b", body=b"{}", headers={"Content-Type": "application/json"})
    assert asked(saying_ok) == [Response(status=200, body=b"ok")]
    assert asked(saying_ok, post) == [Response(status=200, body=b"ok")]
    assert heard[0].startswith(b"GET /v1/jobs?validator=0x1%2F2&wait_s=5 HTTP/1.1\r\n")
    assert b"\r\nX-Was: here\r\n" in heard[0]
    assert heard[1].startswith(b"POST /a%20b HTTP/1.1\r\n")
    assert heard[1].endswith(b"\r\n\r\n{}")
    assert heard[1].count(b"Content-Type") == 1


def test_a_connection_is_kept_and_a_new_one_made_when_it_is_gone() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    assert asked(serve, times=5) == [Response(status=204, body=b"")] * 5
    assert connections == 3


@pytest.mark.parametrize("status", [301, 307, 401, 404, 500, 599])
def test_every_status_is_an_answer_and_nobody_is_led_elsewhere(status: int) -> None:
    head = f"HTTP/1.1 {status} X\r\nLocation: http://10.255.255.1/\r\nSet-Cookie: a=b\r\nContent-Length: 1\r\n\r\n!"
    assert asked(saying(head.encode())) == [Response(status=status, body=b"!")]


def test_an_encoded_body_is_left_as_it_is() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbomb"
    assert asked(saying(head)) == [Response(status=200, body=b"bomb", encoding="gzip")]


@pytest.mark.parametrize("head", [b"Content-Length: 1000000000", b"Transfer-Encoding: chunked", b"X: without a length"])
def test_an_endless_body_is_read_no_further_than_needed(head: bytes) -> None:
    (answer,) = asked(saying(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", endless=b"ff\r\n" + b"x" * 255 + b"\r\n"))
    assert 1000 < len(answer.body) < 1 << 18


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\0" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 twohundred OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    ],
)
def test_what_is_no_answer_counts_as_none(said: bytes) -> None:
    with pytest.raises(GatewayUnreachable):
        asked(saying(said))


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"])
def test_who_falls_silent_is_not_waited_for(said: bytes) -> None:
    with pytest.raises(GatewayUnreachable, match="Timeout"):
        asked(saying(said, silent=True))


def test_nobody_there_counts_as_no_answer() -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        for origin in (f"http://127.0.0.1:{port}", "http://nowhere.invalid", "http://127.0.0.1:99999"):
            way = HttpTransport(origin)
            with pytest.raises(GatewayUnreachable):
                await way.ask(GET, silence_s=SILENCE_S, max_bytes=1)
            await way.close()

    asyncio.run(main())
