"""Scenarios: what is shipped can be read, and each bad input is one line with file, key, value and what is allowed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.errors import ConfigError
from device_agent.loopback.rundir import scenario_toml
from device_agent.loopback.scenario import Scenario, read_scenario, shipped


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_scenario_is_named_as_its_file(name: str) -> None:
    assert read_scenario(name).name == name


def test_the_demos_are_shipped() -> None:
    assert {"demo-oppcl", "demo-gossip"} <= set(shipped())


NAME = 'name = "x"\n'
BAD = [
    ("", "name is missing"),
    ("name = 7", "name = 7: input should be a valid string"),
    ('name = ""', "name = '': string should match pattern"),
    ('name = "../up"', "name = '../up': string should match pattern"),
    (NAME + "sede = 1", "unknown key sede; allowed here: air, attackers, chain, contacts"),
    (NAME + "[devices]\ncuont = 1", "unknown key devices.cuont; allowed here: count, training_images_per_s"),
    (NAME + "[nonsense]\na = 1", "unknown key nonsense; allowed here: air,"),
    (NAME + "seed = -1", "seed = -1: input should be greater than or equal to 0"),
    (NAME + "seed = 4294967296", "seed = 4294967296: input should be less than 4294967296"),
    (NAME + 'seed = "1"', "seed = '1': input should be a valid integer"),
    (NAME + "seed = 1.0", "seed = 1.0: input should be a valid integer"),
    (NAME + "seed = true", "seed = True: input should be a valid integer"),
    (NAME + "devices = 3", "devices = 3: input should be a valid dictionary"),
    (NAME + "[devices]\ncount = 1", "devices.count = 1: input should be greater than or equal to 2"),
    (NAME + "[devices]\ncount = 4\nvalidators = 5", "devices.validators must be at most devices.count (4)"),
    (NAME + "[attackers]\ncount = 10", "attackers.count must be below devices.count (10)"),
    (NAME + '[attackers]\nkind = "nice"', "attackers.kind = 'nice': input should be 'label_flip'"),
    (NAME + '[data]\ndataset = "mnist"', "data.dataset = 'mnist': allowed are fashion-mnist, cifar-10"),
    (NAME + '[data]\npartition = "fair"', "data.partition = 'fair': input should be 'iid', 'label_shards' or"),
    (NAME + "[data]\nalpha = 0", "data.alpha = 0: input should be greater than 0"),
    (NAME + "[data]\nalpha = nan", "data.alpha = nan: input should be a finite number"),
    (NAME + "[data]\nalpha = inf", "data.alpha = inf: input should be a finite number"),
    (NAME + "[data]\nvalidation_share = 1", "data.validation_share = 1: input should be less than 1"),
    (NAME + '[learning]\narchitecture = "vgg"', "learning.architecture = 'vgg': allowed are cnn"),
    (NAME + '[learning]\ncodec = "int4"', "learning.codec = 'int4': input should be 'float32', 'float16' or 'int8'"),
    (NAME + "[learning]\nmomentum = 1", "learning.momentum = 1: input should be less than 1"),
    (NAME + "[incentives]\nstake = 1", "stake must be at least min_stake + reward (6)"),
    (NAME + "[incentives]\npn_bps = 0", "bond_bps must be at least 10000 - pn_bps (10000)"),
    (NAME + '[contacts]\nkind = "trace"', 'kind = "trace" needs file'),
    (NAME + '[chain]\nkind = "amoy"', "chain.kind = 'amoy': a simulation needs a chain whose time it can set: anvil,"),
    (NAME + '[chain]\nkind = "gnache"', "chain.kind = 'gnache': a simulation needs a chain whose time"),
    (NAME + "[run]\nencounters = 0", "run.encounters = 0: input should be greater than or equal to 1"),
    ("name = ", "not TOML: Invalid value"),
    (NAME + NAME, "not TOML: Cannot overwrite a value"),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[said[:40] for _, said in BAD])
def test_bad_input_is_one_line_with_file_key_value_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trial.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_scenario(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: there is no such file, nor a shipped scenario \(demo-gossip"):
        read_scenario("nowhere")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_scenario(str(tmp_path))
    path = tmp_path / "latin.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match="not TOML"):
        read_scenario(str(path))


def test_a_trace_is_named_from_where_its_scenario_lies(tmp_path: Path) -> None:
    path = tmp_path / "trial.toml"
    path.write_text(NAME + '[contacts]\nkind = "trace"\nfile = "people.dat"\n')
    assert read_scenario(str(path)).contacts.file == tmp_path / "people.dat"


@given(
    folder=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20),
    reward=st.floats(1e-9, 1e6),
    alpha=st.floats(min_value=5e-324, max_value=1.7e308),
)
def test_a_written_scenario_reads_back_as_itself(folder: str, reward: float, alpha: float) -> None:
    scenario = Scenario.model_validate(
        {
            "name": "x",
            "data": {"dataset": f"folder:{folder}", "alpha": alpha},
            "incentives": {"reward": reward, "stake": 5.0 + reward},
            "devices": {"validators": 3},
            "contacts": {"kind": "trace", "file": "/people.dat"},
        },
        strict=False,
    )
    assert Scenario.model_validate(tomllib.loads(scenario_toml(scenario))) == scenario


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_scenario_can_be_written_and_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "copy.toml"
    path.write_text(scenario_toml(read_scenario(name)))
    assert read_scenario(str(path)) == read_scenario(name)
