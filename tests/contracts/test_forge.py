"""The tests written in Solidity (contracts/test), run by forge with the compiler that `make test` sets up."""

import re
import tomllib

import pytest
from hypothesis import settings

from contracts import compile as compiler
from contracts import solidity
from contracts.solidity import Outcome

WRITTEN = sorted(
    f"{suite.stem.removesuffix('.t')}Test.{name}"
    for suite in (solidity.ROOT / "test").glob("*.t.sol")
    for name in re.findall(r"function ((?:test|invariant)_\w+)\(", suite.read_text())
)


PROFILE = settings.get_current_profile_name()
LEAST_RUNS, LEAST_CALLS = (10_000, 100_000) if PROFILE == "thorough" else (500, 10_000)


@pytest.fixture(scope="session")
def outcomes() -> dict[str, Outcome]:
    return {f"{one.suite}.{one.name.partition('(')[0]}": one for one in solidity.run_tests(PROFILE)}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.timeout(900)
def test_solidity(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[name]
    assert outcome.reason is None
    if "(" in outcome.name and not outcome.name.endswith("()"):
        assert outcome.runs >= LEAST_RUNS
    if outcome.name.startswith("invariant"):
        assert outcome.runs >= LEAST_CALLS


@pytest.mark.timeout(900)
def test_forge_ran_every_test_that_is_written(outcomes: dict[str, Outcome]) -> None:
    assert sorted(outcomes) == WRITTEN


def test_what_is_tested_is_compiled_like_what_is_shipped() -> None:
    profile = tomllib.loads((solidity.ROOT / "foundry.toml").read_text())["profile"]["default"]
    assert profile["evm_version"] == compiler.EVM_VERSION
    assert profile["optimizer_runs"] == compiler.OPTIMIZER_RUNS
    assert profile["optimizer"] is profile["via_ir"] is True
