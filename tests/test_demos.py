"""The scenarios of `make demo`, whole, through each door: minutes, which `make thorough` takes."""

import itertools
import json

import pytest
from simulation_run import Result, run, through

from device_agent.loopback.scenario import read_scenario
from device_agent.settings import Door


@pytest.fixture(scope="module", params=itertools.product(["demo-oppcl", "demo-gossip"], Door), ids="-".join)
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Result:
    name, door = request.param
    return run(through(door, read_scenario(name)), tmp_path_factory.mktemp("demo") / name)


def test_the_demo_shows_what_it_promises(demo: Result) -> None:
    """Honest devices gain clearly, label flippers are mostly voted down, and no token is lost."""
    summary = demo.summary
    json.dumps(summary)
    accuracy = summary["accuracy"]
    assert accuracy["honest_end"] > accuracy["honest_start"] + 0.15
    assert accuracy["attackers_end"] < accuracy["honest_start"]
    assert len(demo.cheats) >= 5
    assert sum(one["verdict"] == "invalid" for one in demo.cheats) > 0.6 * len(demo.cheats)
    assert summary["votes"]["correct"] > 0.7 * summary["votes"]["measured"]
    assert summary["tokens"]["conserved"]
    assert summary["stake"]["honest_out"] <= 1
