"""The payoff audit: what must hold whatever the figures are, and what the figures say."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import audit
from contracts.__main__ import main
from contracts.audit import (
    Assumptions,
    Concern,
    Contributing,
    Scheme,
    Voting,
    break_even_share,
    coalition_profit,
    collusion_surplus,
    conditions,
    contributing_profit,
    coverage,
    paper,
    pay_table,
    seats_profit,
    share_profit,
    voting_profit,
)
from contracts.audit_report import Audit, as_json, sweep, text
from contracts.settlement import BPS, DEFAULT_PARAMETERS, ParameterSet

STARTING = replace(DEFAULT_PARAMETERS, validators=3, pn_bps=7_000, q_bps=3_000, bond_bps=3_000)
"""The incentive design's starting values."""

RECOMMENDED = replace(DEFAULT_PARAMETERS, validators=3, pn_bps=5_000, q_bps=5_000, bond_bps=7_000)
SEEN = Assumptions(tolerated=0.4)
"""Free rides that validators see more often than not."""

shares = st.floats(0, 1)
errors = st.floats(0, 0.5)


@st.composite
def rules(draw: st.DrawFn) -> ParameterSet:
    pn = draw(st.integers(0, BPS))
    return replace(
        DEFAULT_PARAMETERS,
        validators=draw(st.integers(1, 7)),
        pn_bps=pn,
        q_bps=draw(st.integers(0, BPS)),
        bond_bps=draw(st.integers(BPS - pn, BPS)),
    )


assumptions = st.builds(
    Assumptions,
    false_alarm=errors,
    miss=errors,
    bad_share=shares,
    measuring_cost=shares,
    tolerated=shares,
    accident=shares,
    shared_errors=shares,
)


def failing(parameters: ParameterSet, assume: Assumptions) -> set[Concern]:
    return {one.concern for one in conditions(parameters, assume) if not one.holds}


@given(st.integers(0, 7), shares)
def test_chances_sum_to_one(number: int, probability: float) -> None:
    assert sum(audit.chances(number, probability)) == pytest.approx(1)


@given(rules())
def test_learner_neighbor_and_any_validators_never_gain_together(parameters: ParameterSet) -> None:
    assert collusion_surplus(parameters) <= 0


@given(rules(), assumptions)
def test_random_voting_is_halfway_between_always_yes_and_always_no(
    parameters: ParameterSet, assume: Assumptions
) -> None:
    yes, no, either = (
        voting_profit(one, parameters, assume) for one in (Voting.ALWAYS_YES, Voting.ALWAYS_NO, Voting.RANDOM)
    )
    assert either == pytest.approx((yes + no) / 2, abs=1e-9)


@given(rules(), assumptions)
def test_honest_and_contrary_voting_are_together_what_yes_and_no_are_less_the_cost(
    parameters: ParameterSet, assume: Assumptions
) -> None:
    # With errors independent of the others', each signal is followed by exactly one of the two.
    alone = replace(assume, shared_errors=0.0)
    paid = {one: voting_profit(one, parameters, alone) for one in Voting}
    measured = paid[Voting.HONEST] + paid[Voting.CONTRARY] + 2 * alone.measuring_cost
    assert measured == pytest.approx(paid[Voting.ALWAYS_YES] + paid[Voting.ALWAYS_NO], abs=1e-9)


@given(rules(), assumptions)
def test_honest_validators_and_neighbor_get_no_more_than_the_reward(
    parameters: ParameterSet, assume: Assumptions
) -> None:
    all_good = replace(assume, bad_share=0.0, measuring_cost=0.0, accident=0.0, working_cost=0.0)
    validators = parameters.validators * voting_profit(Voting.HONEST, parameters, all_good)
    assert validators + contributing_profit(Contributing.HONEST, parameters, all_good) <= 1 + 1e-9


@given(rules(), assumptions, shares)
def test_a_coalition_without_seats_gains_only_by_what_the_neighbor_does(
    parameters: ParameterSet, assume: Assumptions, share: float
) -> None:
    for scheme in (Scheme.ROB, Scheme.ALL_NO, Scheme.ALL_YES):
        assert coalition_profit(scheme, 0, parameters, assume) == pytest.approx(0, abs=1e-9)
        assert share_profit(scheme, 0.0, parameters, assume) == pytest.approx(0, abs=1e-9)
    full = coalition_profit(Scheme.POISON, parameters.validators, parameters, assume)
    assert share_profit(Scheme.POISON, 1.0, parameters, assume) == pytest.approx(full, abs=1e-9)
    assert full == pytest.approx(1 + assume.outside_gain)


@given(rules(), assumptions)
def test_one_seat_that_deviates_alone_is_the_cartel_of_one(parameters: ParameterSet, assume: Assumptions) -> None:
    honest = voting_profit(Voting.HONEST, parameters, assume)
    for scheme, voting in ((Scheme.ALL_NO, Voting.ALWAYS_NO), (Scheme.ALL_YES, Voting.ALWAYS_YES)):
        gained = voting_profit(voting, parameters, assume) - honest
        assert coalition_profit(scheme, 1, parameters, assume) == pytest.approx(gained, abs=1e-9)


