"""The fake bluetoothd answers as the real one did when it was asked the same."""

from __future__ import annotations

import asyncio

import pytest
from bluez_experiments import EXPERIMENTS, Experiment, client
from fake_bluez import FakeBluez, PrivateBus


class FakeWorld:
    """The air around the fake adapters, which listen three times a second."""

    silence_s = 0.7

    def __init__(self, fake: FakeBluez) -> None:
        self._fake = fake

    async def rssi(self, dbm: int) -> None:
        self._fake.rssi = dbm


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=str)
def test_it_answers_as_the_real_one(experiment: Experiment, bus: PrivateBus) -> None:
    async def play() -> object:
        async with bus.started(), FakeBluez(bus) as fake, client() as one:
            fake.rssi = -50
            return await experiment.ask(one, FakeWorld(fake))

    assert asyncio.run(play()) == experiment.answer
