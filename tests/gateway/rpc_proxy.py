"""A node that misbehaves on command: a JSON-RPC proxy on loopback in front of a real Anvil or Ganache.

with open_proxy(chain.web3.provider.endpoint_uri) as proxy:
    proxy.inject(Fault(kind=Kind.RESET, method="eth_sendRawTransaction", forwards=True))  # the reply is lost
    proxy.view = View(lag_blocks=3)
    proxy.go_down()
"""

import contextlib
import http.client
import json
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from rpc_view import Answer, View

HUGE_BYTES: Final = 8 << 20
RETRY_AFTER_S: Final = 7
_NODE_TIMEOUT_S: Final = 60.0
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


class Kind(Enum):
    """What a client sees of a fault."""

    RESET = "connection reset"
    DELAY = "delay"
    BUSY = "429 with Retry-After"
    BAD_GATEWAY = "502"
    NOT_JSON = "not JSON"
    OTHER_SHAPE = "JSON of another shape"
    TRUNCATED = "truncated body"
    HUGE = "huge body"
    ALREADY_KNOWN = "already known"
    NONCE_TOO_LOW = "nonce too low"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to some requests.

    Attributes:
        kind: what the client sees.
        method: of which requests, None = any.
        times: of how many of them, None = until `calm`.
        forwards: the node takes the request all the same. What is delayed is then the answer, else the request.
        delay_s: for `Kind.DELAY`.
    """

    kind: Kind
    method: str | None = None
    times: int | None = 1
    forwards: bool = False
    delay_s: float = 0.0


@dataclass(slots=True)
class _Injected:
    fault: Fault
    used: int = 0

    def fits(self, method: str) -> bool:
        fault = self.fault
        return fault.method in (None, method) and (fault.times is None or self.used < fault.times)


_BODIES: Final = {
    Kind.NOT_JSON: b"<html><body>Service under maintenance</body></html>",
    Kind.OTHER_SHAPE: b'{"jsonrpc": "2.0", "id": 1, "result": {"status": ["unexpected"], "queued": ["unexpected"]}}',
    Kind.HUGE: b'{"jsonrpc": "2.0", "id": 1, "result": "0x' + b"0" * HUGE_BYTES + b'"}',
}
_STATUS: Final = {Kind.BUSY: 429, Kind.BAD_GATEWAY: 502}
_ERRORS: Final = {Kind.ALREADY_KNOWN: "already known", Kind.NONCE_TOO_LOW: "nonce too low: next nonce 9, tx nonce 8"}


class Proxy:
    """One proxy. Safe to command while it serves.

    Attributes:
        node_url: where the true node listens; may be changed.
        view: how the node shows its chain; may be changed.
        requests: how many requests came, by method.
        injected: how many faults clients met, by kind.
        takes_batches: whether the node understands JSON-RPC batches; may be changed.
        batches: how many batches came.
        sends: the raw transactions that reached the node, in order, as hex text.
    """

    def __init__(self, node_url: str) -> None:
        """Listen on a free port of loopback."""
        self.node_url = node_url
        self.view = View()
        self.takes_batches = True
        self.batches = 0
        self.requests: Counter[str] = Counter()
        self.injected: Counter[Kind] = Counter()
        self.sends: list[str] = []
        self.ended = threading.Event()
        self._faults: list[_Injected] = []
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._port = 0
        self.come_up()

    @property
    def url(self) -> str:
        """Where clients find it, also while it is down."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def distinct_sends(self) -> int:
        """How many different raw transactions reached the node."""
        return len(set(self.sends))

    def inject(self, *faults: Fault) -> None:
        """Let faults happen from now on; of those that fit a request the one given first."""
        with self._lock:
            self._faults += map(_Injected, faults)

    def drop_faults(self) -> None:
        """Drop the faults that are left."""
        with self._lock:
            self._faults.clear()

    def calm(self) -> None:
        """Drop the faults that are left, and show the chain as the node does."""
        self.drop_faults()
        self.view = View()

    def go_down(self) -> None:
        """Drop all connections and refuse new ones."""
        if self._server is not None:
            self._server.end()
            self._server = None

    def come_up(self) -> None:
        """Listen again, at the same place."""
        if self._server is None:
            self._server = _Server(self, self._port)
            self._port = self._server.server_port

    def close(self) -> None:
        """End it, and every delay."""
        self.ended.set()
        self.go_down()

    def due(self, method: str) -> Fault | None:
        """Count a request, and return what happens to it."""
        with self._lock:
            self.requests[method] += 1
            one = next((one for one in self._faults if one.fits(method)), None)
            if one is None:
                return None
            one.used += 1
            self.injected[one.fault.kind] += 1
            return one.fault

    def answer(self, method: str, params: Sequence[Any]) -> Answer:
        """Return what the node in `view` answers. Raises OSError if the true node does not."""
        return self.view.answer(method, params, self._ask)

    def _ask(self, method: str, params: Sequence[Any]) -> Answer:
        parts = urlsplit(self.node_url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=_NODE_TIMEOUT_S)
        with contextlib.closing(connection):
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            told = json.loads(connection.getresponse().read())
        if method == "eth_sendRawTransaction":
            with self._lock:
                self.sends.append(str(params[0]))
        return {key: value for key, value in told.items() if key in ("result", "error")}