@given(st.integers(0, 50))
def test_splitting_a_stake_over_seats_earns_what_the_seats_earn(seats: int) -> None:
    one = seats_profit(1, 100, RECOMMENDED, Assumptions())
    assert seats_profit(seats, 100, RECOMMENDED, Assumptions()) == pytest.approx(seats * one)


def test_the_shipped_parameters_lie_inside_with_margin_free_rides_aside() -> None:
    found = audit.aside(conditions(DEFAULT_PARAMETERS, Assumptions()))
    assert audit.least(found).margin > 0.04
    assert audit.least(audit.aside(conditions(STARTING, Assumptions()))).margin < 0


@pytest.mark.parametrize("parameters", [STARTING, RECOMMENDED])
def test_rejecting_everything_is_the_best_paid_with_q_1_and_not_without(parameters: ParameterSet) -> None:
    fair, unfair = pay_table(parameters), pay_table(paper(parameters))
    assert fair[0].each_no == fair[-1].each_yes
    assert unfair[0].each_no > unfair[-1].each_yes
    assert unfair[0].each_no / audit.REWARD == pytest.approx(1 / 3)
    assert Concern.ALL_NO not in failing(parameters, SEEN)
    assert Concern.ALL_NO in failing(paper(parameters), SEEN)


def test_among_validators_that_always_vote_no_a_lonely_yes_loses_its_bond() -> None:
    assert pay_table(RECOMMENDED)[1].each_yes / audit.REWARD == -0.7


def test_an_all_no_cartel_needs_a_smaller_share_of_the_seats_with_q_1() -> None:
    fair = break_even_share(Scheme.ALL_NO, RECOMMENDED, SEEN)
    unfair = break_even_share(Scheme.ALL_NO, paper(RECOMMENDED), SEEN)
    assert fair is not None
    assert unfair is not None
    assert fair > 0.5 > unfair


def test_a_copier_that_sees_votes_earns_more_than_one_that_does_not_and_than_an_honest_validator() -> None:
    for parameters in (STARTING, RECOMMENDED):
        hidden, visible, honest = (
            voting_profit(one, parameters, SEEN) for one in (Voting.COPY_HIDDEN, Voting.COPY_VISIBLE, Voting.HONEST)
        )
        assert visible > honest > hidden
    assert failing(RECOMMENDED, replace(SEEN, votes_visible=True)) == {Concern.BEST_VOTE}


def test_a_validator_with_nobody_beside_it_has_nothing_to_copy() -> None:
    alone = replace(RECOMMENDED, validators=1)
    assert voting_profit(Voting.COPY_VISIBLE, alone, SEEN) == voting_profit(Voting.LAZY, alone, SEEN)


def test_errors_that_all_validators_share_cost_them_nothing() -> None:
    apart, together = (
        voting_profit(Voting.HONEST, RECOMMENDED, replace(SEEN, shared_errors=one)) for one in (0.0, 0.5)
    )
    assert together > apart


def test_with_a_panel_of_one_nobody_measures() -> None:
    assert Concern.BEST_VOTE in failing(replace(RECOMMENDED, validators=1), replace(SEEN, measuring_cost=0.0))


def test_where_bad_contributions_are_rarer_than_errors_no_bond_makes_honest_voting_the_best() -> None:
    rare = Assumptions(false_alarm=0.1, miss=0.1, bad_share=0.05, measuring_cost=0.0)
    for bond in range(5_000, BPS + 1, 500):
        assert Concern.BEST_VOTE in failing(replace(RECOMMENDED, bond_bps=bond), rare)


def test_a_free_ride_pays_under_the_shipped_vote_rule_and_loses_once_it_is_seen() -> None:
    assert contributing_profit(Contributing.FREE_RIDE, RECOMMENDED, Assumptions()) == pytest.approx(0.5)
    assert failing(RECOMMENDED, Assumptions()) == {Concern.FREE_RIDE}
    needed = audit.needed_rejection(RECOMMENDED, SEEN)
    assert needed is not None
    assert needed == pytest.approx(0.398, abs=0.001)
    just = replace(SEEN, miss=0.0, tolerated=1 - needed)
    assert contributing_profit(Contributing.FREE_RIDE, RECOMMENDED, just) <= 0
    less = replace(just, tolerated=1 - needed + 0.002)
    assert contributing_profit(Contributing.FREE_RIDE, RECOMMENDED, less) > 0


def test_the_smallest_bond_lets_a_learner_rob_a_neighbor_with_one_friend_on_the_panel() -> None:
    assert coalition_profit(Scheme.ROB, 1, STARTING, SEEN) > 0
    assert coalition_profit(Scheme.ROB, 1, RECOMMENDED, SEEN) < -0.3


