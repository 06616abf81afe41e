"""The scenarios of `make demo`, whole: through the default door, and by `make thorough` through the other."""

import json

import pytest
from hypothesis import settings
from simulation_run import Result, run, through

from device_agent.loopback.scenario import read_scenario
from device_agent.settings import Door

DOOR = Door.DIRECT if settings.get_current_profile_name() == "thorough" else Door.BATCHED


@pytest.fixture(scope="module", params=["demo-oppcl", "demo-gossip"])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(through(DOOR, read_scenario(request.param)), tmp_path_factory.mktemp("demo") / request.param)


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
