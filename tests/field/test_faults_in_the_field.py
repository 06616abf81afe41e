"""What goes wrong in a trial, with real agents: they go on, and every payment is right to the last unit."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from agents import Field, FieldAgent, MakeBridge, field_of, wait_for

from device_agent.encounter import Role, Stage
from device_agent.radio.mdns import Fault
from models.packing import pack

OPENED = frozenset({Stage.OPEN, Stage.WORKING, Stage.OFFERED, Stage.FETCHING, Stage.REPORTING, Stage.VOTING})
"""The amounts are locked by then."""


def opened(one: FieldAgent) -> set[str]:
    """The encounters under way that were opened on chain, as one agent knows it."""
    return {key for role in Role for key, said in one.encounters(role).items() if said["stage"] in OPENED}


def unsettled(one: FieldAgent, keys: set[str]) -> set[str]:
    """Those of these encounters of an agent's that are not settled yet."""
    settled = {said["key"] for said in one.told("encounter") if said["stage"] == Stage.SETTLED}
    return keys - settled


@pytest.mark.programs("tc", "iptables", "ip6tables")
@pytest.mark.timeout(600)
def test_encounters_settle_where_a_fifth_is_lost_and_the_network_is_slow(bridge: MakeBridge, tmp_path: Path) -> None:
    with field_of(bridge, tmp_path, 3, validators=1, changed={"lost_after_s": 25.0}) as field:
        for one in field.agents:
            one.host.rate(2)
            one.host.loss(20)
        wait_for("each adopts a model", lambda: all(one.told("adopted") for one in field.agents), 420)
        books = field.end()
    print(books["happened"])
    assert books["happened"]["Settled"] >= len(field.agents)
    assert books["wrong"] == []


@pytest.mark.timeout(600)
def test_what_is_under_way_waits_for_a_gateway_that_is_away(bridge: MakeBridge, tmp_path: Path) -> None:
    with field_of(bridge, tmp_path, 4, validators=1) as field:
        begun = cut_off(field)
        time.sleep(20)  # longer than a neighbour may be silent
        assert not any(one.told("neighbor down") for one in field.agents)
        field.kill_relay()
        field.relay.mend()
        time.sleep(5)
        assert any(one.waits_in_outbox() for one in field.agents)
        field.start_relay()
        wait_for("what was open is settled", lambda: not any(map(unsettled, field.agents, begun)), 240)
        before = sum(len(one.told("adopted")) for one in field.agents)
        wait_for("they learn on", lambda: sum(len(one.told("adopted")) for one in field.agents) > before, 120)
        books = field.end()
    print(f"{len(set.union(*begun))} were open; {books['happened']}")
    assert books["wrong"] == []


def cut_off(field: Field) -> list[set[str]]:
    """Cut the gateway off while something waits for it; return what was open then, of each agent."""
    for _ in range(8):
        wait_for("encounters under way", lambda: sum(len(opened(one)) for one in field.agents) >= 2, 180)
        wait_for("one that begins", lambda: any(map(checks_in, field.agents)), 120)
        field.relay.cut()
        begun = [opened(one) for one in field.agents]
        if any(begun) and any(one.waits_in_outbox() for one in field.agents):
            return begun
        field.relay.mend()
    raise AssertionError("whatever was begun had reached the gateway")


def checks_in(one: FieldAgent) -> bool:
    """Whether a Learner's check-in is due now."""
    return any(said["stage"] == Stage.CHECKING_IN for said in one.encounters(Role.LEARNER).values())


LONG_WORK = {"max_rounds": 150}
"""It takes seconds: there is time to kill who does it."""


@pytest.mark.timeout(600)
def test_a_neighbor_that_is_killed_at_work_goes_on_when_it_is_back_and_is_paid(
    bridge: MakeBridge, tmp_path: Path
) -> None:
    # It is missed only after longer than a slow machine takes to start it again.
    patient = LONG_WORK | {"lost_after_s": 90.0}
    with field_of(bridge, tmp_path, 3, validators=1, changed=patient) as field:
        one, key = killed_at_work(field)
        wait_for("nothing of it is left", lambda: not one.host.pids(), 60)
        one.start()
        wait_for("its encounter is settled", lambda: not unsettled(one, {key}), 300)
        books = field.end()
    assert [said["key"] for said in one.told("contributed")].count(key) == 1
    print(books["happened"])
    assert books["wrong"] == []


