"""The agent's radio on a real bluetoothd: two adapters without a radio that hear each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ble_device import Device, run
from stack import Stack, stack_in

from device_agent.errors import BluetoothProblem
from device_agent.radio import Medium, RadioId
from device_agent.radio.ble import Timing
from device_agent.radio.bluez import usable

A, B, C, D = (RadioId(letter * 16) for letter in "abcd")
TIMING = Timing(poll_s=0.5, quiet_s=120.0, answer_s=10.0, rest_s=0.5)
LIMIT_S = 90.0

pytestmark = pytest.mark.parametrize("legacy", [True, False], ids=["Bluetooth 4", "Bluetooth 5"])


@contextlib.asynccontextmanager
async def two(folder: Path, *, legacy: bool) -> AsyncIterator[tuple[Stack, Device, Device]]:
    """Two radios that have seen each other."""
    a, b = Device(A, "hci0", TIMING), Device(B, "hci1", TIMING)
    async with stack_in(folder, legacy=legacy) as stack, a.radio, b.radio:
        await asyncio.gather(a.next_of(B), b.next_of(A))
        yield stack, a, b


def test_two_radios_see_each_other(tmp_path: Path, legacy: bool) -> None:
    async def play() -> None:
        async with two(tmp_path, legacy=legacy) as (stack, a, b):
            await stack.rssi(-71)
            while (seen := await a.fresh_of(B)).rssi_dbm != -71:
                pass
            assert seen.medium is Medium.BLE
            assert seen.endpoint is None
            assert a.faults == b.faults == []

    run(play, LIMIT_S)


def test_each_new_id_is_seen_and_the_old_one_never_again(tmp_path: Path, legacy: bool) -> None:
    async def play() -> None:
        async with two(tmp_path, legacy=legacy) as (_, a, b):
            for radio_id in (C, D):  # bluetoothd keeps what one address said before
                await b.radio.rename(radio_id)
                await a.next_of(radio_id)
            await asyncio.sleep(1.0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4.0):
                    await asyncio.gather(a.fresh_of(B), a.fresh_of(C))
            assert a.faults == b.faults == []

    run(play, LIMIT_S)


def test_an_unknown_strength_is_none(tmp_path: Path, legacy: bool) -> None:
    async def play() -> None:
        async with two(tmp_path, legacy=legacy) as (stack, a, b):
            await stack.rssi(127)
            await b.radio.rename(C)
            while (await a.next_of(C)).rssi_dbm is not None:
                pass

    run(play, LIMIT_S)


def test_an_adapter_that_was_taken_out_and_put_back(tmp_path: Path, legacy: bool) -> None:
    async def play() -> None:
        async with two(tmp_path, legacy=legacy) as (stack, a, b):
            await stack.unplug(0)
            await a.told(BluetoothProblem.NO_ADAPTER)
            await stack.plug(0, legacy=legacy)
            await asyncio.gather(a.fresh_of(B), b.fresh_of(A))
            assert b.faults == []

    run(play, LIMIT_S)


def test_a_daemon_that_was_killed_and_started_anew(tmp_path: Path, legacy: bool) -> None:
    async def play() -> None:
        async with two(tmp_path, legacy=legacy) as (stack, a, b):
            await stack.kill_daemon()
            await asyncio.gather(a.told(BluetoothProblem.NO_DAEMON), b.told(BluetoothProblem.NO_DAEMON))
            await stack.start_daemon()
            await asyncio.gather(a.fresh_of(B), b.fresh_of(A))

    run(play, LIMIT_S)


def test_an_adapter_that_was_off_is_used_again(tmp_path: Path, legacy: bool) -> None:
    async def play() -> None:
        async with two(tmp_path, legacy=legacy) as (stack, a, b):
            await stack.turn("hci0", False)
            await a.told(BluetoothProblem.POWERED_OFF)
            await stack.turn("hci0", True)
            await asyncio.gather(a.fresh_of(B), b.fresh_of(A))
            assert a.faults == [BluetoothProblem.POWERED_OFF]

    run(play, LIMIT_S)


def test_who_closes_is_seen_no_more(tmp_path: Path, legacy: bool) -> None:
    async def play() -> None:
        async with two(tmp_path, legacy=legacy) as (_, a, b):
            await b.radio.close()
            await asyncio.sleep(1.0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4.0):
                    await a.fresh_of(B)
            assert (await usable("hci1", 5.0)).discovering is False

    run(play, LIMIT_S)