@pytest.mark.parametrize(("error", "bad"), [(0.1, 0.2), (0.05, 0.1), (0.17, 0.25), (0.23, 0.35)])
def test_the_recommended_parameters_lie_inside_with_margin(error: float, bad: float) -> None:
    assume = replace(SEEN, false_alarm=error, miss=error, bad_share=bad)
    found = conditions(RECOMMENDED, assume)
    assert all(one.holds for one in found)
    assert audit.least(found).margin > (0.04 if error == 0.1 else 0.009)


def test_the_recommended_parameters_hold_in_more_of_the_plausible_range_than_the_starting_ones() -> None:
    assert coverage(RECOMMENDED, SEEN) > 0.6
    assert coverage(STARTING, SEEN) < 0.3
    assert coverage(paper(RECOMMENDED), SEEN) == 0


def test_poisoning_that_is_worth_something_outside_needs_more_than_the_fine() -> None:
    assert Concern.WORK in failing(RECOMMENDED, replace(SEEN, outside_gain=40.0))


@pytest.mark.parametrize(
    "changes", [{"miss": 0.6}, {"false_alarm": -0.1}, {"bad_share": 1.1}, {"tolerated": float("nan")}]
)
def test_assumptions_out_of_range_are_named(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be from 0 to"):
        Assumptions(**changes)


@pytest.mark.parametrize(
    ("parameters", "assume"),
    [
        (STARTING, Assumptions()),
        (replace(RECOMMENDED, validators=1), Assumptions(bad_share=1.0, miss=0.5, shared_errors=1.0)),
        (replace(RECOMMENDED, validators=2, pn_bps=BPS, q_bps=0, bond_bps=0), Assumptions(votes_visible=True)),
        (replace(RECOMMENDED, pn_bps=0, q_bps=BPS, bond_bps=BPS, validators=7), Assumptions(false_alarm=0, miss=0)),
        (RECOMMENDED, SEEN),
    ],
)
def test_any_audit_can_be_shown(parameters: ParameterSet, assume: Assumptions) -> None:
    judged = Audit(parameters=parameters, assume=assume)
    shown = text(judged)
    assert ("INSIDE" in judged.verdict[0]) == judged.inside
    assert shown.endswith("\n".join(judged.verdict) + "\n")
    assert json.loads(json.dumps(as_json(judged)))["inside"] == judged.inside


def test_the_sweep_has_every_panel_size_and_both_rules_of_q() -> None:
    rows = list(csv.DictReader(io.StringIO(sweep(Audit(parameters=RECOMMENDED, assume=SEEN)))))
    assert {row["validators"] for row in rows} == {"1", "3", "5", "7"}
    assert any(row["inside"] == "1" for row in rows if row["q"] == row["pv"])
    assert not any(row["inside"] == "1" for row in rows if row["q"] == "1.0")


RECOMMENDED_FLAGS = ["audit", "--validators", "3", "--pv", "0.5", "--bond", "0.7", "--tolerated", "0.4"]


def test_the_command_exits_with_0_inside_and_1_outside(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(RECOMMENDED_FLAGS) == 0
    assert "lie INSIDE" in capsys.readouterr().out
    assert main([*RECOMMENDED_FLAGS, "--q", "1"]) == 1
    shown = capsys.readouterr()
    assert "lie OUTSIDE" in shown.out
    assert "(A9)" in shown.out.splitlines()[-1]
    assert shown.err == ""


def test_the_shipped_defaults_are_what_is_judged_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    main(["audit", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["parameters"]["bond_bps"] == DEFAULT_PARAMETERS.bond_bps
    assert shown["verdict"][0].startswith("The shipped defaults")
    assert shown["assumptions"]["tolerated"] == 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--error-rate", "0.6"], "--error-rate: must be a number from 0 to 0.5, got '0.6'"),
        (["--bad-share", "many"], "--bad-share: must be a number from 0 to 1, got 'many'"),
        (["--measuring-cost", "nan"], "--measuring-cost: must be a number from 0 to 1"),
        (["--validators", "8"], "--validators"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(
    flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["audit", *flags])
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_a_bond_below_the_validators_share_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--pv", "0.5", "--bond", "0.4"]) == 2
    shown = capsys.readouterr().err
    assert "bond_bps must be from 5000 to 10000, got 4000" in shown
    assert shown.count("\n") == 1


def test_the_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main([*RECOMMENDED_FLAGS, "--out", str(tmp_path / "new" / "audit")]) == 0
    written = {one.name: one for one in (tmp_path / "new" / "audit").iterdir()}
    assert set(written) == {"audit.json", "audit.md", "audit.csv", "audit.png", "audit.svg"}
    assert written["audit.png"].read_bytes().startswith(b"\x89PNG")
    assert "lie INSIDE" in written["audit.md"].read_text()
    assert "written:" in capsys.readouterr().out


def test_without_matplotlib_the_table_is_shown_and_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    assert main(RECOMMENDED_FLAGS) == 0
    capsys.readouterr()
    assert main([*RECOMMENDED_FLAGS, "--out", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr().err
    assert "matplotlib" in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_table_needs_neither_matplotlib_nor_web3() -> None:
    code = (
        "import sys; from contracts.__main__ import main; main(['audit']); "
        "print(sorted({'matplotlib', 'numpy', 'web3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
