"""What `idml-contracts audit` shows: the text, the files and the picture of a payoff audit.

All profits are expected rewards (r) per encounter. Nothing here decides anything: see `contracts.audit`.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from contracts.audit import (
    REWARD,
    Assumptions,
    Concern,
    Condition,
    Contributing,
    Scheme,
    Voting,
    aside,
    break_even_share,
    coalition_profit,
    collusion_surplus,
    conditions,
    contributing_profit,
    coverage,
    holding,
    least,
    needed_rejection,
    paper,
    pay_table,
    seats_profit,
    voting_conditions,
    voting_profit,
)
from contracts.audit_plot import draw
from contracts.settlement import BPS, DEFAULT_PARAMETERS, ParameterSet

ERRORS: Final = (0.02, 0.05, 0.10, 0.17, 0.23)
COSTS: Final = (0.0, 0.01, 0.02, 0.05)
PANELS: Final = (1, 3, 5, 7)
_STEPS: Final = tuple(n / 200 for n in range(201))
_SEATS_OF: Final = 10
_FROM: Final = "pays from this share of all seats on"

_Profit: TypeAlias = tuple[str, str, float | None, float | None]
"""Group, name, profit with the given parameters, profit with q = 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A set of rules and the assumptions under which it is judged."""

    parameters: ParameterSet
    assume: Assumptions

    @property
    def name(self) -> str:
        """What the parameters are called in a report."""
        return "The shipped defaults" if self.parameters == DEFAULT_PARAMETERS else "The given parameters"

    @property
    def found(self) -> tuple[Condition, ...]:
        """Every condition."""
        return conditions(self.parameters, self.assume)

    @property
    def inside(self) -> bool:
        """Whether every condition holds."""
        return all(one.holds for one in self.found)

    @property
    def verdict(self) -> tuple[str, ...]:
        """One line, or two where free rides are what fails."""
        found = self.found
        first = _verdict(self.name, found)
        if all(one.holds or one.concern is not Concern.FREE_RIDE for one in found):
            return (first,)
        return (first, _verdict("Free rides aside, they", aside(found)))


def as_json(audit: Audit) -> dict[str, Any]:
    """The whole audit as plain values; profits in rewards."""
    return {
        "parameters": asdict(audit.parameters),
        "assumptions": asdict(audit.assume),
        "inside": audit.inside,
        "verdict": list(audit.verdict),
        "coverage": round(coverage(audit.parameters, audit.assume), 4),
        "profits": [{"group": group, "name": name, "given": a, "q1": b} for group, name, a, b in _profits(audit)],
        "conditions": [_condition(one) for one in audit.found],
        "conditions_q1": [_condition(one) for one in conditions(paper(audit.parameters), audit.assume)],
        "least_bad_share": [
            {"error_rate": error, "measuring_cost": cost, "given": a, "q1": b}
            for error, cost, a, b in _least_bad_shares(audit)
        ],
        "by_panel_size": [
            {"validators": size, "margin": margin, "decided_by": name, "coverage": held}
            for size, margin, name, held in _by_panel_size(audit)
        ],
    }


def text(audit: Audit) -> str:
    """The report as aligned plain text."""
    given, one = audit.parameters, paper(audit.parameters)
    shown = "shipped" if given == DEFAULT_PARAMETERS else "given"
    lines = ["Payoff audit: expected profit per encounter, in rewards (r)", "", _row("parameters", shown, "q = 1")]
    for name, of in (("V", "validators"), ("p_n", "pn_bps"), ("p_v", "pv_bps"), ("q", "q_bps"), ("bond b", "bond_bps")):
        scale = 1 if of == "validators" else BPS
        lines.append(_row(f"  {name}", f"{getattr(given, of) / scale:g}", f"{getattr(one, of) / scale:g}"))
    lines += ["", "assumed", *(f"  {line}" for line in _assumed(audit.assume))]
    group = ""
    for now, name, a, b in _profits(audit):
        if now != group:
            lines += ["", _row(now, shown, "q = 1")]
            group = now
        show = _share if name == _FROM else _signed
        lines.append(_row(f"  {name}", show(a), show(b)))
    lines += ["", _row("conditions: margin in r", shown, "q = 1")]
    for left, right in zip(audit.found, conditions(one, audit.assume), strict=True):
        lines.append(_row(f"  {left.name}", _margin(left), _margin(right)))
    lines += ["", "least share of bad contributions with which honest voting pays and is the best response"]
    lines.append(_row("  errors, measuring cost", shown, "q = 1"))
    for error, cost, a, b in _least_bad_shares(audit):
        lines.append(_row(f"  e = {error:.2f}, c_v = {cost:.2f} r", _share(a), _share(b)))
    lines += [
        "",
        "panel size, free rides aside: margin at the assumed point, and part of the plausible range that is inside",
    ]
    lines.append("  (plausible: e from 0.02 to 0.25, bad contributions from 0.02 to 0.5, c_v from 0 to 0.05 r)")
    for size, margin, name, held in _by_panel_size(audit):
        lines.append(f"  V = {size}   {_signed(margin)}   {held:6.1%}   {name}")
    failing = [one for one in audit.found if not one.holds]
    if failing:
        lines += ["", "what fails, and each single change with which it would hold"]
        for condition in failing:
            lines.append(f"  {condition.name} ({_signed(condition.margin)})")
            lines += [f"    {remedy}" for remedy in _remedies(audit, condition)] or ["    no single change"]
    return "\n".join([*lines, "", *audit.verdict, ""])


def sweep(audit: Audit) -> str:
    """CSV: every combination of V, p_v, q, b and e on a coarse grid, and what decides there (free rides aside)."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(("validators", "pn", "pv", "q", "bond", "error_rate", "margin_r", "inside", "decided_by"))
    for rules in _rules(audit.parameters):
        for error in ERRORS:
            found = aside(conditions(rules, replace(audit.assume, false_alarm=error, miss=error)))
            decides = least(found)
            inside = all(one.holds for one in found)
            shares = (rules.pn_bps, rules.pv_bps, rules.q_bps, rules.bond_bps)
            row = (rules.validators, *(share / BPS for share in shares), error, f"{decides.margin:.6f}", int(inside))
            table.writerow((*row, decides.name))
    return out.getvalue()


