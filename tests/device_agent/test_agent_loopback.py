"""The loopback world: time that jumps, air with a range, and a gateway in the same process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from flask import Flask, abort, request

from device_agent.errors import LinkLost, PeerFault
from device_agent.learning.worker import Measured
from device_agent.link import Greeting
from device_agent.loopback.clock import VirtualClock, VirtualLoop, WorldStalled
from device_agent.loopback.contacts import Contact
from device_agent.loopback.world import Air, InProcessTransport, World, wait_virtually
from device_agent.radio import Endpoint, PeerId, Sighting
from device_agent.transport import Request, Response
from models.packing import pack

T = TypeVar("T")
A, B, C = (PeerId(name) for name in "abc")
AIR = Air(sighting_every_s=5, latency_s=1, bytes_per_s=100)


def virtually(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def now_s() -> float:
    return asyncio.get_running_loop().time()


# -- clock ------------------------------------------------------------------------------------------------------------


def test_hours_pass_in_no_time_and_in_order() -> None:
    seen: list[tuple[float, str]] = []

    async def sleeper(name: str, *naps_s: float) -> None:
        for nap_s in naps_s:
            await asyncio.sleep(nap_s)
            seen.append((now_s(), name))

    async def main() -> None:
        await asyncio.gather(sleeper("long", 7200), sleeper("short", 3600, 3599, 2))

    began_s = time.monotonic()
    virtually(main())
    assert time.monotonic() - began_s < 2
    assert seen == [(3600, "short"), (7199, "short"), (7200, "long"), (7201, "short")]


def test_timeouts_and_locks_work_in_virtual_time() -> None:
    async def main() -> float:
        lock = asyncio.Lock()
        await lock.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(500):
                await lock.acquire()
        return now_s()

    assert virtually(main()) == 500


def test_a_world_in_which_nothing_is_due_ever_is_told() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        with pytest.raises(WorldStalled):
            runner.run(main())
        for task in asyncio.all_tasks(runner.get_loop()):
            task.cancel()


def test_the_clock_tells_the_loops_time_and_an_epoch() -> None:
    async def main() -> tuple[float, float]:
        clock = VirtualClock(asyncio.get_running_loop(), epoch_s=1_000_000)
        await asyncio.sleep(12.5)
        return clock.monotonic_s(), clock.wall_s()

    assert virtually(main()) == (12.5, 1_000_012.5)


# -- radios and links -------------------------------------------------------------------------------------------------


def in_world(play: Callable[[World], Coroutine[Any, Any, T]], *contacts: Contact) -> T:
    """Run `play` in a world of three devices while contacts happen."""

    async def main() -> T:
        world = World(AIR, [A, B, C])
        playing = asyncio.ensure_future(world.play(contacts, [A, B, C]))
        try:
            return await play(world)
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)

    return virtually(main())


AB = Contact(start_s=10, end_s=30, a=0, b=1)


def test_devices_hear_each_other_while_they_are_in_range() -> None:
    async def play(world: World) -> list[Sighting]:
        heard: list[Sighting] = []

        async def listen() -> None:
            async for one in world.radios[B].sightings():
                heard.append(one)

        listening = asyncio.ensure_future(listen())
        await asyncio.sleep(100)
        listening.cancel()
        return heard

    heard = in_world(play, AB)
    assert [(one.radio_id, one.seen_at_s) for one in heard] == [(A, 10), (A, 15), (A, 20), (A, 25)]


def test_range_begins_and_ends_with_the_contact() -> None:
    async def play(world: World) -> list[bool]:
        found = []
        for at_s in (9, 11, 29, 31):
            await asyncio.sleep(at_s - now_s())
            found.append(world.in_range(A, B) and world.in_range(B, A))
            assert not world.in_range(A, C)
        return found

    assert in_world(play, AB) == [False, True, True, False]


def test_a_message_takes_latency_and_bytes_and_arrives() -> None:
    async def play(world: World) -> tuple[list[tuple[PeerId, bytes]], float]:
        got: list[tuple[PeerId, bytes]] = []
        world.links[B].attach(lambda peer, data: got.append((peer, data)), lambda *_: None, print)
        await asyncio.sleep(11)
        await world.links[A].send(B, b"x" * 200)
        return got, now_s()

    assert in_world(play, AB) == ([(A, b"x" * 200)], 14)


def test_a_link_out_of_range_or_to_nobody_or_cut_on_the_way_is_lost() -> None:
    async def play(world: World) -> None:
        world.links[B].attach(lambda *_: pytest.fail("nothing may arrive"), lambda *_: b"y", print)
        with pytest.raises(LinkLost, match="b is out of range"):
            await world.links[A].send(B, b"x")
        await asyncio.sleep(11)
        with pytest.raises(LinkLost, match="a does not answer"):
            await world.links[B].send(A, b"x")
        with pytest.raises(LinkLost, match="during a transfer"):
            await world.links[A].send(B, b"x" * 5_000)
        with pytest.raises(LinkLost, match="out of range"):
            await world.links[A].fetch(B, b"d" * 32, max_bytes=10)

    in_world(play, AB)


def test_a_fetch_gives_what_is_served_and_nothing_else() -> None:
    served = {b"d" * 32: b"z" * 100}

    async def play(world: World) -> tuple[bytes, float]:
        world.links[B].attach(lambda *_: None, lambda _, digest: served.get(digest), print)
        await asyncio.sleep(11)
        with pytest.raises(PeerFault, match="does not hand out"):
            await world.links[A].fetch(B, b"e" * 32, max_bytes=1000)
        with pytest.raises(PeerFault, match="100 bytes, more than 99"):
            await world.links[A].fetch(B, b"d" * 32, max_bytes=99)
        began_s = now_s()
        return await world.links[A].fetch(B, b"d" * 32, max_bytes=100), now_s() - began_s

    data, took_s = in_world(play, AB)
    assert data == b"z" * 100
    assert took_s == pytest.approx(1 + 0.64 + 1 + len(pack(data)) / 100)


def test_a_greeting_tells_both_who_the_other_is() -> None:
    async def play(world: World) -> tuple[list[Greeting], Greeting]:
        met: list[Greeting] = []
        world.links[B].attach(lambda *_: None, lambda *_: None, met.append)
        there = Endpoint(host=B, port=1)
        with pytest.raises(LinkLost, match="out of range"):
            await world.links[A].greet(there)
        await asyncio.sleep(11)
        return met, await world.links[A].greet(there)

    met, answer = in_world(play, AB)
    assert [one.peer for one in met] == [A]
    assert answer.peer == B


# -- transport and work -----------------------------------------------------------------------------------------------


def test_requests_reach_the_application_and_take_no_time() -> None:
    app = Flask("test")

    @app.put("/echo/<name>")
    def echo(name: str) -> tuple[bytes, int]:
        return name.encode() + request.data + b": " + request.args["q"].encode(), 201

    @app.get("/no")
    def no() -> str:
        abort(404)

    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError("a bug")

    app.testing = True

    async def main() -> float:
        way = InProcessTransport(app)

        async def ask(method: str, target: str, body: bytes = b"") -> Response:
            return await way.ask(Request(method=method, target=target, body=body), silence_s=1, max_bytes=100)

        assert await ask("PUT", "/echo/hi?q=1%202", b" there") == Response(status=201, body=b"hi there: 1 2")
        assert (await ask("GET", "/no")).status == 404
        with pytest.raises(RuntimeError, match="a bug"):
            await ask("GET", "/broken")
        return now_s()

    assert virtually(main()) == 0


def test_a_job_takes_as_long_as_the_device_would() -> None:
    class Process:
        def give(self, task: object) -> int:
            return int(str(task))

        def answer(self, ticket: int) -> Measured:
            return Measured(correct=(ticket,), total=now_s_int())

    def now_s_int() -> int:
        return int(now_s())

    assert virtually(wait_virtually(50.0)(Process(), "3", 200)) == Measured(correct=(3,), total=4)  # type: ignore[arg-type]