@pytest.mark.timeout(600)
def test_nobody_loses_by_a_neighbor_that_dies_at_work(bridge: MakeBridge, tmp_path: Path) -> None:
    # Its encounter expires soon, but not before a slow machine does honest work.
    soon = LONG_WORK | {"open_within_s": 20, "report_within_s": 60}
    with field_of(bridge, tmp_path, 4, validators=1, vote_time_s=30, changed=soon) as field:
        one, key = killed_at_work(field)
        learner = next(other for other in field.agents if key in other.encounters(Role.LEARNER))
        before = len(learner.told("adopted"))
        other, _ = training_killed(field)
        wait_for("the Learner learns from others", lambda: len(learner.told("adopted")) > before, 180)
        wait_for("it is free again", lambda: learner.encounters(Role.LEARNER)[key]["stage"] == Stage.EXPIRED, 240)
        one.start()
        wait_for("so is the Neighbor", lambda: one.encounters(Role.NEIGHBOR)[key]["stage"] == Stage.EXPIRED, 120)
        assert other.alive
        before = len(other.told("contributed"))
        wait_for("who could not train trains", lambda: len(other.told("contributed")) > before, 120)
        books = field.end()
    print(books["happened"])
    assert books["wrong"] == []


def at_work(field: Field) -> tuple[FieldAgent, str] | None:
    """A Neighbor that trains, and for which encounter."""
    for one in field.agents:
        for key, said in one.encounters(Role.NEIGHBOR).items():
            if one.alive and said["stage"] == Stage.WORKING and one.pid_of_training():
                return one, key
    return None


def killed_at_work(field: Field) -> tuple[FieldAgent, str]:
    """Kill the next agent that trains for another; return it, and its encounter's key."""
    one, key = wait_for("a Neighbor trains", lambda: at_work(field), 180)
    one.stop(signal.SIGKILL)
    assert one.encounters(Role.NEIGHBOR)[key]["stage"] == Stage.WORKING
    return one, key


def training_killed(field: Field) -> tuple[FieldAgent, str]:
    """Kill what trains, as a machine does that wants memory, but not its agent; again if it was done just then."""
    for _ in range(10):
        one, key = wait_for("a Neighbor trains", lambda: at_work(field), 180)
        os.kill(one.pid_of_training() or 0, signal.SIGKILL)
        wait_for(
            "it is over", lambda one=one, key=key: one.encounters(Role.NEIGHBOR)[key]["stage"] != Stage.WORKING, 60
        )
        if why_given_up(one, key).startswith("work: the training process ended"):
            return one, key
    raise AssertionError("whoever was killed had done its work")


def why_given_up(one: FieldAgent, key: str) -> str:
    return next((said["reason"] for said in one.told("encounter") if said["key"] == key and "reason" in said), "")


@pytest.mark.programs("tc", "iptables")
@pytest.mark.timeout(600)
def test_a_transfer_that_is_cut_goes_on_where_it_was(bridge: MakeBridge, tmp_path: Path) -> None:
    large = {"architecture": "cnn10", "codec": "float32", "max_rounds": 100}
    with field_of(bridge, tmp_path, 3, validators=1, changed=large, started=False) as field:
        learner, *others = field.agents
        for one in others:
            one.change({"learner": False})
            learner.host.count(one.host.ip)
        for one in field.agents:
            one.start()
        neighbor, key = wait_for("a Neighbor trains", lambda: at_work(field), 180)
        learner.host.rate(0.2)
        begun = learner.host.counted_bytes(neighbor.host.ip)
        wait_for("a part is there", lambda: kept_bytes(learner) > 100_000, 60)
        learner.host.cut()
        time.sleep(15)  # longer than a connection waits for a byte
        learner.host.mend()
        kept: list[int] = []

        def more_than(size: int) -> bool:
            kept.append(kept_bytes(learner))
            return kept[-1] > size

        wait_for("more is there", lambda: more_than(200_000), 60)
        learner.stop(signal.SIGKILL)
        more_than(0)
        learner.start()
        wait_for("all of it is there", lambda: not more_than(0), 180)
        wait_for("the model is adopted", lambda: any(said["key"] == key for said in learner.told("adopted")), 180)
        taken = learner.host.counted_bytes(neighbor.host.ip) - begun
        books = field.end()
    updated = next(said["updated"] for said in neighbor.told("contributed") if said["key"] == key)
    size = next(len(pack(one)) for one in field.models() if hashlib.sha256(one).hexdigest() == updated)
    print(f"{size} bytes in {taken}; {books['happened']}")
    assert kept[:-1] == sorted(kept[:-1])  # it never began anew
    assert size < taken < 2 * size  # beside headers, so slow a network brings much twice by itself
    assert books["wrong"] == []


