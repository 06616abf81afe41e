"""Real agents, a relay and a chain, each on a host of its own: they find each other, learn, judge, and are paid."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import time
from itertools import combinations
from pathlib import Path

import pytest
from agents import BRISK, FieldAgent, MakeBridge, field_of, last_lines, wait_for

from device_agent.encounter import Role, Stage
from device_agent.journal import Journal
from device_agent.learning.worker import Child, Kind, Measured, MeasureTask
from device_agent.own_model import remembered_model
from device_agent.trace import joined, read_log

TOKEN = 10**18


def accuracies(*snapshots: bytes) -> list[float]:
    """Of models of the field, on the test part of its dataset."""
    child = Child(Kind.VALIDATION)
    try:
        task = MeasureTask(architecture="cnn6-28x28x1", snapshots=snapshots, data=None, test_of="fashion-mnist")
        answer = child.answer(child.give(task))
    finally:
        child.close()
    assert isinstance(answer, Measured), answer
    return [(one or 0) / answer.total for one in answer.correct]


def own_model(one: FieldAgent) -> bytes:
    journal = Journal(one.state / "journal.sqlite")
    try:
        found = remembered_model(journal)
    finally:
        journal.close()
    assert found is not None
    return found.data


# The longest comes first: of the share that a process is given, no other takes over the first two.

DEATHS = {
    f"{role} {stage}"
    for role, stages in (
        (Role.LEARNER, (Stage.PROPOSED, Stage.CHECKING_IN, Stage.OFFERED, Stage.FETCHING, Stage.REPORTING)),
        (Role.NEIGHBOR, (Stage.CHECKING_IN, Stage.OPEN, Stage.WORKING, Stage.OFFERED, Stage.REPORTING)),
    )
    for stage in (*stages, Stage.SETTLED)
}
"""Every transition of an encounter that goes well. A Learner may see the offer before the opening, and reports, votes
and payment may reach the chain together."""


_WELL_STAKED = {"stake": 60.0}
"""What dies in the middle of encounters keeps the stakes of all in them for minutes: some have to be left."""


@pytest.mark.timeout(1080)
def test_an_agent_that_is_killed_at_every_transition_goes_on_and_loses_nothing(
    bridge: MakeBridge, tmp_path: Path
) -> None:
    with field_of(bridge, tmp_path, 4, validators=1, changed=_WELL_STAKED) as field:
        one = field.agents[0]
        one.stop(signal.SIGKILL)
        end_s = time.monotonic() + 600
        while missing := DEATHS - set(one.deaths.read_text().splitlines()):
            one.start("dying_agent.py", str(one.deaths))
            assert one.process is not None
            try:
                assert one.process.wait(end_s - time.monotonic()) == -signal.SIGKILL
            except subprocess.TimeoutExpired:
                pytest.fail(f"not within 600 s: {', '.join(sorted(missing))}")
        before = len(one.told("adopted"))
        one.start()
        wait_for("it learns again", lambda: len(one.told("adopted")) > before, 180)
        assert one.stop() == 0
        assert hashlib.sha256(own_model(one)).hexdigest() == one.told("adopted")[-1]["model"]
        books = field.end()
    print(f"{len(one.deaths.read_text().splitlines())} deaths; {books['happened']}")
    assert books["wrong"] == []
    settled = [said["key"] for said in one.told("encounter") if said["stage"] == "settled"]
    assert len(settled) == len(set(settled))


@pytest.mark.timeout(900)
def test_agents_learn_on_while_one_moves_and_one_vanishes(bridge: MakeBridge, tmp_path: Path) -> None:
    with field_of(bridge, tmp_path, 4, validators=1) as field:
        mover, vanishing, *others = field.agents
        wait_for("all 12 pairs", lambda: all(len(one.told("neighbor up")) >= 3 for one in field.agents), 180)
        vanishing.host.cut()
        wait_for(
            "who vanished is missed",
            lambda: all(vanishing.address in _down(one) for one in others),
            60,
        )
        mover.host.readdress("10.77.0.200")
        moved = "10.77.0.200:"
        wait_for(
            "who moved is found where it is",
            lambda: all(any(n["endpoint"].startswith(moved) for n in one.status()["neighbors"]) for one in others),
            90,
        )
        before = len(mover.told("adopted"))
        # If an encounter of its own broke off as it moved, that has to expire first.
        wait_for("who moved learns on", lambda: len(mover.told("adopted")) > before, 240)
        vanishing.host.mend()
        wait_for("who vanished is back", lambda: len(vanishing.told("neighbor up")) > 3, 120)
        assert field.end()["wrong"] == []


def _down(one: FieldAgent) -> set[str]:
    return {said["peer"] for said in one.told("neighbor down")}


@pytest.mark.timeout(900)
def test_eight_agents_find_each_other_and_learn_and_are_paid(bridge: MakeBridge, tmp_path: Path) -> None:
    settings = BRISK + "[trial]\ncontacts = true\n"
    with field_of(bridge, tmp_path, 8, validators=3, settings=settings, changed={"lost_after_s": 25.0}) as field:
        wait_for("all 56 pairs", lambda: all(len(one.told("neighbor up")) >= 7 for one in field.agents), 240)
        wait_for("24 models adopted", lambda: sum(len(one.told("adopted")) for one in field.agents) >= 24, 420)
        for one in field.agents:
            wait_for("it has 7 neighbours", lambda one=one: len(one.status()["neighbors"]) == 7, 60)
            assert one.status()["running"]
        for one in field.agents:
            assert one.stop() == 0, last_lines(one)
        first = field.models()[0]
        learned = [own_model(one) for one in field.agents if one.told("adopted")]
        trace = joined([read_log(one.state / "contacts.jsonl") for one in field.agents])
        books = field.end()
    assert books["happened"]["Settled"] >= 24
    assert books["wrong"] == []
    assert {(i, j) for *_, i, j in trace.contacts} == set(combinations(range(1, 9), 2))
    assert trace.strangers == 0
    assert max(books["stakes"].values()) > 20 * TOKEN  # who helped and judged has earned
    begun, *reached = accuracies(first, *learned)
    print(f"accuracy {begun:.3f} -> {min(reached):.3f} to {max(reached):.3f}; {books['happened']}")
    assert sum(reached) / len(reached) > begun + 0.1
