"""How requests get to a gateway: over sockets, or, passed in instead, to an application in the same process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
from yarl import URL

from device_agent.errors import GatewayUnreachable
from device_agent.pinning import pinned_context

_CONNECT_S = 5.0
"""Less than for an answer: a gateway out of reach is the usual case in the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked.

    Attributes:
        method: of HTTP.
        target: path and query, percent-encoded, as it is signed.
        body: all of it.
        headers: besides those of the transport.
    """

    method: str
    target: str
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back.

    Attributes:
        status: of HTTP.
        body: as it was sent, whatever its encoding.
        encoding: of the body, "" for none.
    """

    status: int
    body: bytes = field(repr=False)
    encoding: str = ""


class Transport(Protocol):
    """A way to one gateway."""

    async def ask(self, request: Request, *, silence_s: float, max_bytes: int) -> Response:
        """Ask once; of a body that is longer than `max_bytes`, return a little more than that.

        Raises `GatewayUnreachable` if no whole answer came, or none for `silence_s`.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class HttpTransport:
    """HTTP/1.1 over sockets, connections kept. It follows no redirects and keeps no cookies: nobody here needs them."""

    def __init__(self, origin: str, *, fingerprint: bytes | None = None) -> None:
        """Connect to nothing yet.

        Args:
            origin: scheme, host and port.
            fingerprint: SHA-256 of the server's certificate: nothing is sent to who has another one.

        Raises `ValueError` for a fingerprint where there is no TLS.
        """
        if fingerprint is not None and not origin.startswith("https://"):
            raise ValueError(f"a gateway with a fingerprint is at https://..., not at {origin}")
        self._origin = origin
        self._tls = True if fingerprint is None else pinned_context(fingerprint)
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, request: Request, *, silence_s: float, max_bytes: int) -> Response:
        """See `Transport`."""
        if self._session is None:  # it belongs to a running loop
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        try:
            async with self._session.request(
                request.method,
                URL(self._origin + request.target, encoded=True),
                data=request.body or None,
                headers=request.headers,
                timeout=aiohttp.ClientTimeout(sock_connect=min(silence_s, _CONNECT_S), sock_read=silence_s),
                ssl=self._tls,
                allow_redirects=False,
            ) as response:
                body = bytearray()
                async for part in response.content.iter_any():
                    body += part
                    if len(body) > max_bytes:
                        break  # the rest is not even read
                encoding = response.headers.get("Content-Encoding", "")
                return Response(status=response.status, body=bytes(body), encoding=encoding)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise GatewayUnreachable(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """See `Transport`."""
        if self._session is not None:
            await self._session.close()
            self._session = None
