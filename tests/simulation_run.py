"""A whole run and what it left."""

from dataclasses import dataclass
from pathlib import Path

from device_agent.loopback.scenario import Scenario
from device_agent.loopback.seen import Seen
from device_agent.loopback.simulation import simulate
from device_agent.loopback.summary import outcomes, summarise
from device_agent.settings import Door


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run left, once everything it started has ended."""

    scenario: Scenario
    seen: Seen
    summary: dict
    events: str
    cheats: list[dict]


def through(door: Door, scenario: Scenario) -> Scenario:
    """The scenario through another door."""
    return scenario.model_copy(update={"chain": scenario.chain.model_copy(update={"door": door})})


def run(scenario: Scenario, folder: Path, chain: str | None = None) -> Result:
    """Run a scenario to its end."""
    folder.mkdir(parents=True)
    with simulate(scenario, folder, chain_kind=chain, progress=lambda _: None) as seen:
        pass
    cheats = [one for one in outcomes(scenario, seen) if not one["honest"] and one["verdict"]]
    events = (folder / "events.jsonl").read_text()
    return Result(scenario=scenario, seen=seen, summary=summarise(scenario, seen), events=events, cheats=cheats)