def kept_bytes(one: FieldAgent) -> int:
    """What it has on disk of transfers that are not complete."""
    return sum(part.stat().st_size for part in (one.state / "parts").glob("*"))


@pytest.mark.timeout(600)
def test_a_wrong_clock_and_shared_names_and_accounts_keep_nobody_from_learning(
    bridge: MakeBridge, tmp_path: Path
) -> None:
    with field_of(bridge, tmp_path, 5, validators=1, started=False) as field:
        early, namesake, other, twin, copy = field.agents
        shutil.copy(twin.state / "keystore.json", copy.state / "keystore.json")
        early.start("strange_agent.py", "86400", "own")
        namesake.start("strange_agent.py", "0", "5a" * 8)
        other.start("strange_agent.py", "0", "5a" * 8)
        twin.start()
        copy.start()
        wait_for("the early one finds the others", lambda: len(early.told("neighbor up")) >= 3, 120)
        for one in (early, namesake, other):
            wait_for("all but the twins learn", lambda one=one: one.told("adopted"), 180)
        wait_for("the early one votes", lambda: early.told("voted"), 180)
        wait_for("both of one name are found", lambda: {namesake.address, other.address} <= met(early), 60)
        wait_for("and find each other", lambda: other.address in met(namesake), 60)
        taken = [said["reason"] for one in (namesake, other) for said in one.told("radio fault")]
        assert Fault.NAME_TAKEN in taken
        for one in (twin, copy):
            wait_for("the twins are told", lambda one=one: "this device's account" in str(faults(one)), 60)
        assert all(one.alive for one in field.agents)
        books = field.end()
    print(books["happened"])
    assert books["wrong"] == []


def faults(one: FieldAgent) -> list[dict[str, str]]:
    """What an agent says that went wrong, if it is asked."""
    return list(one.status()["last_faults"])


def met(one: FieldAgent) -> set[str]:
    """Whom an agent has found."""
    return {said["peer"] for said in one.told("neighbor up")}


@pytest.mark.programs("tc")
@pytest.mark.timeout(600)
def test_an_agent_whose_disk_gets_full_says_so_and_goes_on_once_there_is_room(
    bridge: MakeBridge, tmp_path: Path
) -> None:
    large = {"architecture": "cnn10", "codec": "float32", "max_rounds": 100}
    with field_of(bridge, tmp_path, 3, validators=1, changed=large, started=False) as field:
        learner, *others = field.agents
        for one in others:
            one.change({"learner": False})
        with disk_of(learner.state, mebibytes=110):
            for one in field.agents:
                one.start()
            wait_for("a Neighbor trains", lambda: at_work(field), 180)
            learner.host.rate(0.2)
            wait_for("a part is there", lambda: kept_bytes(learner) > 100_000, 60)
            ballast = fill(learner.state)
            wait_for("it says so", lambda: any(said["where"] == "disk" for said in learner.told("fault")), 60)
            time.sleep(10)
            ballast.unlink()
            learner.host.rate(100)
            before = len(learner.told("adopted"))
            wait_for("it goes on", lambda: len(learner.told("adopted")) > before, 180)
            assert learner.alive
            assert "disk" in {fault.get("where") for fault in faults(learner)}
            books = field.end()
    print(books["happened"])
    assert books["wrong"] == []


@contextmanager
def disk_of(folder: Path, *, mebibytes: int) -> Iterator[None]:
    """Put what is in a folder on a small disk of its own, for a while."""
    kept = {one.name: one.read_bytes() for one in folder.iterdir()}
    subprocess.run(["/usr/bin/env", "mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "disk", folder], check=True)
    try:
        for name, data in kept.items():
            place = folder / name
            place.touch(0o600)
            place.write_bytes(data)
        yield
    finally:
        subprocess.run(["/usr/bin/env", "umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no room on the disk of a folder; return what takes it up."""
    ballast = folder / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass
    return ballast
