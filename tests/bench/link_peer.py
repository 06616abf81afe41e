"""The two ends of `transfer_ratio`, each a process on a host of its own.

link_peer.py serve HOST          prints the ports of the link and of plain TLS, and the digest; ends with its
                                 input
link_peer.py fetch HOST PORT PLAIN_PORT DIGEST ROUNDS    prints the seconds of each [link, plain], as JSON
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.identity import Identity
from device_agent.clock import SystemClock
from device_agent.link.lan import LanLink
from device_agent.link.tls import client_context, server_context
from device_agent.radio import Endpoint, RadioId

SIZE_BYTES = 20 << 20
BLOCK_BYTES = 256 << 10


def _nothing(*_: Any, **__: Any) -> None:
    return None


def a_link(folder: str) -> LanLink:
    return LanLink(
        identity=Identity(os.urandom(32)),
        key=os.urandom(32),
        radio_id=lambda: RadioId("0" * 16),
        clock=SystemClock(),
        random_bytes=os.urandom,
        parts=Path(folder),
        observe=_nothing,
    )


async def serve(host: str) -> None:
    snapshot = os.urandom(SIZE_BYTES)
    digest = hashlib.sha256(snapshot).digest()
    with tempfile.TemporaryDirectory() as folder:
        link = a_link(folder)
        link.attach(_nothing, lambda _, asked: snapshot if asked == digest else None, _nothing)
        await link.open(host)
        plain = socket.create_server((host, 0))
        threading.Thread(target=_plain, args=(plain, snapshot), daemon=True).start()
        print(link.port, plain.getsockname()[1], digest.hex(), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await link.close()


def _plain(listening: socket.socket, data: bytes) -> None:
    context = server_context(Ed25519PrivateKey.generate())
    while True:
        with context.wrap_socket(listening.accept()[0], server_side=True) as connection:
            connection.recv(1)
            view = memoryview(data)
            for at in range(0, len(data), BLOCK_BYTES):
                connection.sendall(view[at : at + BLOCK_BYTES])


def _plainly(host: str, port: int) -> float:
    """Seconds for the same number of bytes, kept in memory as a link keeps them."""
    began_s = time.perf_counter()
    with client_context().wrap_socket(socket.create_connection((host, port))) as connection:
        connection.sendall(b"x")
        data = memoryview(bytearray(SIZE_BYTES))
        got = 0
        while got < SIZE_BYTES:
            got += connection.recv_into(data[got : got + BLOCK_BYTES])
    return time.perf_counter() - began_s


async def fetch(host: str, port: int, plain_port: int, digest: bytes, rounds: int) -> None:
    took = []
    with tempfile.TemporaryDirectory() as folder:
        link = a_link(folder)
        await link.open(host="")
        greeting = await link.greet(Endpoint(host=host, port=port))
        for _ in range(rounds + 1):
            plain_s = _plainly(host, plain_port)
            began_s = time.perf_counter()
            found = await link.fetch(greeting.peer, digest, max_bytes=SIZE_BYTES * 2)
            took.append([time.perf_counter() - began_s, plain_s])
            assert len(found) == SIZE_BYTES
        await link.close()
    print(json.dumps(took[1:]), flush=True)  # the first packs it, and opens what is open from then on


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    else:
        asyncio.run(
            fetch(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), bytes.fromhex(sys.argv[5]), int(sys.argv[6]))
        )
