"""Whole runs: real agents, the real gateway application, a real chain, real training on Fashion-MNIST."""

from collections import Counter
from pathlib import Path

import pytest
from simulation_run import Result, run, through

from contracts.panel import PANEL_SEATS
from contracts.settlement import DEFAULT_PARAMETERS, ParameterSet, settle
from device_agent.learning.choices import TOKEN
from device_agent.loopback.scenario import Scenario
from device_agent.loopback.seen import Seen
from device_agent.settings import Door

PAPER_GAS = 457_225
SMALL = Scenario.model_validate(
    {
        "name": "small",
        "seed": 7,
        "devices": {"count": 6},
        "attackers": {"count": 1},
        "data": {"alpha": 1.0, "samples_per_device": 400, "validation_share": 0.4},
        "learning": {"max_rounds": 10, "own_steps": 5, "warmup_steps": 10, "batch_size": 32, "learning_rate": 0.05},
        "incentives": {"stake": 12.0, "tolerance_bps": 300},
        "run": {"encounters": 8},
    }
)


def timeless(summary: dict) -> dict:
    """A summary without what depends on the machine."""
    return {key: value for key, value in summary.items() if key not in ("wall_s", "encounters_per_s")}


def balances(seen: Seen) -> dict[str, int]:
    """Everybody's tokens at the end."""
    return {account: one.wallet + one.stake for account, one in seen.samples[-1][2].items()}


def settlements(seen: Seen) -> list[tuple[str, int, int, int]]:
    """Encounter, yes, no and burned of every settlement, in an order no chain decides."""
    return sorted(
        (one["encounter"], one["args"]["yes"], one["args"]["no"], int(one["args"]["burned"]))
        for one in seen.feed
        if one["name"] == "Settled"
    )


@pytest.fixture(scope="module", params=list(Door))
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(through(request.param, SMALL), tmp_path_factory.mktemp("small") / "run")


def test_a_run_goes_from_first_sighting_to_first_payment(small: Result) -> None:
    seen, summary = small.seen, small.summary
    assert seen.finished
    assert summary["encounters"]["opened"] >= SMALL.run.encounters
    assert summary["encounters"]["settled"] + summary["encounters"]["expired"] == summary["encounters"]["opened"]
    assert summary["encounters"]["settled"] > 0
    assert summary["votes"]["cast"] == 3 * summary["encounters"]["settled"]
    assert summary["votes"]["measured"] == summary["votes"]["cast"]
    devices = {event["device"] for event in seen.log.events if event["event"] == "joined"}
    assert len(devices) == SMALL.devices.count
    stages = Counter((e["role"], e["stage"]) for e in seen.log.events if e["event"] == "encounter")
    assert stages["learner", "settled"] == stages["neighbor", "settled"] == summary["encounters"]["settled"]


def check_payments(result: Result) -> None:
    """Replay every settlement with `settlement.py`, and compare with what the chain holds."""
    seen, rules = result.seen, result.scenario.incentives
    reward, stake = TOKEN, int(rules.stake) * TOKEN
    expected = dict.fromkeys(seen.addresses.values(), stake)
    votes: dict[str, list[dict]] = {}
    for one in seen.feed:
        if one["name"] == "VoteCast":
            votes.setdefault(one["encounter"], []).append(one["args"])
    parameters = [one["args"]["parameters"] for one in seen.feed if one["name"] == "ParameterSetAdded"]
    assert len(parameters) == 1
    frozen = ParameterSet(**parameters[0])
    shares = ("validators", "pn_bps", "q_bps", "bond_bps")
    assert [getattr(frozen, name) for name in shares] == [getattr(DEFAULT_PARAMETERS, name) for name in shares]
    for encounter, yes, no, burned in settlements(seen):
        payoff = settle(reward=reward, yes=yes, no=no, parameters=frozen)
        assert payoff.burned == burned
        learner, neighbor = seen.parties[encounter]
        expected[learner] += payoff.learner_refund - reward
        expected[neighbor] += payoff.neighbor_delta
        for vote in votes[encounter]:
            expected[vote["voter"]] += payoff.each_yes if vote["valid"] else payoff.each_no
    assert balances(seen) == expected