def write(audit: Audit, folder: Path) -> tuple[Path, ...]:
    """Write audit.json, audit.md, audit.csv, audit.png and audit.svg; returns their paths.

    Raises:
        ToolMissing: matplotlib is not installed (nothing is written).
    """
    figure = draw(audit.parameters, audit.assume, title=audit.verdict)
    folder.mkdir(parents=True, exist_ok=True)
    names = ("audit.json", "audit.md", "audit.csv", "audit.png", "audit.svg")
    paths = tuple(folder / name for name in names)
    paths[0].write_text(json.dumps(as_json(audit), indent=2) + "\n")
    paths[1].write_text(f"# Payoff audit\n\n![the region](audit.png)\n\n```\n{text(audit)}```\n")
    paths[2].write_text(sweep(audit))
    figure.savefig(paths[3], dpi=130)
    figure.savefig(paths[4], metadata={"Date": None})
    return paths


def _rules(parameters: ParameterSet) -> Iterator[ParameterSet]:
    for size in PANELS:
        for tenth in range(1, 8):
            share = tenth * BPS // 10
            panel = replace(parameters, validators=size, pn_bps=BPS - share, bond_bps=BPS)
            for q in (share, BPS):
                for bond in sorted({share, *(one for one in (3_000, 5_000, 7_000, BPS) if one >= share)}):
                    yield replace(panel, q_bps=q, bond_bps=bond)


def _profits(audit: Audit) -> Iterator[_Profit]:
    assume, size = audit.assume, audit.parameters.validators

    def both(group: str, name: str, value: Callable[[ParameterSet], float | None]) -> _Profit:
        return group, name, value(audit.parameters), value(paper(audit.parameters))

    for voting in Voting:
        yield both("one validator, the others honest", voting.value, partial(voting_profit, voting, assume=assume))
    for doing in Contributing:
        yield both("one Neighbor, validators honest", doing.value, partial(contributing_profit, doing, assume=assume))
    for scheme in Scheme:
        group = f"coalition: {scheme.value}"
        for seats in range(size + 1):
            profit = partial(coalition_profit, scheme, seats, assume=assume)
            yield both(group, f"with {seats} of the {size} seats of a panel", profit)
        yield both(group, _FROM, partial(break_even_share, scheme, assume=assume))
    group = "all validators alike"
    yield both(group, "all vote yes: each is paid", lambda one: pay_table(one)[-1].each_yes / REWARD)
    yield both(group, "all vote no: each is paid", lambda one: pay_table(one)[0].each_no / REWARD)
    if size > 1:
        yield both(group, "the only yes among no votes gets", lambda one: pay_table(one)[1].each_yes / REWARD)
    yield both("at most, whatever the votes", "Learner, Neighbor and any validators together", collusion_surplus)
    for seats in (1, 2):
        name = f"{seats} of {_SEATS_OF} seats ({seats} times the minimum stake), honest"
        yield both("stake split over seats (A5)", name, partial(seats_profit, seats, _SEATS_OF, assume=assume))


