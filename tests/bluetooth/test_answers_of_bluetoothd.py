"""The real bluetoothd answers as the fake one is made to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from bluez_experiments import EXPERIMENTS, Experiment, client
from stack import stack_in


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=str)
def test_it_answers_as_it_did(experiment: Experiment, tmp_path: Path) -> None:
    async def play() -> object:
        async with stack_in(tmp_path, legacy=True) as stack, client() as one:
            return await experiment.ask(one, stack)

    assert asyncio.run(play()) == experiment.answer
