"""Two devices' links over this machine's loopback interface, with real TLS."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.identity import Identity
from device_agent.clock import SystemClock
from device_agent.link import Greeting
from device_agent.link.lan import LanLink
from device_agent.link.limits import Limits
from device_agent.radio import Endpoint, PeerId, RadioId

T = TypeVar("T")

QUICK = Limits(handshake_s=1, unknown_s=1, answer_s=1, idle_s=1, patience_s=2, spare_bytes=1 << 20)
"""Bounds that a test does not wait long for."""


class WrongClock(SystemClock):
    """A device's clock, wrong by some seconds."""

    def __init__(self, wrong_by_s: float = 0) -> None:
        self.wrong_by_s = wrong_by_s

    def wall_s(self) -> float:
        return super().wall_s() + self.wrong_by_s


@dataclass
class Device:
    """One device's link, what arrived on it, and what it hands out."""

    name: str
    folder: Path
    limits: Limits = QUICK
    wrong_by_s: float = 0
    account: str | None = None
    snapshots: dict[bytes, bytes] = field(default_factory=dict)
    messages: list[tuple[PeerId, bytes]] = field(default_factory=list)
    greetings: list[Greeting] = field(default_factory=list)
    told: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.identity = Identity(_secret(f"account of {self.account or self.name}"))
        self.key = _secret(f"link of {self.name}")
        self.public = Ed25519PrivateKey.from_private_bytes(self.key).public_key().public_bytes_raw()
        self.radio_id = RadioId(_secret(f"radio of {self.name}").hex()[:16])
        self.link = self.fresh_link()

    @property
    def peer(self) -> PeerId:
        return PeerId(self.identity.address)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(host="127.0.0.1", port=self.link.port)

    def fresh_link(self) -> LanLink:
        link = LanLink(
            identity=self.identity,
            key=self.key,
            radio_id=lambda: self.radio_id,
            clock=WrongClock(self.wrong_by_s),
            random_bytes=os.urandom,
            parts=self.folder / self.name,
            observe=lambda name, **fields: self.told.append({"name": name} | fields),
            limits=self.limits,
        )
        link.attach(
            lambda peer, message: self.messages.append((peer, message)),
            lambda _, digest: self.snapshots.get(digest),
            self.greetings.append,
        )
        return link

    async def open(self, port: int = 0) -> Device:
        await self.link.open("127.0.0.1", port)
        return self

    async def restart(self) -> None:
        """End its link and begin anew at the same port, with nothing in memory."""
        port = self.link.port
        await self.link.close()
        self.link = self.fresh_link()
        await self.link.open("127.0.0.1", port)

    def holds(self, snapshot: bytes) -> bytes:
        """Let it hand out a snapshot; return the digest."""
        digest = hashlib.sha256(snapshot).digest()
        self.snapshots[digest] = snapshot
        return digest


@asynccontextmanager
async def linked(*devices: Device) -> AsyncIterator[None]:
    """Open the devices' links, and close them."""
    for one in devices:
        await one.open()
    try:
        yield
    finally:
        for one in devices:
            await one.link.close()


def really(coroutine: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in real time."""
    return asyncio.run(coroutine())


def noise(size_bytes: int) -> bytes:
    """Bytes that nothing can compress, always the same."""
    return hashlib.shake_256(b"noise").digest(size_bytes)


def _secret(of: str) -> bytes:
    return hashlib.sha256(of.encode()).digest()
