"""The radio over Bluetooth LE: real bleak and dbus-fast against a fake `org.bluez` on a D-Bus of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from ble_device import A, B, C, Device, payload_of, run, stranger, until
from bleak import BleakScanner
from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from fake_bluez import DENY_BLUEZ, FakeBluez, Heard, PrivateBus, legacy_bytes

from device_agent import live
from device_agent.agent_config import AgentConfig, BleChoice, LogFormat
from device_agent.clock import SystemClock
from device_agent.doctor import Finding, _bluetooth
from device_agent.errors import BluetoothFault, BluetoothProblem
from device_agent.radio import Medium, RadioId, ble
from device_agent.radio.advertisement import SERVICE_UUID, Reason
from device_agent.radio.ble import Timing
from device_agent.radio.bluez import Bluez
from device_agent.radio.duty_cycle import DutyCycle
from device_agent.radio.watchdog import Step, Watchdog
from device_agent.told import Told

WATCHFUL = Timing(poll_s=0.05, quiet_s=0.5, answer_s=3.0, rest_s=0.01)
ANSWER_S = 3.0


@contextlib.asynccontextmanager
async def bluez_on(bus: PrivateBus, adapters: int = 2, window_s: float = 0.2) -> AsyncIterator[FakeBluez]:
    async with bus.started(), FakeBluez(bus, adapters=adapters, window_s=window_s) as fake:
        yield fake


# -- two that hear each other -----------------------------------------------------------------------------------------


def test_two_radios_see_each_other(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            seen_by_a, seen_by_b = await asyncio.gather(a.next_of(B), b.next_of(A))
            assert seen_by_a.medium is seen_by_b.medium is Medium.BLE
            assert seen_by_a.rssi_dbm == fake.rssi
            assert seen_by_a.endpoint is None
            assert a.faults == b.faults == []

    run(play)


def test_one_is_seen_again_in_each_window(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with bluez_on(bus), a.radio, b.radio:
            times = [(await a.fresh_of(B)).seen_at_s for _ in range(4)]
            assert times == sorted(times)

    run(play)


def test_another_id_is_shown_before_the_old_one_goes(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await a.next_of(B)
            calls = fake.adapters[1].calls
            calls.clear()
            await b.radio.rename(C)
            assert [one for one in calls if "Advertisement" in one] == [
                "RegisterAdvertisement",
                "UnregisterAdvertisement",
            ]
            assert (await a.next_of(C)).rssi_dbm == fake.rssi
            assert len(fake.adapters[1].shown) == 1

    run(play)


def test_where_an_adapter_shows_one_only_the_old_id_goes_first(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            fake.adapters[1].slots = 1
            await a.next_of(B)
            await b.radio.rename(C)
            await a.next_of(C)
            assert len(fake.adapters[1].shown) == 1
            assert b.faults == []

    run(play)


def test_a_name_given_before_there_is_bluetooth_is_shown_later(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with a.radio, b.radio:
            await b.told(BluetoothProblem.NO_DBUS)
            await b.radio.rename(C)
            async with bluez_on(bus):
                await a.next_of(C)

    run(play)


def test_a_closed_radio_shows_nothing_and_yields_nothing(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A)
        async with bluez_on(bus) as fake, a.radio:
            hci0 = fake.adapters[0]
            await until(lambda: bool(hci0.shown and hci0.discovering))
            waiting = asyncio.create_task(a.next_of(B))
            await asyncio.sleep(0)
            await a.radio.close()
            assert not hci0.shown
            assert not hci0.discovering
            with pytest.raises(AssertionError, match="closed"):
                await waiting

    run(play)


# -- what BlueZ does --------------------------------------------------------------------------------------------------


def test_what_is_not_discoverable_is_hidden_so_ours_is(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await a.next_of(B)
            ((_, said),) = fake.adapters[1].shown.items()
            assert said["Discoverable"] is True
            assert legacy_bytes(said) == 31
            said["Discoverable"] = False
            await asyncio.sleep(0.1)
            a.radio._newest._waiting.clear()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await a.next_of(B)

    run(play)


def test_one_byte_more_would_be_refused(bus: PrivateBus) -> None:
    async def play() -> None:
        async with bluez_on(bus):
            one = await Bluez.connected(ANSWER_S)
            await one.show("hci0", bytes(10), lambda: None)
            with pytest.raises(BluetoothFault, match="Failed to parse") as refused:
                await one.show("hci0", bytes(11), lambda: None)
            assert refused.value.problem is BluetoothProblem.ADVERTISEMENT_REFUSED
            one.close()

    run(play)


def test_a_filter_on_services_would_hear_nobody(bus: PrivateBus) -> None:
    """Why the radio scans for everything."""

    async def play() -> None:
        b = Device(B, "hci1")
        async with bluez_on(bus) as fake, b.radio:
            await until(lambda: bool(fake.adapters[1].shown))
            for uuids, count in (([SERVICE_UUID], 0), (None, 1)):
                async with BleakScanner(service_uuids=uuids, bluez={"adapter": "hci0"}) as scanner:
                    await asyncio.sleep(0.5)
                assert len(scanner.discovered_devices) == count

    run(play)


def test_of_one_address_the_newest_counts_though_old_keys_linger(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A)
        address = "66:00:00:00:00:07"
        async with bluez_on(bus) as fake, a.radio:
            other = {"0000fd6f-0000-1000-8000-00805f9b34fb": bytes(20)}
            fake.strangers["one"] = Heard(address, -60, {**other, SERVICE_UUID: payload_of(B)})
            await a.next_of(B)
            fake.strangers["one"] = Heard(address, -60, {SERVICE_UUID: payload_of(C)})
            await a.next_of(C)
            (device,) = fake.adapters[0].known.values()
            assert len(device["ServiceData"].value) == 2
            assert a.faults == []

    run(play)


@pytest.mark.parametrize("rssi", [127, 21])
def test_an_unknown_strength_is_no_strength(bus: PrivateBus, rssi: int) -> None:
    async def play() -> None:
        a = Device(A)
        async with bluez_on(bus) as fake, a.radio:
            fake.strangers["far"] = stranger(payload_of(B), "66:00:00:00:00:01", rssi)
            fake.strangers["near"] = stranger(payload_of(C), "66:00:00:00:00:02", -50)
            assert (await a.next_of(C)).rssi_dbm == -50
            assert (await a.fresh_of(B)).rssi_dbm is None

    run(play)


def test_a_device_that_is_only_remembered_is_not_seen(bus: PrivateBus) -> None:
    """When discovery ends, bluetoothd says of each device that its strength is unknown now."""

    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await a.fresh_of(B)
            fake.mute = True
            a.radio._newest._waiting.clear()
            (path,) = fake.adapters[0].known
            fake._changed(path, "org.bluez.Device1", {}, ["RSSI"])
            await asyncio.sleep(0.3)
            assert not a.radio._newest._waiting

    run(play)


# -- strangers --------------------------------------------------------------------------------------------------------


def test_our_own_id_from_elsewhere_is_nobody(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A)
        async with bluez_on(bus) as fake, a.radio:
            fake.strangers["echo"] = stranger(payload_of(A), "66:00:00:00:00:01")
            fake.strangers["other"] = stranger(payload_of(B), "66:00:00:00:00:02")
            seen = [await anext(a.radio.sightings()) for _ in range(6)]
            assert {one.radio_id for one in seen} == {B}

    run(play)


def test_hostile_advertisements_of_every_length_and_type_are_told_once(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A)
        drawn = random.Random(7)
        async with bluez_on(bus) as fake, a.radio:
            for length in range(256):
                fake.strangers[f"length {length}"] = stranger(drawn.randbytes(length), f"66:00:00:00:01:{length:02X}")
            for version in range(16):
                odd = bytes([version << 4]) + bytes(9)
                fake.strangers[f"version {version}"] = stranger(odd, f"66:00:00:00:02:{version:02X}")
            strange = {
                "nothing": {},
                "a name": {"name": "\u202eidml\n\x1b[31m" * 4},
                "an empty name": {"name": ""},
                "a maker's data": {"manufacturer_data": {0xFFFF: bytes(24), 0: b""}},
                "our service without data": {"uuids": (SERVICE_UUID,)},
                "other data": {"service_data": {"0000fd6f-0000-1000-8000-00805f9b34fb": payload_of(C)}},
                "no UUID at all": {"service_data": {"": payload_of(C), "xx": b"\xff" * 255}},
            }
            for number, (kind, more) in enumerate(strange.items()):
                fake.strangers[kind] = Heard(f"66:00:00:00:03:{number:02X}", -60, **more)
            fake.strangers["a friend"] = stranger(payload_of(B), "66:00:00:00:04:00")
            await a.fresh_of(B)
            await a.fresh_of(B)
            assert C not in a.radio._newest._waiting
            assert sorted(a.faults) == sorted([Reason.LENGTH, Reason.VERSION])

    run(play)


def test_of_a_crowd_that_nobody_asks_about_the_newest_are_remembered(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A)
        crowd = [RadioId(f"{number:016x}") for number in range(600)]
        async with bluez_on(bus, window_s=60) as fake:
            for number, one in enumerate(crowd):
                fake.strangers[one] = stranger(payload_of(one), f"66:00:00:00:{number >> 8:02X}:{number & 255:02X}")
            async with a.radio:
                await until(lambda: crowd[-1] in a.radio._newest._waiting)
        assert [one.radio_id async for one in a.radio.sightings()] == crowd[-256:]

    run(play)


def test_where_one_sender_makes_up_addresses_scanning_rests(bus: PrivateBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ble, "_MOST_ADDRESSES", 100)

    async def play() -> None:
        a = Device(A, timing=dataclasses.replace(WATCHFUL, crowd_rest_s=1.0))
        async with bluez_on(bus) as fake, a.radio:
            hci0 = fake.adapters[0]
            for number in range(300):
                fake.strangers[f"made up {number}"] = Heard(f"66:00:00:00:{number >> 8:02X}:{number & 255:02X}", -60)
            await a.told(BluetoothProblem.CROWDED)
            assert not hci0.discovering
            fake.strangers.clear()
            fake.strangers["a friend"] = stranger(payload_of(B), "66:00:00:00:04:00")
            await a.next_of(B)
            await asyncio.sleep(0.2)
            assert a.faults == [BluetoothProblem.CROWDED]
            assert a.steps == []  # it was not silent, it rested

    run(play)


# -- every way it can be missing --------------------------------------------------------------------------------------


def test_without_dbus_it_waits_for_it(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A)
        async with a.radio:
            await a.told(BluetoothProblem.NO_DBUS)
            await asyncio.sleep(0.2)
            assert a.faults == [BluetoothProblem.NO_DBUS]
            async with bus.started():
                await a.told(BluetoothProblem.NO_DAEMON)
                async with FakeBluez(bus) as fake:
                    await until(lambda: bool(fake.adapters[0].shown and fake.adapters[0].discovering))
            assert a.faults == [BluetoothProblem.NO_DBUS, BluetoothProblem.NO_DAEMON]

    run(play)


def test_an_address_that_is_none_is_no_dbus(bus: PrivateBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "nonsense")

    async def play() -> None:
        a = Device(A)
        async with a.radio:
            await a.told(BluetoothProblem.NO_DBUS)

    run(play)


def test_a_user_who_may_not_is_told(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A)
        async with bus.started(policy=DENY_BLUEZ), FakeBluez(bus), a.radio:
            await a.told(BluetoothProblem.NO_PERMISSION)

    run(play)


@pytest.mark.parametrize(
    ("adapters", "wanted", "problem"),
    [
        (0, None, BluetoothProblem.NO_ADAPTER),
        (0, "hci0", BluetoothProblem.NO_SUCH_ADAPTER),
        (1, "hci1", BluetoothProblem.NO_SUCH_ADAPTER),
    ],
)
def test_an_adapter_that_is_missing(
    bus: PrivateBus, adapters: int, wanted: str | None, problem: BluetoothProblem
) -> None:
    async def play() -> None:
        a = Device(A, wanted)
        async with bluez_on(bus, adapters), a.radio:
            await a.told(problem)

    run(play)


def off(fake: FakeBluez) -> None:
    fake.turn(fake.adapters[0], False)


def blocked(fake: FakeBluez) -> None:
    fake.turn(fake.adapters[0], False, power_state="off-blocked")


def classic(fake: FakeBluez) -> None:
    fake.adapters[0].roles = ()


def without_advertising(fake: FakeBluez) -> None:
    fake.adapters[0].advertises = False


def full(fake: FakeBluez) -> None:
    fake.adapters[0].slots = 0


def refusing(fake: FakeBluez) -> None:
    fake.refuse = ("org.bluez.Error.Failed", "Failed to register advertisement")


def busy(fake: FakeBluez) -> None:
    fake.adapters[0].start_error = ("org.bluez.Error.InProgress", "Operation already in progress")


def asleep(fake: FakeBluez) -> None:
    fake.adapters[0].start_error = ("org.bluez.Error.NotReady", "Resource Not Ready")


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (off, BluetoothProblem.POWERED_OFF),
        (blocked, BluetoothProblem.BLOCKED),
        (classic, BluetoothProblem.NO_LE),
        (without_advertising, BluetoothProblem.NO_LE),
        (full, BluetoothProblem.NO_SLOT),
        (refusing, BluetoothProblem.ADVERTISEMENT_REFUSED),
        (busy, BluetoothProblem.SCAN_REFUSED),
        (asleep, BluetoothProblem.POWERED_OFF),
    ],
)
def test_each_problem_has_its_name(
    bus: PrivateBus, wrong: Callable[[FakeBluez], None], problem: BluetoothProblem
) -> None:
    async def play() -> None:
        a = Device(A)
        async with bluez_on(bus) as fake:
            wrong(fake)
            async with a.radio:
                await a.told(problem)
                await asyncio.sleep(0.3)
                assert a.faults == [problem]  # once, though it looks again all the time

    run(play)


def test_who_cannot_show_itself_sees_the_others(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with bluez_on(bus) as fake:
            fake.adapters[0].slots = 0
            async with a.radio, b.radio:
                await a.next_of(B)
                fake.adapters[0].slots = 5
                await b.next_of(A)

    run(play)


def test_a_daemon_that_does_not_answer(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A, timing=Timing(poll_s=0.05, quiet_s=60, answer_s=0.3, rest_s=0.01))
        async with bluez_on(bus) as fake:

            async def never(message: object) -> None:
                await asyncio.sleep(60)

            fake._reply = never  # type: ignore[method-assign, assignment]
            async with a.radio:
                await a.told(BluetoothProblem.NO_ANSWER)

    run(play)


def test_of_several_adapters_the_first_that_can_be_used_is(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A, None)
        async with bluez_on(bus) as fake:
            fake.turn(fake.adapters[0], False)
            async with a.radio:
                await until(lambda: bool(fake.adapters[1].shown))
                assert a.faults == []

    run(play)


# -- what comes and goes ----------------------------------------------------------------------------------------------


def test_an_adapter_that_was_off_is_used_again_and_not_turned_on_by_us(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await a.next_of(B)
            fake.turn(fake.adapters[0], False)
            await a.told(BluetoothProblem.POWERED_OFF)
            await asyncio.sleep(0.2)
            assert not fake.adapters[0].powered
            fake.turn(fake.adapters[0], True)
            await asyncio.gather(a.fresh_of(B), b.fresh_of(A))
            assert a.faults == [BluetoothProblem.POWERED_OFF]
            fake.turn(fake.adapters[0], False)
            await until(lambda: a.faults == [BluetoothProblem.POWERED_OFF] * 2)  # it was over in between

    run(play)


def test_one_that_was_off_between_two_looks_scans_again(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await a.next_of(B)
            fake.turn(fake.adapters[0], False)
            fake.turn(fake.adapters[0], True)
            await a.fresh_of(B)

    run(play)


def test_an_adapter_that_was_taken_out_and_put_back(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await asyncio.gather(a.next_of(B), b.next_of(A))
            fake.unplug(fake.adapters[0])
            await until(lambda: bool(a.faults))
            fake.plug(fake.adapters[0])
            await asyncio.gather(a.fresh_of(B), b.fresh_of(A))

    run(play)


def test_what_bluetoothd_takes_back_is_shown_again(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A)
        async with bluez_on(bus) as fake, a.radio:
            shown = fake.adapters[0].shown
            await until(lambda: bool(shown))
            ((owner, path),) = shown
            shown.clear()
            shown[":1.99", "/other"] = {}
            fake._release(owner, path)
            await until(lambda: len(shown) == 2)

    run(play)


def test_another_adapter_is_taken_when_the_first_is_gone(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A, None)
        async with bluez_on(bus) as fake, a.radio:
            await until(lambda: bool(fake.adapters[0].shown))
            fake.unplug(fake.adapters[0])
            await until(lambda: bool(fake.adapters[1].shown and fake.adapters[1].discovering))

    run(play)


def test_a_daemon_that_was_killed_and_started_anew(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await asyncio.gather(a.next_of(B), b.next_of(A))
            await fake.stop()
            await asyncio.gather(a.told(BluetoothProblem.NO_DAEMON), b.told(BluetoothProblem.NO_DAEMON))
            await fake.start()
            await asyncio.gather(a.fresh_of(B), b.fresh_of(A))
            await fake.stop()  # and so fast that nobody noticed, with another program that shows and scans already
            await fake.start()
            for one in fake.adapters:
                one.shown[":1.99", "/other"] = {}
                one.discovering.add(":1.99")
            await asyncio.gather(a.fresh_of(B), b.fresh_of(A))

    run(play)


def test_a_dbus_that_was_killed_and_started_anew(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0"), Device(B, "hci1")
        async with a.radio, b.radio:
            async with bluez_on(bus):
                await asyncio.gather(a.next_of(B), b.next_of(A))
            await asyncio.gather(a.told(BluetoothProblem.NO_DBUS), b.told(BluetoothProblem.NO_DBUS))
            async with bluez_on(bus):
                await asyncio.gather(a.fresh_of(B), b.fresh_of(A))

    run(play)


def test_what_was_lost_with_a_daemon_is_not_kept(bus: PrivateBus) -> None:
    async def lose_all_but_dbus(a: Device, fake: FakeBluez) -> None:
        hci0 = fake.adapters[0]
        await until(lambda: bool(hci0.shown and hci0.discovering))
        await fake.stop()
        await fake.start()
        await until(lambda: bool(hci0.shown and hci0.discovering))
        ((owner, path),) = hci0.shown
        hci0.shown.clear()
        fake._release(owner, path)
        await until(lambda: bool(hci0.shown))
        await asyncio.sleep(0.1)
        assert len((await get_global_bluez_manager())._advertisement_callbacks[hci0.path]) == 1
        assert a.radio._bluez is not None
        assert len(a.radio._bluez._bus._path_exports) == 1

    async def play() -> None:
        a = Device(A)
        async with a.radio:
            for _ in range(3):
                async with bluez_on(bus) as fake:
                    await lose_all_but_dbus(a, fake)
                now_s = SystemClock().monotonic_s()
                await until(lambda: a.radio._open is None)
                assert SystemClock().monotonic_s() - now_s < 1  # nobody was waited for

    run(play)


# -- the watchdog -----------------------------------------------------------------------------------------------------


def test_the_steps_come_in_order_and_then_ever_more_rarely() -> None:
    dog = Watchdog(10.0, 0.0)
    taken = [(now_s, step) for now_s in range(1, 120) if (step := dog.due(float(now_s)))]
    assert taken == [
        (10, Step.RESTART_DISCOVERY),
        (20, Step.POWER_CYCLE),
        (30, Step.GIVE_UP),
        (50, Step.RESTART_DISCOVERY),
        (70, Step.POWER_CYCLE),
        (90, Step.GIVE_UP),
    ]


def test_who_hears_somebody_begins_anew() -> None:
    dog = Watchdog(10.0, 0.0)
    assert [dog.due(float(now_s)) for now_s in (10, 20)] == [Step.RESTART_DISCOVERY, Step.POWER_CYCLE]
    dog.heard(25.0)
    assert dog.due(34.0) is None
    assert dog.due(35.0) is Step.RESTART_DISCOVERY
    dog.failed(35.0)
    assert dog.due(35.0) is Step.POWER_CYCLE
    dog.away(44.0)
    assert dog.due(53.0) is None
    assert dog.due(54.0) is Step.GIVE_UP


def test_it_rests_an_hour_at_most() -> None:
    dog = Watchdog(60.0, 0.0)
    times = [now_s for now_s in range(0, 20 * 3600, 10) if dog.due(float(now_s)) is Step.GIVE_UP]
    assert times[-1] - times[-2] == 3 * 3600


@pytest.mark.parametrize(
    ("deaf_until", "steps"),
    [
        ("discovery", [Step.RESTART_DISCOVERY]),
        ("power", [Step.RESTART_DISCOVERY, Step.POWER_CYCLE]),
    ],
)
def test_a_scanner_that_went_deaf_is_helped_step_by_step(bus: PrivateBus, deaf_until: str, steps: list[Step]) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0", WATCHFUL), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await asyncio.gather(a.next_of(B), b.next_of(A))
            fake.adapters[0].deaf_until = deaf_until
            await a.fresh_of(B)
            await b.fresh_of(A)
            assert a.steps == steps
            assert a.faults == []
            assert fake.adapters[0].powered

    run(play)


def test_when_nothing_helps_a_person_is_asked_and_a_restart_cures_it(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0", WATCHFUL), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await a.next_of(B)
            fake.adapters[0].deaf_until = "restart"
            await a.told(BluetoothProblem.STUCK)
            assert a.steps[:3] == [Step.RESTART_DISCOVERY, Step.POWER_CYCLE, Step.GIVE_UP]
            assert a.asked_for_help == 1
            assert "systemctl restart bluetooth" in BluetoothProblem.STUCK
            power = [one for one in fake.adapters[0].calls if one.startswith("Powered")]
            assert power == ["Powered=False", "Powered=True"]
            await fake.stop()
            await fake.start()
            await a.fresh_of(B)

    run(play)


def test_where_stopping_is_refused_the_adapter_is_turned_off_at_once(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0", WATCHFUL), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await a.next_of(B)
            fake.adapters[0].deaf_until = "power"
            fake.adapters[0].stop_is_in_progress = 2  # bleak tries twice
            await a.fresh_of(B)
            assert a.steps == [Step.RESTART_DISCOVERY, Step.POWER_CYCLE]
            first_s, second_s = (fields["at_s"] for name, fields in a.said if name == "radio recovers")
            assert second_s - first_s < WATCHFUL.quiet_s / 2

    run(play)


def test_where_scanning_is_refused_the_adapter_is_turned_off_in_the_end(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A, "hci0", WATCHFUL)
        async with bluez_on(bus) as fake:
            busy(fake)
            async with a.radio:
                await until(lambda: Step.POWER_CYCLE in a.steps)
                await a.told(BluetoothProblem.SCAN_REFUSED)
                assert a.faults == [BluetoothProblem.SCAN_REFUSED]

    run(play)


def test_an_adapter_that_we_turned_off_is_turned_on_again_when_that_failed_at_first(bus: PrivateBus) -> None:
    async def play() -> None:
        a, b = Device(A, "hci0", WATCHFUL), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await a.next_of(B)
            hci0 = fake.adapters[0]
            turn = fake.turn

            def once(adapter: Any, on: bool, **more: Any) -> None:
                turn(adapter, on, **more)
                adapter.power_error = None if on else ("org.bluez.Error.Failed", "Failed")

            fake.turn = once  # type: ignore[method-assign]
            hci0.deaf_until = "power"
            await a.told(BluetoothProblem.POWERED_OFF)
            hci0.power_error = None
            await a.fresh_of(B)
            assert hci0.powered

    run(play)


def test_a_radio_that_is_closed_in_between_leaves_the_adapter_on(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A, timing=dataclasses.replace(WATCHFUL, rest_s=20.0))
        async with bluez_on(bus) as fake, a.radio:
            hci0 = fake.adapters[0]
            await until(lambda: not hci0.powered)
            await a.radio.close()
            assert hci0.powered

    run(play)


def test_silence_while_bluetooth_is_off_is_no_fault_of_the_scanner(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A, "hci0", WATCHFUL)
        async with bluez_on(bus) as fake:
            fake.turn(fake.adapters[0], False)
            async with a.radio:
                await asyncio.sleep(1.5)
                fake.turn(fake.adapters[0], True)
                await until(lambda: bool(fake.adapters[0].discovering))
                await asyncio.sleep(0.2)
                assert a.steps == []

    run(play)


def test_a_property_that_changes_is_a_sign_that_the_scanner_works(bus: PrivateBus) -> None:
    async def play() -> None:
        a = Device(A, "hci0", WATCHFUL)
        async with bluez_on(bus) as fake, a.radio:
            fake.strangers["a lamp"] = Heard("66:00:00:00:00:09", -80, name="lamp")
            await asyncio.sleep(1.5)
            assert a.steps == []

    run(play)


# -- in the agent -----------------------------------------------------------------------------------------------------


def test_it_is_off_unless_it_is_asked_for() -> None:
    assert not AgentConfig().ble.on
    assert _bluetooth(AgentConfig()).finding is Finding.OK


def test_the_doctor_tells_which_adapter_is_used_and_what_is_missing(bus: PrivateBus) -> None:
    config = AgentConfig(ble=BleChoice(on=True))

    async def play() -> None:
        nothing = await asyncio.to_thread(_bluetooth, config)
        assert nothing.finding is Finding.FAILURE
        assert "install the package dbus" in nothing.said
        async with bluez_on(bus) as fake:
            assert (await asyncio.to_thread(_bluetooth, config)).said == "hci0 can be used"
            fake.turn(fake.adapters[0], False)
            assert (await asyncio.to_thread(_bluetooth, config)).said == "hci1 can be used"
            fake.turn(fake.adapters[1], False, power_state="off-blocked")
            fake.unplug(fake.adapters[0])
            assert "rfkill unblock bluetooth" in (await asyncio.to_thread(_bluetooth, config)).said

    run(play)


def test_ids_change_on_all_radios_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    renamed: list[tuple[int, RadioId]] = []
    both = asyncio.Barrier(2)

    class Named:
        def __init__(self, number: int) -> None:
            self.number = number

        async def rename(self, radio_id: RadioId) -> None:
            await both.wait()  # one after the other would wait for ever
            renamed.append((self.number, radio_id))

    monkeypatch.setattr(live, "changes_in_s", lambda key, now_s: 0.0 if not renamed else 60.0)
    radios: Any = [Named(1), Named(2)]
    shown = live._Shown(A)

    async def play() -> None:
        rotating = asyncio.create_task(live._rotate(b"key", shown, radios, SystemClock(), lambda name, **fields: None))
        await until(lambda: len(renamed) == 2)
        rotating.cancel()

    run(play)
    assert sorted(renamed) == [(1, shown.radio_id), (2, shown.radio_id)]


def test_a_radio_that_saves_power_listens_now_and_then_and_shows_itself_all_the_time(bus: PrivateBus) -> None:
    timing = dataclasses.replace(WATCHFUL, duty=DutyCycle(window_s=0.15, period_s=0.5))

    async def play() -> None:
        a, b = Device(A, "hci0", timing), Device(B, "hci1")
        async with bluez_on(bus) as fake, a.radio, b.radio:
            await a.fresh_of(B)
            hci0, states = fake.adapters[0], []
            for _ in range(150):
                states.append(bool(hci0.discovering))
                assert len(hci0.shown) == 1
                await asyncio.sleep(0.01)
            await a.fresh_of(B)
            assert 0.1 < sum(states) / len(states) < 0.6
            assert sum(one != other for one, other in itertools.pairwise(states)) >= 4
            assert not a.faults

    run(play)


def test_a_rest_is_no_silence_but_a_scanner_that_is_stuck_is_helped_all_the_same(bus: PrivateBus) -> None:
    timing = dataclasses.replace(WATCHFUL, duty=DutyCycle(window_s=0.3, period_s=1.2))

    async def play() -> None:
        a = Device(A, "hci0", timing)
        async with bluez_on(bus), a.radio:
            await until(lambda: any(name == "radio opened" for name, _ in a.said))
            await asyncio.sleep(1.1)  # of which it rests most: half a second of silence has not passed
            assert a.steps == []
            await until(lambda: Step.RESTART_DISCOVERY in a.steps)

    run(play)


def test_the_settings_reach_the_radio(bus: PrivateBus) -> None:
    config = AgentConfig(ble=BleChoice(on=True, adapter="hci1", quiet_s=33.0))

    async def play() -> None:
        told = Told(LogFormat.TEXT, _noon)
        radio = live._ble(config, 4711, live._Shown(A), lambda _: False, SystemClock(), told)
        async with bluez_on(bus) as fake, radio:
            hci1 = fake.adapters[1]
            await until(lambda: bool(hci1.shown))
            ((_, said),) = hci1.shown.items()
            assert bytes(said["ServiceData"][SERVICE_UUID].value) == payload_of(A)

    run(play)


def _noon() -> float:
    return 43_200.0
