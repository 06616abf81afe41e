"""Agents that have nothing but Bluetooth to find each other by, in one Wi-Fi network: from a sighting to a payment."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from agents import BRISK, Field, FieldAgent, field_of, wait_for
from ble_device import run
from guest_hosts import GuestBridge
from stack import Stack, stack_in

from device_agent.encounter import Role, Stage
from device_agent.errors import BluetoothProblem
from device_agent.journal import Journal
from device_agent.learning import Model
from device_agent.own_model import OwnModel
from device_agent.radio import Medium
from models.registry import named
from models.snapshot import Codec, encode

_LIMIT_S = 230.0
_MEET_S = 110.0
"""Half a minute as a rule; a read that BlueZ loses is asked for again a quarter of a minute and a minute later."""
_PATIENCE_S = 60.0
_CHANGING = str(Path(__file__).with_name("changing_agent.py"))
_ABSENT = "hci7"
_CYCLE_S = 15.0
"""bluetoothd listens for 10 s, and rests for 5."""
_SETTINGS = (
    BRISK.replace("[learning]", '[learning]\nalgorithm = "gossip"')
    + """\
[mdns]
on = false
[ble]
on = true
adapter = "hci0"
[trial]
contacts = true
"""
)
"""Gossip without training takes no torch, whose import alone takes a quarter of a minute in the guest."""
_CHANGED = {"warmup_steps": 0, "own_steps": 0, "learner": False}


def begin_with(one: FieldAgent, seed: int) -> None:
    """Let it have a model already, as after a restart."""
    arch = named("cnn6-28x28x1")
    chance = np.random.default_rng(seed)
    weights = {spec.name: chance.normal(0, 0.05, spec.shape).astype(np.float32) for spec in arch.tensors}
    made = encode(weights, arch, Codec.INT8)
    model = Model(data=made.data, digest=made.digest, age=0)
    journal = Journal(one.state / "journal.sqlite")
    OwnModel(journal, model).move_on(model)
    journal.close()


@contextmanager
def three(folder: Path) -> Iterator[tuple[Field, FieldAgent, FieldAgent, FieldAgent]]:
    """A Learner and a Neighbor with an adapter each, and a validator that Bluetooth does not reach; all run."""
    with ExitStack() as stack:

        def bridge(hosts: int) -> GuestBridge:
            return stack.enter_context(GuestBridge(hosts))

        options = {"settings": _SETTINGS, "changed": _CHANGED, "started": False}
        field = stack.enter_context(field_of(bridge, folder, 3, validators=1, **options))
        learner, neighbor, validator = field.agents
        learner.change({"learner": True})
        neighbor.change({"adapter": "hci1"})
        validator.change({"adapter": _ABSENT})
        for seed, one in enumerate(field.agents):
            begin_with(one, seed)
        learner.start(_CHANGING, "25")
        neighbor.start(_CHANGING, "30")
        validator.start()
        yield field, learner, neighbor, validator


def settled(learner: FieldAgent) -> int:
    told = learner.told("encounter")
    return sum(said["role"] == Role.LEARNER and said["stage"] == Stage.SETTLED for said in told)


def faults(one: FieldAgent) -> set[str]:
    return {said["reason"] for said in one.told("radio fault")}


def opened(one: FieldAgent) -> int:
    return len(one.told("radio opened"))


def changes(one: FieldAgent) -> int:
    return len(one.told("radio id changed"))


def contact_log(one: FieldAgent) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (one.state / "contacts.jsonl").read_text().splitlines() if line]


def contacts(one: FieldAgent, medium: str) -> list[dict[str, Any]]:
    return [said for said in contact_log(one) if said.get("medium") == medium]


def test_agents_that_bluetooth_alone_brought_together_are_paid_whatever_happens_to_it(tmp_path: Path) -> None:
    def meet(stack: Stack, do: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        with three(tmp_path) as (field, learner, neighbor, validator):
            wait_for("they meet", lambda: learner.told("neighbor up") and neighbor.told("neighbor up"), _MEET_S)
            met = [changes(one) for one in (learner, neighbor)]
            wait_for("an encounter is settled", lambda: settled(learner), _PATIENCE_S)
            wait_for(
                "new ids are shown",
                lambda: all(changes(one) > before for one, before in zip((learner, neighbor), met, strict=True)),
                _PATIENCE_S,
            )
            do(stack.unplug(0))
            wait_for("it is missed", lambda: BluetoothProblem.NO_ADAPTER in faults(learner), _PATIENCE_S)
            do(stack.plug(0))
            wait_for("it is used again", lambda: opened(learner) > 1, _PATIENCE_S)
            do(stack.kill_daemon())
            wait_for("it is missed", lambda: BluetoothProblem.NO_DAEMON in faults(neighbor), _PATIENCE_S)
            do(stack.start_daemon())
            wait_for("it is used again", lambda: opened(learner) > 2 and opened(neighbor) > 1, _PATIENCE_S)
            back_s = time.time()
            before = settled(learner)
            wait_for("encounters go on", lambda: settled(learner) > before, _PATIENCE_S)
            time.sleep(max(0.0, back_s + _CYCLE_S - time.time()))
            books = field.end()
        assert books["wrong"] == []
        assert books["happened"]["Settled"] >= 2
        assert validator.told("voted")
        for one, other in ((learner, neighbor), (neighbor, learner)):
            shown = {said["shown"] for said in contact_log(other) if "shown" in said}
            heard = [said for said in contacts(one, Medium.BLE) if said["heard"] in shown]
            assert len({said["heard"] for said in heard}) > 1, f"only one of its ids: {heard} of {shown}"
            assert max(said["end_s"] for said in heard) > back_s, f"not after bluetoothd was back: {heard}"
        first_s = {
            medium: min(said["start_s"] for one in (learner, neighbor) for said in contacts(one, medium))
            for medium in (Medium.BLE, Medium.LINK)
        }
        assert first_s[Medium.BLE] <= first_s[Medium.LINK]

    async def play() -> None:
        loop = asyncio.get_running_loop()

        def do(what: Coroutine[Any, Any, None]) -> None:
            asyncio.run_coroutine_threadsafe(what, loop).result(_PATIENCE_S)

        async with stack_in(tmp_path) as stack:
            await asyncio.to_thread(meet, stack, do)

    run(play, _LIMIT_S)