def test_everybody_is_paid_what_the_reference_model_says(small: Result) -> None:
    check_payments(small)


def test_validators_too_slow_for_the_short_form_are_waited_for_step_by_step(tmp_path: Path) -> None:
    devices = SMALL.devices.model_copy(update={"validation_images_per_s": 2.0})
    result = run(SMALL.model_copy(update={"devices": devices}), tmp_path / "slow")
    gas = result.summary["gas"]["calls"]
    assert "settle" not in gas
    assert gas["reportSigned"] == gas["finalise"] == result.summary["encounters"]["settled"] > 0
    # A standby seat that was asked meanwhile may vote as well, before the votes that decide are in a block.
    assert 3 * gas["finalise"] <= gas["voteSigned"] <= PANEL_SEATS * gas["finalise"]
    check_payments(result)


def test_tokens_are_conserved_to_the_last_unit(small: Result) -> None:
    books = small.seen.books
    assert books is not None
    assert books.conserved
    assert books.supply == books.held == int(SMALL.incentives.stake) * TOKEN * SMALL.devices.count
    assert books.burned == sum(burned for *_, burned in settlements(small.seen)) > 0


def test_the_same_seed_gives_the_same_run_and_another_seed_another(small: Result, tmp_path: Path) -> None:
    again = run(small.scenario, tmp_path / "again")
    assert again.events == small.events
    assert timeless(again.summary) == timeless(small.summary)
    other = run(small.scenario.model_copy(update={"seed": 8}), tmp_path / "other")
    assert settlements(other.seen) != settlements(small.seen)


@pytest.mark.chain
@pytest.mark.parametrize("chain", ["anvil", "ganache"])
def test_every_chain_gives_the_same_verdicts_and_payments(small: Result, tmp_path: Path, chain: str) -> None:
    there = run(small.scenario, tmp_path / chain, chain)
    assert there.seen.chain_kind == chain
    assert settlements(there.seen) == settlements(small.seen)
    assert balances(there.seen) == balances(small.seen)
    assert there.events == small.events
    assert there.summary["gas"] == small.summary["gas"]


def test_an_encounter_costs_what_its_door_takes(small: Result) -> None:
    gas = small.summary["gas"]
    if small.scenario.chain.door is Door.DIRECT:
        assert 300_000 < gas["per_encounter"] < 1.05 * PAPER_GAS
        assert set(gas["by_step"]) >= {"checkIn", "report", "vote", "finalise"}
    else:
        assert 60_000 < gas["per_encounter"] < 0.4 * PAPER_GAS
        assert set(gas["by_step"]) >= {"openSigned", "settle"}


@pytest.mark.parametrize("door", list(Door))
def test_a_run_without_validators_pays_nobody_and_returns_every_lock(tmp_path: Path, door: Door) -> None:
    devices = SMALL.devices.model_copy(update={"validators": 0, "count": 3})
    learning = SMALL.learning.model_copy(update={"warmup_steps": 0, "max_rounds": 1, "own_steps": 0})
    quiet = SMALL.model_copy(
        update={
            "devices": devices,
            "learning": learning,
            "run": SMALL.run.model_copy(update={"encounters": 2}),
            "attackers": SMALL.attackers.model_copy(update={"count": 0}),
        }
    )
    result = run(through(door, quiet), tmp_path / "quiet")
    assert result.summary["encounters"]["verdicts"] == {"valid": 0, "invalid": 0, "none": 2}
    assert set(balances(result.seen).values()) == {12 * TOKEN}
    assert all(one.locked == 0 for one in result.seen.samples[-1][2].values())
