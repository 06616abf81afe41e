"""A whole agent process as a device runs it, for measuring: real clock, real HTTP, nobody near.

Prints "joined" once its stake is on chain, then lives until its standard input is closed.
"""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from contracts.identity import Identity
from device_agent.agent import Agent
from device_agent.clock import SystemClock
from device_agent.errors import LinkLost
from device_agent.gateway import GatewayClient
from device_agent.health import vitals_reader
from device_agent.journal import Journal
from device_agent.learning import Model
from device_agent.learning.local import LocalAssessor, LocalTrainer, TrainingRates
from device_agent.learning.oppcl import OppCL
from device_agent.learning.worker import Child, Kind, LocalData
from device_agent.link import Deliver, Greeted, Greeting, Serve
from device_agent.radio import Endpoint, PeerId, RadioId, Sighting
from device_agent.settings import Settings
from models.registry import named
from models.snapshot import Codec, size_bytes


class Nobody:
    """A radio that hears nothing, and a link to nobody."""

    async def sightings(self) -> AsyncIterator[Sighting]:
        await asyncio.Event().wait()
        yield Sighting(radio_id=RadioId(""), seen_at_s=0.0, medium=next(iter([])))

    def attach(self, deliver: Deliver, serve: Serve, greeted: Greeted) -> None:
        pass

    async def greet(self, endpoint: Endpoint) -> Greeting:
        raise LinkLost(f"{endpoint} is not here")

    async def send(self, peer: PeerId, message: bytes) -> None:
        raise LinkLost(f"{peer} is not here")

    async def fetch(self, peer: PeerId, digest: bytes, *, max_bytes: int) -> bytes:
        raise LinkLost(f"{peer} is not here")


async def live(gateway_url: str, folder: Path, key: bytes) -> None:
    arch = named("cnn6-28x28x1")
    rows = range(100)
    nobody = Nobody()
    data = LocalData(dataset="fashion-mnist", root=None, rows=list(rows))
    rates = TrainingRates(batch_size=32, learning_rate=0.05, momentum=0.0)
    trainer = LocalTrainer(Child(Kind.TRAINING), data, arch, codec=Codec.INT8, rates=rates, seed=1)
    snapshot = bytes(size_bytes(arch, Codec.INT8))

    def observe(name: str, **_fields: object) -> None:
        if name == "joined":
            print("joined", flush=True)

    agent = Agent(
        radios=[nobody],
        link=nobody,
        adapter=OppCL(trainer, max_rounds=3, own_steps=3),
        assessor=LocalAssessor(Child(Kind.VALIDATION), data, arch),
        gateway=GatewayClient(gateway_url),
        clock=SystemClock(),
        journal=Journal(folder / "journal.sqlite"),
        identity=Identity(key),
        architecture=arch,
        initial=Model(data=snapshot, digest=bytes(32), age=0),
        settings=Settings(
            reward=10**18, tolerance_bps=200, parameter_set=0, stake=30 * 10**18, poll_s=1, jobs_poll_s=1
        ),
        vitals=vitals_reader(folder),
        random_bytes=secrets.token_bytes,
        observe=observe,
    )
    running = asyncio.create_task(agent.run())
    closed = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([running, closed], return_when=asyncio.FIRST_COMPLETED)
    running.cancel()


if __name__ == "__main__":
    asyncio.run(live(sys.argv[1], Path(sys.argv[2]), bytes.fromhex(sys.argv[3])))
