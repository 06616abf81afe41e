"""An agent as it runs on a device, beside a real bluetoothd."""

from __future__ import annotations

import signal
from pathlib import Path

from agents import FieldAgent, last_lines
from ble_device import Device, run, until
from guest_hosts import GuestHost
from stack import stack_in

from device_agent.radio import RadioId
from device_agent.radio.ble import Timing

_LIMIT_S = 200.0
_SETTINGS = """\
[learning]
architecture = "cnn6"
warmup_steps = 0
[behaviour]
learner = false
[mdns]
on = false
[ble]
on = true
adapter = "hci0"
"""


def agent(folder: Path) -> FieldAgent:
    return FieldAgent(
        GuestHost(),
        folder / "agent",
        number=0,
        count=1,
        gateway="127.0.0.1",
        flipped=False,
        settings=_SETTINGS,
        changed={},
    )


def test_an_agent_shows_an_id_that_others_see(tmp_path: Path) -> None:
    one = agent(tmp_path)
    other = Device(RadioId("f" * 16), "hci1", Timing(poll_s=0.5))

    async def play() -> None:
        async with stack_in(tmp_path), other.radio:
            try:
                one.start()
                seen = await anext(other.radio.sightings())
                await until(lambda: [said["instance"] for said in one.told("radio announces")] == [seen.radio_id])
            except BaseException:
                print(*last_lines(one), sep="\n  ")
                raise
            finally:
                one.stop(signal.SIGKILL)

    run(play, _LIMIT_S)