@contextlib.contextmanager
def open_proxy(node_url: str) -> Iterator[Proxy]:
    """Open a proxy in front of the node at a URL, and close it in the end."""
    proxy = Proxy(node_url)
    try:
        yield proxy
    finally:
        proxy.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for each

    def __init__(self, proxy: Proxy, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.proxy = proxy
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="rpc-proxy")
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        self.close_request(request)  # not shut down first: a reset would become an ordinary end

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is what this is for
            super().handle_error(request, client_address)

    def end(self) -> None:
        self.shutdown()
        self._thread.join()
        for one in tuple(self._connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait for the first to be told of

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:  # the client was killed while it asked
            self.close_connection = True
            return
        asked = json.loads(body)
        if isinstance(asked, list):
            self._answer_batch(asked)
            return
        proxy, method, params = self.server.proxy, asked["method"], asked.get("params", [])
        fault = proxy.due(method)
        if fault is None:
            self._tell(asked, method, params)
        elif fault.kind is Kind.DELAY:
            if fault.forwards:
                answer = proxy.answer(method, params)
                proxy.ended.wait(fault.delay_s)
                self._send_answer(asked, answer)
            else:
                proxy.ended.wait(fault.delay_s)
                self._tell(asked, method, params)
        else:
            if fault.forwards:
                proxy.answer(method, params)
            self._fail(fault.kind, asked)

    def _answer_batch(self, asked: list[dict[str, Any]]) -> None:
        """One after the other, as a node does. What befalls the connection at one of them befalls the whole answer."""
        proxy, answers = self.server.proxy, []
        proxy.batches += 1
        if not proxy.takes_batches:
            self._send_answer({}, {"error": {"code": -32600, "message": "batches are not supported"}})
            return
        for one in asked:
            method, params = one["method"], one.get("params", [])
            fault = proxy.due(method)
            if fault is not None and fault.kind not in (Kind.DELAY, *_ERRORS):
                if fault.forwards:
                    proxy.answer(method, params)
                self._fail(fault.kind, one)
                return
            answer: Answer = {"error": {"code": -32000, "message": _ERRORS.get(fault.kind)}} if fault else {}
            if fault is None or fault.forwards or fault.kind is Kind.DELAY:
                try:
                    told = proxy.answer(method, params)
                except (OSError, http.client.HTTPException, ValueError):
                    self._fail(Kind.BAD_GATEWAY, one)
                    return
                answer = told if fault is None or fault.kind is Kind.DELAY else answer
            if fault is not None and fault.kind is Kind.DELAY:
                proxy.ended.wait(fault.delay_s)
            answers.append({"jsonrpc": "2.0", "id": one.get("id"), **answer})
        self._send(json.dumps(answers).encode())

    def _tell(self, asked: dict[str, Any], method: str, params: Sequence[Any]) -> None:
        try:
            answer = self.server.proxy.answer(method, params)
        except (OSError, http.client.HTTPException, ValueError):  # the true node is down
            self._fail(Kind.BAD_GATEWAY, asked)
        else:
            self._send_answer(asked, answer)

    def _fail(self, kind: Kind, asked: dict[str, Any]) -> None:
        if kind is Kind.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            self.close_connection = True
        elif kind is Kind.TRUNCATED:
            self._send(b'{"jsonrpc": "2.0", "id": 1, "res', promised_bytes=4096)
            self.close_connection = True
        elif kind in _ERRORS:
            self._send_answer(asked, {"error": {"code": -32000, "message": _ERRORS[kind]}})
        else:
            self._send(_BODIES.get(kind, b"busy"), status=_STATUS.get(kind, 200))

    def _send_answer(self, asked: dict[str, Any], answer: Answer) -> None:
        self._send(json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), **answer}).encode())

    def _send(self, body: bytes, *, status: int = 200, promised_bytes: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(promised_bytes or len(body)))
        if status == 429:
            self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name it has there)
        """Nothing: tests count instead."""
