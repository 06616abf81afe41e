"""What Bluetooth costs: reading an advertisement, hearing a hundred per second; and how soon somebody is seen."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "device_agent"))
sys.path.append(str(Path(__file__).parents[1] / "bluetooth"))

from fake_bluez import FakeBluez, Heard, PrivateBus, what_is_missing
from laboratory import NoGuest, in_guest

from device_agent.radio import RadioId
from device_agent.radio.advertisement import SERVICE_UUID, Advertisement, encode, read

_BLUETOOTH = Path(__file__).parents[1] / "bluetooth"
OTHER_UUID = "0000feaa-0000-1000-8000-00805f9b34fb"
PER_S = 100
WATCHED_S = 20.0
_RADIO = str(Path(__file__).with_name("scanning_radio.py"))
_ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


class NoBluetooth(Exception):
    """There can be no bluetoothd of one's own here; the message says why."""


def payload_of(number: int) -> bytes:
    return encode(Advertisement(radio_id=RadioId(f"{number:016x}"), family=6))


def parsed_per_cpu_s(count: int = 200_000) -> float:
    """Read advertisements of which half are ours, a quarter of others and a quarter damaged; a second of CPU."""
    rng = random.Random(1)
    kinds = [
        {SERVICE_UUID: payload_of(1)},
        {OTHER_UUID: b"\0" * 20, SERVICE_UUID: payload_of(2)},
        {OTHER_UUID: b"\0" * 20},
        {SERVICE_UUID: rng.randbytes(rng.randrange(24))},
    ]
    heard = [kinds[number % len(kinds)] for number in range(count)]
    began_s = time.process_time()
    for one in heard:
        read(one)
    return count / (time.process_time() - began_s)


def scan_cpu_pct() -> tuple[float, float]:
    """Return the percent of a core that a radio takes that hears a hundred devices each second, and one in silence.

    bluetoothd is played by a fake in this process; D-Bus, dbus-fast, bleak and the radio are real.

    Raises `NoBluetooth`.
    """
    missing = what_is_missing()
    if missing is not None:
        raise NoBluetooth(missing)
    return asyncio.run(_scanned())


async def _scanned() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        bus = PrivateBus(Path(folder))
        async with bus.started(), FakeBluez(bus, adapters=1, window_s=1.0, gap_s=0.0) as fake:
            radio = await asyncio.create_subprocess_exec(
                sys.executable,
                _RADIO,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_ENVIRONMENT | {"DBUS_SYSTEM_BUS_ADDRESS": bus.address},
            )
            while not fake.adapters[0].discovering:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.1)
            silent = await _watched(radio)
            for number in range(PER_S):
                address = f"66:00:00:00:00:{number:02X}"
                fake.strangers[address] = Heard(address, -60, {SERVICE_UUID: payload_of(number + 1)})
            await asyncio.sleep(3)  # each is new but once
            busy = await _watched(radio)
            assert radio.stdin
            radio.stdin.close()
            await radio.wait()
    if busy[1] < 0.9 * PER_S:
        raise RuntimeError(f"the radio saw {busy[1]:.0f} devices a second, not {PER_S}")
    return busy[0], silent[0]


async def _watched(radio: asyncio.subprocess.Process) -> tuple[float, float]:
    """Return percent of a core and sightings per second."""
    began_s, (cpu_s, count) = time.monotonic(), await _asked(radio)
    await asyncio.sleep(WATCHED_S)
    passed_s, (cpu_after_s, count_after) = time.monotonic() - began_s, await _asked(radio)
    return 100 * (cpu_after_s - cpu_s) / passed_s, (count_after - count) / passed_s


async def _asked(radio: asyncio.subprocess.Process) -> tuple[float, int]:
    assert radio.stdin
    assert radio.stdout
    radio.stdin.write(b"\n")
    cpu_s, count = (await radio.stdout.readline()).split()
    return float(cpu_s), int(count)


def sighting_times_s() -> list[float]:
    """Return how long it took from showing an id until another radio's sighting of it, on a real bluetoothd."""
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder)
        try:
            status = in_guest([str(_BLUETOOTH / "sighting_times.py"), "/run/job/times.json"], job)
        except NoGuest as reason:
            raise NoBluetooth(str(reason)) from reason
        if status != 0:
            raise NoBluetooth(f"sighting_times.py ended with {status} in the guest")
        return [float(one) for one in json.loads((job / "times.json").read_text())]
