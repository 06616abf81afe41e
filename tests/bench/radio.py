"""What the radio over Bluetooth LE costs, and how soon it sees who is there."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

sys.path.append(str(Path(__file__).parents[1] / "device_agent"))
sys.path.append(str(Path(__file__).parents[1] / "bluetooth"))
from fake_bluez import FakeBluez, Heard, PrivateBus, what_is_missing
from laboratory import NoGuest, in_guest

from device_agent.radio import RadioId
from device_agent.radio.advertisement import SERVICE_UUID, Advertisement, encode, read

HEARD_PER_S = 100
_OTHER_UUID = "0000fd6f-0000-1000-8000-00805f9b34fb"
_BLUETOOTH = Path(__file__).parents[1] / "bluetooth"
_SIGHTINGS = 1000
_ROOT = Path(__file__).parents[2]


class NoBluetooth(Exception):
    """There can be no bluetoothd of one's own here; the message says why."""


def parsed_per_cpu_s(count: int = 100_000) -> float:
    """Return how many advertisements are parsed in a second of one core; half of them are not ours."""
    heard = _service_data(256)
    began_s = time.process_time()
    for number in range(count):
        read(heard[number % len(heard)])
    return count / (time.process_time() - began_s)


def listening_cpu_pct() -> float:
    """Return the share of a core that a radio takes to hear a hundred devices once a second: D-Bus and bleak included.

    The devices are a fake bluetoothd's; half of them are not ours.
    """
    missing = what_is_missing()
    if missing is not None:
        raise NoBluetooth(missing)
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_listening_cpu_pct(PrivateBus(Path(folder))))


async def _listening_cpu_pct(bus: PrivateBus) -> float:
    async with bus.started(), FakeBluez(bus, window_s=0.9, gap_s=0.1) as fake:
        for number, data in enumerate(_service_data(HEARD_PER_S)):
            address = f"66:00:00:00:00:{number:02X}"
            fake.strangers[address] = Heard(address, -60, data)
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("listening_radio.py")),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus.address, "PYTHONPATH": str(_ROOT)},
        )
        assert child.stdout
        try:
            await child.stdout.readline()
            process = psutil.Process(child.pid)
            before = process.cpu_times()
            heard = [int(await child.stdout.readline()) for _ in range(_SIGHTINGS // 100)]
            after = process.cpu_times()
        finally:
            child.kill()
            await child.wait()
    sightings = heard[-1] - heard[0] + 100
    cpu_s = after.user + after.system - before.user - before.system
    # Fewer windows fit into a second on a busy machine: what counts is the cost of each advertisement.
    return 100 * cpu_s * HEARD_PER_S / (2 * sightings)


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


def _service_data(count: int) -> list[dict[str, bytes]]:
    return list(_ours_and_others(count))


def _ours_and_others(count: int) -> Iterator[dict[str, bytes]]:
    for number in range(count):
        if number % 2:
            yield {_OTHER_UUID: bytes(20)}
        else:
            yield {SERVICE_UUID: encode(Advertisement(radio_id=RadioId(f"{number:016x}"), family=6))}
