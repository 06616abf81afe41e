"""The air between simulated devices: who is in range, what they hear, how long bytes take.

Each device gets the real interfaces (`Radio`, `Link`) with memory behind them, and a transport into the real
gateway application.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from flask import Flask

from device_agent.errors import LinkLost, PeerFault
from device_agent.learning.local import Process, Wait
from device_agent.learning.worker import Answer, Task
from device_agent.link import Deliver, Greeted, Greeting, Serve
from device_agent.loopback.contacts import Contact
from device_agent.radio import Endpoint, Medium, PeerId, RadioId, Sighting
from device_agent.transport import Request, Response
from models.packing import pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Air:
    """How radio and link behave. Times in seconds, rate in bytes per second."""

    sighting_every_s: float
    latency_s: float
    bytes_per_s: float


class World:
    """All devices' radios and links, and the contacts between them."""

    def __init__(self, air: Air, peers: Iterable[PeerId]) -> None:
        self.air = air
        self.radios = {peer: LoopbackRadio() for peer in peers}
        self.accounts: dict[PeerId, str] = {}
        self.links = {peer: LoopbackLink(peer, self) for peer in self.radios}
        self._in_range: Counter[frozenset[PeerId]] = Counter()  # contacts under way

    def in_range(self, a: PeerId, b: PeerId) -> bool:
        """Return whether two devices hear each other now."""
        return self._in_range[frozenset((a, b))] > 0

    async def play(self, contacts: Iterable[Contact], names: list[PeerId]) -> None:
        """Let the contacts (sorted by start) happen, each device seeing the other while one lasts."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            for contact in contacts:
                await asyncio.sleep(max(0.0, contact.start_s - loop.time()))
                length_s = contact.end_s - contact.start_s
                tasks.create_task(self._meet(names[contact.a], names[contact.b], length_s))

    async def _meet(self, a: PeerId, b: PeerId, length_s: float) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + length_s
        self._in_range[frozenset((a, b))] += 1
        try:
            while (left_s := end_s - loop.time()) > 0:
                for here, there in ((a, b), (b, a)):
                    self.radios[here].hear(there, loop.time())
                await asyncio.sleep(min(left_s, self.air.sighting_every_s))
        finally:
            self._in_range[frozenset((a, b))] -= 1


class LoopbackRadio:
    """A device's radio: yields what the world lets it hear."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[Sighting] = asyncio.Queue()

    def hear(self, peer: PeerId, at_s: float) -> None:
        """Let this radio see a peer."""
        self._heard.put_nowait(
            Sighting(radio_id=RadioId(peer), seen_at_s=at_s, medium=Medium.LOOPBACK, endpoint=_endpoint(peer))
        )

    async def sightings(self) -> AsyncIterator[Sighting]:
        """See `device_agent.radio.Radio`."""
        while True:
            yield await self._heard.get()


class LoopbackLink:
    """A device's end of the links to all peers in range."""

    def __init__(self, own: PeerId, world: World) -> None:
        self._own = own
        self._world = world
        self._deliver: Deliver | None = None
        self._serve: Serve | None = None
        self._greeted: Greeted | None = None

    def attach(self, deliver: Deliver, serve: Serve, greeted: Greeted) -> None:
        """See `device_agent.link.Link`."""
        self._deliver, self._serve, self._greeted = deliver, serve, greeted

    def account(self, peer: PeerId) -> str | None:
        """See `device_agent.link.Link`."""
        return self._world.accounts.get(peer)

    async def greet(self, endpoint: Endpoint) -> Greeting:
        """See `device_agent.link.Link`. A device's name is its radio id and its endpoint; a greeting takes no time."""
        peer = PeerId(endpoint.host)
        if not self._world.in_range(self._own, peer):
            raise LinkLost(f"{peer} is out of range")
        greeted = self._world.links[peer]._greeted
        if greeted is None:
            raise LinkLost(f"{peer} does not answer")
        greeted(_greeting(self._own))
        return _greeting(peer)

    async def send(self, peer: PeerId, message: bytes) -> None:
        """See `device_agent.link.Link`."""
        await self._cross(peer, len(message))
        deliver = self._world.links[peer]._deliver
        if deliver is None:
            raise LinkLost(f"{peer} does not answer")
        deliver(self._own, message)

    async def fetch(self, peer: PeerId, digest: bytes, *, max_bytes: int) -> bytes:
        """See `device_agent.link.Link`."""
        await self._cross(peer, 64)
        serve = self._world.links[peer]._serve
        data = None if serve is None else serve(self._own, digest)
        if data is None:
            raise PeerFault(f"{peer} does not hand out {digest.hex()}")
        if len(data) > max_bytes:
            raise PeerFault(f"{peer} sends {len(data)} bytes, more than {max_bytes}")
        await self._cross(peer, len(pack(data)))
        return data

    async def _cross(self, peer: PeerId, size_bytes: int) -> None:
        if not self._world.in_range(self._own, peer):
            raise LinkLost(f"{peer} is out of range")
        await asyncio.sleep(self._world.air.latency_s + size_bytes / self._world.air.bytes_per_s)
        if not self._world.in_range(self._own, peer):
            raise LinkLost(f"{peer} went out of range during a transfer")


def _endpoint(peer: PeerId) -> Endpoint:
    return Endpoint(host=peer, port=1)


def _greeting(peer: PeerId) -> Greeting:
    return Greeting(peer=peer, radio_id=RadioId(peer), endpoint=_endpoint(peer))


class InProcessTransport:
    """Hands HTTP requests to a Flask application in this process, through its WSGI interface."""

    def __init__(self, app: Flask) -> None:
        self._client = app.test_client(use_cookies=False)

    async def ask(self, request: Request, *, silence_s: float, max_bytes: int) -> Response:
        """Serve one request; it takes no virtual time. A fault of the application is raised."""
        headers = dict(request.headers)
        with self._client.open(request.target, method=request.method, data=request.body, headers=headers) as answer:
            encoding = answer.headers.get("Content-Encoding", "")
            return Response(status=answer.status_code, body=answer.get_data(), encoding=encoding)

    async def close(self) -> None:
        """Nothing is open."""


def wait_virtually(images_per_s: float) -> Wait:
    """Return how a simulated device waits for a job: as long as it would compute, in virtual time.

    The child process works meanwhile; if it is not done when the virtual time is over, the world stands still until
    it is. So the order of events does not depend on the speed of this machine.
    """

    async def wait(process: Process, task: Task, images: int) -> Answer:
        ticket = process.give(task)
        await asyncio.sleep(images / images_per_s)
        return process.answer(ticket)

    return wait