def _least_bad_shares(audit: Audit) -> Iterator[tuple[float, float, float | None, float | None]]:
    for error in ERRORS:
        for cost in COSTS:
            point = replace(audit.assume, false_alarm=error, miss=error, measuring_cost=cost)
            a, b = (_least_bad_share(one, point) for one in (audit.parameters, paper(audit.parameters)))
            yield error, cost, a, b


def _least_bad_share(parameters: ParameterSet, assume: Assumptions) -> float | None:
    for share in _STEPS[: len(_STEPS) // 2 + 1]:
        if all(one.holds for one in voting_conditions(parameters, replace(assume, bad_share=share))):
            return share
    return None


def _by_panel_size(audit: Audit) -> Iterator[tuple[int, float, str, float]]:
    for size in PANELS:
        panel = replace(audit.parameters, validators=size)
        decides = least(aside(conditions(panel, audit.assume)))
        yield size, decides.margin, decides.name, coverage(panel, audit.assume)


def _remedies(audit: Audit, condition: Condition) -> Iterator[str]:
    rules, assume = audit.parameters, audit.assume
    if condition.name == "a free ride loses":
        yield "the vote rule, accuracy(updated) >= accuracy(previous) - tau, accepts a copy of the old model"
        needed = _share(needed_rejection(rules, assume))
        yield f"each validator rejects a free ride with a probability of at least {needed}"
    bonds = [one for one in _STEPS if one >= rules.pv_bps / BPS]
    for label, values, vary in (
        ("share of bad contributions", _STEPS, lambda x: (rules, replace(assume, bad_share=x))),
        ("errors", _STEPS[:101], lambda x: (rules, replace(assume, false_alarm=x, miss=x))),
        ("measuring cost in r", _STEPS, lambda x: (rules, replace(assume, measuring_cost=x))),
        ("free rides tolerated", _STEPS, lambda x: (rules, replace(assume, tolerated=x))),
        ("bond in r", bonds, lambda x: (replace(rules, bond_bps=round(x * BPS)), assume)),
        ("q", _STEPS, lambda x: (replace(rules, q_bps=round(x * BPS)), assume)),
    ):
        held = holding(condition.name, values, vary)
        if held is not None:
            yield f"{label} from {held[0]:.3f} to {held[1]:.3f}"


def _condition(one: Condition) -> dict[str, Any]:
    return {"name": one.name, "concern": one.concern.value, "margin": round(one.margin, 9), "holds": one.holds}


def _verdict(subject: str, found: Sequence[Condition]) -> str:
    failing = [f"{one.name} ({_signed(one.margin)} r)" for one in found if not one.holds]
    if failing:
        return f"{subject} lie OUTSIDE: it does not hold that {', that '.join(failing)}"
    decides = least(found)
    return f"{subject} lie INSIDE: every condition holds, with a margin of {decides.margin:.3f} r ({decides.name})"


def _assumed(assume: Assumptions) -> Iterator[str]:
    yield f"validators: false alarm {assume.false_alarm:g}, miss {assume.miss:g}, same signal {assume.shared_errors:g}"
    yield f"bad contributions {assume.bad_share:g}, measuring costs {assume.measuring_cost:g} r"
    yield f"Neighbor: work costs {assume.working_cost:g} r, goes wrong with {assume.accident:g}"
    yield f"free rides tolerated {assume.tolerated:g}, poisoning is worth {assume.outside_gain:g} r outside"
    yield f"votes {'visible before voting' if assume.votes_visible else 'hidden until all are in'}"


def _row(name: str, left: str, right: str) -> str:
    return f"{name:<70}{left:>15}{right:>15}"


def _signed(value: float | None) -> str:
    return "never" if value is None else f"{value + 0.0:+.3f}"


def _share(value: float | None) -> str:
    return "never" if value is None else f"{value:.3f}"


def _margin(condition: Condition) -> str:
    return f"{'' if condition.holds else 'FAILS '}{_signed(condition.margin)}"
