"""Where the link answers, told over a Bluetooth connection: the record, whom to ask, and the asking itself."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ble_device import NETWORKS, PORT, A, B, C, Device, links_to, payload_of, run, stranger, until
from fake_bluez import PrivateBus
from fake_gatt import FakeBluezWithGatt
from hypothesis import given
from hypothesis import strategies as st

from device_agent.errors import BluetoothProblem
from device_agent.radio import Endpoint, RadioId
from device_agent.radio.asking import TURN_S, Questions
from device_agent.radio.ble import Timing
from device_agent.radio.link_record import MOST_BYTES, Reason, decode, encode

ROOT = Path(__file__).parents[2]

# -- the record -------------------------------------------------------------------------------------------------------


def test_a_record_leads_to_the_address_that_is_nearest() -> None:
    record = encode(4711, ["192.168.7.7", "10.0.0.7", "fe80::7%wlan0"])
    assert decode(record, NETWORKS, ["wlan1"]) == Endpoint(host="10.0.0.7", port=4711)
    assert decode(record, [], ["wlan1"]) == Endpoint(host="192.168.7.7", port=4711)
    alone = encode(4711, ["fe80::7%wlan0"])
    assert decode(alone, NETWORKS, ["wlan1"]) == Endpoint(host="fe80::7%wlan1", port=4711)
    assert decode(alone, NETWORKS) is Reason.ADDRESS


def test_more_addresses_than_fit_are_left_out() -> None:
    record = encode(1, [f"10.0.0.{number}" for number in range(1, 30)])
    assert len(record) == 3 + 8 * 5
    assert decode(record, NETWORKS) == Endpoint(host="10.0.0.1", port=1)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"", Reason.VERSION),
        (b"\x02\x00\x50", Reason.VERSION),
        (b"\x01\x00", Reason.LENGTH),
        (b"\x01\x00\x00", Reason.PORT),
        (b"\x01\x00\x50", Reason.ADDRESS),
        (b"\x01\x00\x50\x04\x0a\x00\x00", Reason.LENGTH),
        (b"\x01\x00\x50\x05\x0a\x00\x00\x07", Reason.LENGTH),
        (b"\x01\x00\x50\x04\xe0\x00\x00\x07", Reason.ADDRESS),
        (b"\x01\x00\x50\x04\x00\x00\x00\x00", Reason.ADDRESS),
        (b"\x01\x00\x50" + b"\x04\x0a\x00\x00\x07" * 100, Reason.LENGTH),
    ],
)
def test_what_is_no_record_is_not_believed(record: bytes, reason: Reason) -> None:
    assert decode(record, NETWORKS) is reason


@given(st.binary(max_size=2 * MOST_BYTES) | st.binary(max_size=200).map(lambda rest: b"\x01\x00\x50" + rest))
def test_whatever_is_read_is_an_endpoint_in_reach_or_a_reason(record: bytes) -> None:
    found = decode(record, NETWORKS, ["wlan0"])
    assert isinstance(found, Reason) or (0 < found.port < 1 << 16 and ":" in f"{found.host}:")


# -- whom to ask ------------------------------------------------------------------------------------------------------


def test_an_id_is_left_alone_at_first_and_then_asked_more_and_more_rarely() -> None:
    questions, at_s = Questions(after_s=20, turn_s=20), []
    for now_s in range(3000):
        questions.seen(B, now_s, own=A)
        if questions.due(now_s) == B:
            questions.asked(B, now_s)
            at_s.append(now_s)
    assert at_s == [20, 60, 140, 300, 620, 1260, 2540]


def test_who_was_known_and_came_back_later_is_asked_as_at_first() -> None:
    questions, at_s = Questions(after_s=0, turn_s=0), []
    for now_s in range(200):
        questions.seen(B, now_s, own=A)
        if questions.due(now_s) == B:
            at_s.append(now_s)
            (questions.spared if 0 < now_s < 100 else questions.asked)(B, now_s)
    assert at_s == [0, 40, 55, 70, 85, 100, 140]


def test_two_that_see_each_other_at_one_time_never_ask_at_one_time() -> None:
    at_s: dict[RadioId, list[int]] = {}
    timing = Timing()
    for own, other in ((A, B), (B, A)):
        questions, asked = Questions(after_s=0, turn_s=TURN_S), at_s.setdefault(own, [])
        for now_s in range(10_000):
            questions.seen(other, now_s, own=own)
            if questions.due(now_s) == other:
                questions.asked(other, now_s)
                asked.append(now_s)
    assert at_s[A][0] == 0
    assert min(abs(one - other) for one in at_s[A] for other in at_s[B]) > (
        timing.answer_s + timing.settle_s + timing.poll_s
    )


def test_who_waits_longest_is_asked_first_and_a_flood_of_ids_is_forgotten() -> None:
    questions = Questions(after_s=0, turn_s=0)
    for number in range(1000):
        questions.seen(RadioId(f"{number:016x}"), number, own=A)
    asked = []
    while (one := questions.due(2000)) is not None:
        questions.asked(one, 2000)
        asked.append(int(one, 16))
    assert asked == list(range(1000 - 64, 1000))


# -- the asking -------------------------------------------------------------------------------------------------------


def device(radio_id: RadioId, adapter: str, host: str, *, knows: tuple[RadioId, ...] = ()) -> Device:
    return Device(radio_id, adapter, links=links_to(host, knows=knows))


def reasons(one: Device, name: str) -> list[object]:
    return [fields.get("reason") for told, fields in one.said if told == name]


def on(bus: PrivateBus, play: Callable[[FakeBluezWithGatt], Any]) -> None:
    async def main() -> None:
        async with bus.started(), FakeBluezWithGatt(bus) as fake:
            await play(fake)

    run(main)


def test_two_radios_tell_each_other_where_their_links_answer(bus: PrivateBus) -> None:
    async def play(fake: FakeBluezWithGatt) -> None:
        a, b = device(A, "hci0", "10.0.0.1"), device(B, "hci1", "10.0.0.2")
        async with a.radio, b.radio:
            seen_by_a, seen_by_b = await asyncio.gather(a.told_of(B), b.told_of(A))
        assert seen_by_a.endpoint == Endpoint(host="10.0.0.2", port=4711)
        assert seen_by_b.endpoint == Endpoint(host="10.0.0.1", port=4711)

    on(bus, play)


def test_a_read_that_was_lost_is_tried_again_at_once(bus: PrivateBus) -> None:
    async def play(fake: FakeBluezWithGatt) -> None:
        fake.reads_lost = 2
        a, b = device(A, "hci0", "10.0.0.1"), device(B, "hci1", "10.0.0.2", knows=(A,))
        async with a.radio, b.radio:
            assert (await a.told_of(B)).endpoint == Endpoint(host="10.0.0.2", port=PORT)
        assert fake.connected == 3
        assert reasons(a, "not read") == []

    on(bus, play)


def test_addresses_are_those_of_the_moment_when_somebody_asks(bus: PrivateBus) -> None:
    async def play(fake: FakeBluezWithGatt) -> None:
        hosts = ["10.0.0.2"]
        moves = replace(links_to("", knows=(A,)), own=lambda: encode(PORT, hosts[-1:]))
        a, b = device(A, "hci0", "10.0.0.1"), Device(B, "hci1", links=moves)
        async with b.radio:
            await until(lambda: any(name == "radio announces" for name, _ in b.said))
            hosts.append("10.0.0.99")
            async with a.radio:
                assert (await a.told_of(B)).endpoint == Endpoint(host="10.0.0.99", port=PORT)

    on(bus, play)


def test_who_is_known_is_not_asked(bus: PrivateBus) -> None:
    async def play(fake: FakeBluezWithGatt) -> None:
        a, b = device(A, "hci0", "10.0.0.1", knows=(B,)), device(B, "hci1", "10.0.0.2", knows=(A,))
        async with a.radio, b.radio:
            async for one in a.radio.sightings():
                assert one.endpoint is None
                if one.radio_id == B and one.rssi_dbm is not None:
                    break
            await asyncio.sleep(0.5)
        assert fake.connected == 0

    on(bus, play)


def test_who_cannot_be_reached_or_tells_nonsense_is_named_and_the_radio_goes_on(bus: PrivateBus) -> None:
    async def play(fake: FakeBluezWithGatt) -> None:
        fake.strangers["away"] = stranger(payload_of(C), "66:00:00:00:00:0C")
        fake.strangers["mute"] = stranger(payload_of(RadioId("d" * 16)), "66:00:00:00:00:0D")
        fake.unreachable.add("66:00:00:00:00:0C")
        a, b = device(A, "hci0", "10.0.0.1"), device(B, "hci1", "224.0.0.1", knows=(A, C, RadioId("d" * 16)))
        async with a.radio, b.radio:
            await until(lambda: len(reasons(a, "not read")) >= 3)
            said = list(map(str, reasons(a, "not read")))
            assert str(Reason.ADDRESS) in said
            assert any("was not found" in one for one in said)
            async for one in a.radio.sightings():
                if one.radio_id == B:
                    break

    run(lambda: _limited(bus, play), limit_s=60)


async def _limited(bus: PrivateBus, play: Callable[[FakeBluezWithGatt], Any]) -> None:
    async with bus.started(), FakeBluezWithGatt(bus) as fake:
        await play(fake)


def test_who_may_not_tell_still_shows_itself_and_sees(bus: PrivateBus) -> None:
    async def play(fake: FakeBluezWithGatt) -> None:
        fake.refuse_application = ("org.bluez.Error.Failed", "Failed")
        a, b = device(A, "hci0", "10.0.0.1"), device(B, "hci1", "10.0.0.2")
        async with a.radio, b.radio:
            await until(lambda: BluetoothProblem.RECORD_REFUSED in reasons(a, "radio fault"))
            async for one in a.radio.sightings():
                if one.radio_id == B:
                    break

    on(bus, play)


def test_bluetoothd_that_was_started_anew_is_told_again(bus: PrivateBus) -> None:
    async def play(fake: FakeBluezWithGatt) -> None:
        a = device(A, "hci0", "10.0.0.1")
        async with a.radio:
            await until(lambda: len(fake._applications) == 1)
            await fake.stop()
            fake._applications.clear()
            await fake.start()
            await until(lambda: len(fake._applications) == 1)
            await until(lambda: a.radio._open is not None and a.radio._open.tells)
        assert not fake._applications

    on(bus, play)


def test_the_tests_for_real_radios_hold_for_played_ones(bus: PrivateBus) -> None:
    """`tests/hardware` is run by hand, on two radios: so here it is run on what stands for them."""
    program = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "tests/hardware", "--hardware", "hci1"]

    async def play(fake: FakeBluezWithGatt) -> None:
        ran = await asyncio.create_subprocess_exec(*program, cwd=ROOT, stdout=PIPE, stderr=STDOUT)
        said, _ = await ran.communicate()
        assert ran.returncode == 0, said.decode()
        assert "4 passed" in said.decode()

    run(lambda: _limited(bus, play), limit_s=200)
