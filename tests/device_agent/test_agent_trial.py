"""From a scenario to the settings of each device of a field trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.__main__ import BAD_INPUT, OK, main
from device_agent.agent_config import AgentConfig, read_agent_config
from device_agent.config import checked
from device_agent.learning.choices import base_units
from device_agent.loopback.scenario import Scenario, read_scenario, shipped
from device_agent.loopback.trial import device_settings

GATEWAY = "http://10.0.0.1:8547"


def written(folder: Path, *more: str, scenario: str = "demo-oppcl") -> int:
    return main(["trial", scenario, "--gateway", GATEWAY, "--out", str(folder), *more])


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_scenario_can_be_a_trial(name: str, tmp_path: Path) -> None:
    scenario = read_scenario(name)
    assert written(tmp_path, scenario=name) == OK
    configs = [read_agent_config(path) for path in sorted(tmp_path.iterdir())]
    assert len(configs) == scenario.devices.count
    for number, one in enumerate(configs):
        assert (one.share.number, one.share.of) == (number, scenario.devices.count)
        assert (one.seed, one.data, one.learning) == (scenario.seed, scenario.data, scenario.learning)
        assert one.settings.stake == base_units(scenario.incentives.stake)
        assert one.settings.door is scenario.chain.door
        assert one.gateway.url == GATEWAY
    assert sum(one.share.flipped for one in configs) == scenario.attackers.count


def test_the_first_devices_validate_and_the_last_ones_cheat() -> None:
    scenario = Scenario.model_validate(
        {"name": "small", "devices": {"count": 4, "validators": 2}, "attackers": {"count": 1}}
    )
    configs = [checked(device_settings(scenario, n, gateway=GATEWAY), AgentConfig, where="here") for n in range(4)]
    assert [one.behaviour.validator for one in configs] == [True, True, False, False]
    assert [one.share.flipped for one in configs] == [False, False, False, True]


def test_a_device_that_the_scenario_has_not_is_an_error() -> None:
    with pytest.raises(ValueError, match="no device 10; allowed: 0 to 9"):
        device_settings(read_scenario("demo-oppcl"), 10, gateway=GATEWAY)


def test_what_is_there_is_replaced_only_if_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "device-03.toml").write_text("mine")
    assert written(tmp_path) == BAD_INPUT
    assert "device-03.toml is there already" in capsys.readouterr().err
    assert (tmp_path / "device-03.toml").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1
    assert written(tmp_path, "--overwrite") == OK
    assert len(list(tmp_path.iterdir())) == 10


def test_a_gateway_that_is_no_url_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trial", "demo-oppcl", "--gateway", "10.0.0.1", "--out", str(tmp_path / "new")]) == BAD_INPUT
    assert "must begin with http" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
