"""Telling over a Bluetooth connection where links answer, through a real bluetoothd at both ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from ble_device import PORT, A, B, C, Device, links_to, run
from stack import stack_in

from device_agent.radio import Endpoint
from device_agent.radio.ble import Timing

HERE, THERE = "10.0.0.1", "10.0.0.2"
TIMING = Timing(poll_s=0.5)
LIMIT_S = 230.0


@pytest.mark.parametrize("legacy", [True, False], ids=["Bluetooth 4", "Bluetooth 5"])
def test_a_radio_is_told_where_the_link_of_another_answers(tmp_path: Path, legacy: bool) -> None:
    a = Device(A, "hci0", TIMING, links_to(HERE))
    b = Device(B, "hci1", TIMING, links_to(THERE, knows=(A, C)))

    async def play() -> None:
        async with stack_in(tmp_path, legacy=legacy), a.radio, b.radio:
            assert (await a.told_of(B)).endpoint == Endpoint(host=THERE, port=PORT)
            # The connection took nothing from either: both see on, and show on.
            await asyncio.gather(a.fresh_of(B), b.fresh_of(A))
            await b.radio.rename(C)
            await a.next_of(C)

    run(play, LIMIT_S)
    assert a.faults == b.faults == []
