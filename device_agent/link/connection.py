"""One TLS connection to a peer, for threads: it blocks, and a silent or endless peer costs bounded time and memory."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from device_agent.errors import LinkLost, PeerFault
from device_agent.link.limits import Limits
from device_agent.link.parts import Part
from device_agent.link.tls import client_context, key_of
from device_agent.radio import Endpoint

_BLOCK_BYTES = 16 << 10
"""As much as a TLS record holds."""
_SHOWN = 120
_FAULTS = (OSError, http.client.HTTPException, ValueError)
"""What sockets, TLS and HTTP raise; ValueError, where another thread has closed the connection meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a peer answered."""

    status: int
    body: bytes


class Connection:
    """To one endpoint. One thread uses it at a time; `abort` may be called from any other."""

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._http: http.client.HTTPConnection | None = None
        self._socket: ssl.SSLSocket | None = None
        self._response: http.client.HTTPResponse | None = None

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed."""
        return self._socket is not None

    def open(self) -> bytes:
        """Connect; return the link key of who answers. Raises `LinkLost`, or `PeerFault` for a useless certificate."""
        try:
            raw = socket.create_connection((self._endpoint.host, self._endpoint.port), timeout=self._limits.handshake_s)
            try:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket = client_context().wrap_socket(raw)
            except BaseException:
                raw.close()
                raise
        except _FAULTS as error:
            raise self._lost(error) from error
        self._http = http.client.HTTPConnection("idml")
        self._http.sock = self._socket
        self._socket.settimeout(self._limits.answer_s)
        return key_of(self._socket.getpeercert(binary_form=True))

    def ask(
        self, method: str, path: str, *, max_bytes: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and read its answer.

        Raises `LinkLost`, or `PeerFault` for an answer of more than `max_bytes`, or one that does not say its length.
        """
        try:
            response = self._request(method, path, body, headers or {})
            data = _body(response, max_bytes)
        except PeerFault:
            self.close()
            raise
        except _FAULTS as error:
            self.close()
            raise self._lost(error) from error
        return Answer(status=response.status, body=data)

    def download(self, path: str, part: Part, *, deadline_s: float, headers: Mapping[str, str]) -> int:
        """Fetch the rest of a part, until `deadline_s` (`time.monotonic`).

        Returns the status: 206, or another one where nothing was received. Raises `LinkLost` if the connection breaks,
        `PeerFault` if the peer sends other bytes than were asked for, `StorageFault` from the part.
        """
        start, size_bytes = part.received, part.size_bytes
        try:
            response = self._request("GET", path, b"", {"Range": f"bytes={start}-", **headers})
            if response.status != http.client.PARTIAL_CONTENT:
                return response.status
            if response.headers.get("Content-Range") != f"bytes {start}-{size_bytes - 1}/{size_bytes}":
                raise PeerFault("the peer sends another range than the one asked for")
            if response.length != size_bytes - start:
                raise PeerFault("the peer sends more or less than the range asked for")
            self._timeout(self._limits.idle_s)
            while part.received < size_bytes:
                # `readinto` waits until all of it is there; if the peer falls silent before that, all of it is lost.
                data = response.read1(_BLOCK_BYTES)
                if not data:
                    raise OSError("the peer hung up")
                part.add(data)
                if time.monotonic() > deadline_s:
                    raise OSError("the transfer is too slow")
        except _FAULTS as error:
            self.close()
            raise self._lost(error) from error
        return response.status

    def abort(self) -> None:
        """End whatever another thread does with it."""
        found = self._socket
        if found is not None:
            with suppress(OSError):
                socket.socket.shutdown(found, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; it can be opened again."""
        self.abort()
        if self._response is not None:
            self._response.close()  # it keeps the socket open where it was not read to its end
        if self._http is not None:
            self._http.close()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._http = self._socket = self._response = None

    def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        if self._http is None:
            raise OSError("not connected")
        self._timeout(self._limits.answer_s)
        self._http.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            self._http.putheader(name, value)
        if body or method == "POST":
            self._http.putheader("Content-Length", str(len(body)))
        self._http.endheaders(body or None)
        self._response = self._http.getresponse()
        return self._response

    def _timeout(self, seconds: float) -> None:
        if self._socket is None:
            raise OSError("not connected")
        self._socket.settimeout(seconds)

    def _lost(self, why: object) -> LinkLost:
        said = str(why) or type(why).__name__
        plain = "".join(one if one.isprintable() else "?" for one in said[:_SHOWN])  # it may quote the peer
        return LinkLost(f"{self._endpoint}: {plain}")


def _body(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """Read a body whose length is known before: of a chunk of length -1, http.client reads for as long as it comes."""
    size_bytes = response.length
    if size_bytes is None:
        raise PeerFault("an answer that does not say its length")
    if size_bytes > max_bytes:
        raise PeerFault(f"an answer of {size_bytes} bytes; at most {max_bytes} are read")
    data = response.read(size_bytes)
    if len(data) < size_bytes:
        raise OSError("the peer hung up")
    return data
