"""Two honest devices on the link: who they are, what they say, and transfers that go on where they were cut."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest
from cable import Cable
from link_rig import QUICK, Device, linked, noise, really

from device_agent.errors import LinkLost, PeerFault, StorageFault
from device_agent.radio import Endpoint, RadioId

MODEL = noise(3 << 20)
MOST = 8 << 20


@pytest.fixture
def a(tmp_path: Path) -> Device:
    return Device("a", tmp_path)


@pytest.fixture
def b(tmp_path: Path) -> Device:
    return Device("b", tmp_path)


# -- who is there -----------------------------------------------------------------------------------------------------


def test_a_greeting_tells_both_sides_who_the_other_is_and_where(a: Device, b: Device) -> None:
    async def play() -> None:
        async with linked(a, b):
            greeting = await a.link.greet(b.endpoint)
            assert (greeting.peer, greeting.radio_id, greeting.endpoint) == (b.peer, b.radio_id, b.endpoint)
            (met,) = b.greetings
            assert (met.peer, met.radio_id, met.endpoint) == (a.peer, a.radio_id, a.endpoint)

    really(play)


def test_greeting_again_is_a_ping_that_tells_the_id_of_now(a: Device, b: Device) -> None:
    async def play() -> None:
        async with linked(a, b):
            await a.link.greet(b.endpoint)
            b.radio_id = RadioId("0123456789abcdef")
            assert (await a.link.greet(b.endpoint)).radio_id == b.radio_id
            assert len(b.greetings) == 1

    really(play)


def test_a_peer_that_restarts_is_greeted_anew_without_notice(a: Device, b: Device) -> None:
    async def play() -> None:
        async with linked(a, b):
            await a.link.greet(b.endpoint)
            await b.restart()
            await a.link.send(b.peer, b"still you?")
            assert b.messages == [(a.peer, b"still you?")]
            assert len(b.greetings) == 2

    really(play)


def test_nobody_is_lost_and_a_stranger_unknown(a: Device, b: Device) -> None:
    async def play() -> None:
        async with linked(a, b):
            with pytest.raises(LinkLost, match=r"127\.0\.0\.1:1: .*refused"):
                await a.link.greet(Endpoint(host="127.0.0.1", port=1))
            with pytest.raises(LinkLost, match="not known where it is"):
                await a.link.send(b.peer, b"x")
            await a.link.greet(b.endpoint)
            await b.link.close()
            with pytest.raises(LinkLost):
                await a.link.greet(b.endpoint)

    really(play)


def test_a_peer_that_made_contact_by_itself_is_answered_without_a_greeting(a: Device, b: Device) -> None:
    async def play() -> None:
        async with linked(a, b):
            await b.link.greet(a.endpoint)
            await a.link.send(b.peer, b"welcome")
            assert b.messages == [(a.peer, b"welcome")]

    really(play)


def test_a_peer_that_answers_somewhere_else_after_a_restart_is_found_by_its_own_greeting(a: Device, b: Device) -> None:
    async def play() -> None:
        async with linked(a, b):
            await a.link.greet(b.endpoint)
            await b.link.close()
            b.link = b.fresh_link()
            await b.open()
            await b.link.greet(a.endpoint)
            await a.link.send(b.peer, b"there you are")
            assert b.messages == [(a.peer, b"there you are")]

    really(play)


def test_where_a_peer_was_heard_of_is_forgotten_once_it_is_met_elsewhere(a: Device, b: Device) -> None:
    async def play() -> None:
        async with linked(a, b):
            await b.link.greet(a.endpoint)
            await b.link.close()
            b.link = b.fresh_link()
            await b.open()
            await a.link.greet(b.endpoint)
            await a.link.send(b.peer, b"there you are")
            assert b.messages == [(a.peer, b"there you are")]

    really(play)


def test_another_device_in_a_peers_place_gets_nothing_of_its(a: Device, b: Device, tmp_path: Path) -> None:
    c = Device("c", tmp_path)

    async def play() -> None:
        async with linked(a, b):
            await a.link.greet(b.endpoint)
            port = b.link.port
            await b.link.close()
            await c.open(port)
            with pytest.raises(LinkLost, match="another device answers"):
                await a.link.send(b.peer, b"for b only")
            assert c.messages == []
            assert (await a.link.greet(c.endpoint)).peer == c.peer
            await c.link.close()

    really(play)


@pytest.mark.parametrize("wrong_by_s", [-86_400, 86_400])
def test_a_clock_that_is_wrong_by_a_day_keeps_nobody_apart(a: Device, tmp_path: Path, wrong_by_s: float) -> None:
    b = Device("b", tmp_path, wrong_by_s=wrong_by_s)

    async def play() -> None:
        async with linked(a, b):
            assert (await a.link.greet(b.endpoint)).peer == b.peer
            assert (await b.link.greet(a.endpoint)).peer == a.peer

    really(play)


def test_a_word_that_ended_long_ago_counts_for_nothing(a: Device, tmp_path: Path) -> None:
    b = Device("b", tmp_path, wrong_by_s=-40 * 86_400)

    async def play() -> None:
        async with linked(a, b):
            with pytest.raises(PeerFault, match="ended 10 days ago"):
                await a.link.greet(b.endpoint)

    really(play)


def test_another_device_with_the_same_account_is_told_of(a: Device, tmp_path: Path) -> None:
    copy = Device("copy", tmp_path, account="a")

    async def play() -> None:
        async with linked(a, copy):
            with pytest.raises(PeerFault, match="this device's account"):
                await a.link.greet(copy.endpoint)
            with pytest.raises(PeerFault, match="this device's account"):
                await a.link.greet(a.endpoint)

    really(play)


# -- messages ---------------------------------------------------------------------------------------------------------


def test_messages_arrive_with_their_sender(a: Device, b: Device) -> None:
    async def play() -> None:
        async with linked(a, b):
            await a.link.greet(b.endpoint)
            await b.link.greet(a.endpoint)
            await a.link.send(b.peer, b"one")
            await b.link.send(a.peer, b"two")
            await a.link.send(b.peer, b"x" * 4096)
            assert b.messages == [(a.peer, b"one"), (a.peer, b"x" * 4096)]
            assert a.messages == [(b.peer, b"two")]

    really(play)


def test_more_messages_than_anyone_needs_are_not_taken(a: Device, b: Device) -> None:
    async def play() -> None:
        async with linked(a, b):
            await a.link.greet(b.endpoint)
            said = await asyncio.gather(*(a.link.send(b.peer, b"x") for _ in range(60)), return_exceptions=True)
            assert {str(one) for one in said if one is not None} == {f"{b.peer} takes no messages now"}
            assert QUICK.messages_at_once <= len(b.messages) < 60

    really(play)


# -- snapshots --------------------------------------------------------------------------------------------------------


def test_a_snapshot_arrives_as_it_is(a: Device, b: Device) -> None:
    digest = b.holds(MODEL)

    async def play() -> None:
        async with linked(a, b):
            await a.link.greet(b.endpoint)
            assert await a.link.fetch(b.peer, digest, max_bytes=MOST) == MODEL

    really(play)
    assert list((a.folder / "a").iterdir()) == []


def test_what_is_not_handed_out_or_too_large_is_said(a: Device, b: Device) -> None:
    digest = b.holds(MODEL)

    async def play() -> None:
        async with linked(a, b):
            await a.link.greet(b.endpoint)
            with pytest.raises(PeerFault, match=r"does not hand out 646464.*403"):
                await a.link.fetch(b.peer, b"d" * 32, max_bytes=MOST)
            with pytest.raises(PeerFault, match=f"more than {1 << 20}"):
                await a.link.fetch(b.peer, digest, max_bytes=1 << 20)

    really(play)


def test_a_cut_transfer_goes_on_at_the_byte_where_it_was(a: Device, b: Device) -> None:
    digest = b.holds(MODEL)

    async def play() -> int:
        async with linked(a, b), Cable(b.endpoint) as cable:
            await a.link.greet(cable.endpoint)
            cable.cut_after(len(MODEL) // 2)
            assert await a.link.fetch(b.peer, digest, max_bytes=MOST) == MODEL
            assert cable.cuts == 1
            return cable.carried

    assert really(play) < len(MODEL) * 1.02 + 20_000


def test_a_transfer_whose_peer_falls_silent_goes_on_at_the_byte_where_it_was(a: Device, b: Device) -> None:
    digest = b.holds(MODEL)

    async def play() -> int:
        async with linked(a, b), Cable(b.endpoint) as cable:
            await a.link.greet(cable.endpoint)
            cable.stall_after(len(MODEL) // 2)
            fetching = asyncio.create_task(a.link.fetch(b.peer, digest, max_bytes=MOST))
            await cable.stalled.wait()
            cable.mend()
            assert await fetching == MODEL
            return cable.carried

    assert really(play) < len(MODEL) * 1.02 + 60_000


def test_a_restarted_agent_goes_on_with_what_it_had(a: Device, b: Device) -> None:
    digest = b.holds(MODEL)
    a.limits = replace(QUICK, patience_s=0.2)
    a.link = a.fresh_link()

    async def play() -> None:
        async with linked(a, b), Cable(b.endpoint) as cable:
            await a.link.greet(cable.endpoint)
            cable.cut_after(len(MODEL) // 2, for_good=True)
            with pytest.raises(LinkLost):
                await a.link.fetch(b.peer, digest, max_bytes=MOST)
            (part,) = (a.folder / "a").iterdir()
            kept_bytes = part.stat().st_size
            assert 0.4 < kept_bytes / len(MODEL) < 0.6
            await a.restart()
            cable.mend()
            before = cable.carried
            await a.link.greet(cable.endpoint)
            assert await a.link.fetch(b.peer, digest, max_bytes=MOST) == MODEL
            assert cable.carried - before < (len(MODEL) - kept_bytes) * 1.02 + 20_000

    really(play)


def test_a_peer_that_restarts_during_a_transfer_goes_on_serving(a: Device, b: Device) -> None:
    digest = b.holds(MODEL)

    async def play() -> None:
        async with linked(a, b), Cable(b.endpoint) as cable:
            await a.link.greet(cable.endpoint)
            cable.cut_after(len(MODEL) // 2)
            fetching = asyncio.create_task(a.link.fetch(b.peer, digest, max_bytes=MOST))
            await cable.cut.wait()
            await b.restart()
            assert await fetching == MODEL
            assert cable.carried < len(MODEL) * 1.02 + 40_000

    really(play)


def test_a_third_transfer_waits_for_its_turn(b: Device, tmp_path: Path) -> None:
    digest = b.holds(MODEL)
    others = [Device(name, tmp_path) for name in "cdef"]

    async def play() -> None:
        async with linked(b, *others):
            for one in others:
                await one.link.greet(b.endpoint)
            found = await asyncio.gather(*(one.link.fetch(b.peer, digest, max_bytes=MOST) for one in others))
            assert set(found) == {MODEL}

    really(play)


def test_a_disk_without_room_is_said_before_anything_is_asked_for(a: Device, b: Device) -> None:
    digest = b.holds(MODEL)
    a.limits = replace(QUICK, spare_bytes=1 << 60)
    a.link = a.fresh_link()

    async def play() -> None:
        async with linked(a, b):
            await a.link.greet(b.endpoint)
            with pytest.raises(StorageFault, match="no room for"):
                await a.link.fetch(b.peer, digest, max_bytes=MOST)

    really(play)


def test_old_parts_make_room_for_new_ones(a: Device, b: Device) -> None:
    digest = b.holds(MODEL)
    a.limits = replace(QUICK, kept_bytes=11 << 19)
    a.link = a.fresh_link()
    folder = a.folder / "a"
    for number in range(4):
        old = folder / f"{number}.part"
        old.write_bytes(bytes(1 << 20))
        os.utime(old, (number, number))

    async def play() -> None:
        async with linked(a, b):
            await a.link.greet(b.endpoint)
            await a.link.fetch(b.peer, digest, max_bytes=MOST)

    really(play)
    assert sorted(one.name for one in folder.iterdir()) == ["2.part", "3.part"]


def test_a_fetch_that_is_not_wanted_any_more_ends(a: Device, b: Device) -> None:
    digest = b.holds(MODEL)

    async def play() -> None:
        async with linked(a, b), Cable(b.endpoint) as cable:
            await a.link.greet(cable.endpoint)
            cable.stall_after(len(MODEL) // 2)
            fetching = asyncio.create_task(a.link.fetch(b.peer, digest, max_bytes=MOST))
            await cable.stalled.wait()
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching

    really(play)
