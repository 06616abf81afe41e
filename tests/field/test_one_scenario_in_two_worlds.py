"""The same scenario file, rehearsed in loopback and played by processes on hosts of their own: the same verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from agents import Field, MakeBridge, last_lines, wait_for
from namespaces import Bridge, Host

from device_agent.config import toml_text
from device_agent.encounter import Role
from device_agent.loopback.contacts import Contact, trace_contacts
from device_agent.loopback.scenario import Scenario, read_scenario
from device_agent.loopback.simulation import simulate
from device_agent.loopback.summary import outcomes
from device_agent.loopback.trial import device_settings

SCENARIO = Path(__file__).with_name("scenarios") / "four-meet.toml"
DIRECTED_PAIRS = 12

Verdicts = dict[tuple[int, int], str]
"""By the numbers of (Learner, Neighbor)."""


@pytest.mark.programs("iptables", "ip6tables")
@pytest.mark.timeout(900)
def test_a_scenario_ends_in_the_same_verdicts_in_loopback_and_in_the_field(bridge: MakeBridge, tmp_path: Path) -> None:
    scenario = read_scenario(str(SCENARIO))
    rehearsed = rehearse(scenario, tmp_path / "loopback")
    played = play(scenario, bridge(scenario.devices.count + 1), tmp_path / "field")
    print(f"{len(played)} of {len(rehearsed)} pairs; {sorted(played.items())}")
    assert set(rehearsed.values()) == {"valid", "invalid"}
    assert played == rehearsed
    assert len(played) == DIRECTED_PAIRS


def rehearse(scenario: Scenario, folder: Path) -> Verdicts:
    folder.mkdir()
    with simulate(scenario, folder, progress=lambda _: None) as seen:
        found = outcomes(scenario, seen)
    number = {f"device-{index:02d}": index for index in range(scenario.devices.count)}
    return {(number[one["learner"]], number[one["neighbor"]]): one["verdict"] for one in found}


def play(scenario: Scenario, network: Bridge, folder: Path) -> Verdicts:
    """Let it happen in real time, each agent a process with the settings that `idml-agent trial` writes for it."""
    contacts = scenario.contacts
    assert contacts.file is not None
    meetings = trace_contacts(contacts.file, devices=scenario.devices.count, gap_s=contacts.merge_gap_s)
    folder.mkdir()
    field = Field(network, folder, validators=scenario.incentives.validators)
    try:
        for number, one in enumerate(field.agents):
            settings = device_settings(scenario, number, gateway=f"http://{field.relay.ip}:8547")
            mine = {"state": str(one.state), "log_format": "json"}
            passphrase = {"passphrase_file": str(one.folder / "passphrase")}
            one.config.write_text(toml_text(mine | settings | {"identity": passphrase}))
            for earlier in field.agents[:number]:
                one.host.part(earlier.host)
            one.start()
        wait_for("all have staked", lambda: all(one.told("joined") for one in field.agents), 120)
        with in_the_background(lambda: meet(field, meetings)):
            wait_for("all that meet have met", lambda: len(verdicts(field)) >= DIRECTED_PAIRS, 420)
        assert field.end()["wrong"] == []
    except BaseException:
        for one in field.agents:
            print(one.folder.name, *last_lines(one), sep="\n  ")
        field.end()
        raise
    return verdicts(field)


def verdicts(field: Field) -> Verdicts:
    """What was settled so far, as the Learners saw it."""
    number = {one.address: index for index, one in enumerate(field.agents)}
    return {
        (index, number[said["peer"]]): "valid" if said["verdict"] else "invalid"
        for index, one in enumerate(field.agents)
        for said in one.encounters(Role.LEARNER).values()
        if said["stage"] == "settled" and "verdict" in said
    }


def meet(field: Field, meetings: Sequence[Contact]) -> None:
    """Let each pair hear each other while it meets; all are apart before."""
    begun_s = time.monotonic()
    changes = [(one.start_s, Host.join, one) for one in meetings] + [(one.end_s, Host.part, one) for one in meetings]
    for at_s, change, one in sorted(changes, key=lambda change: change[0]):
        time.sleep(max(0.0, begun_s + at_s - time.monotonic()))
        change(field.agents[one.a].host, field.agents[one.b].host)


@contextmanager
def in_the_background(work: Callable[[], None]) -> Iterator[None]:
    """Do something meanwhile, and wait for it at the end."""
    with ThreadPoolExecutor(1) as thread:
        doing = thread.submit(work)
        yield
        doing.result()
