"""`report.html`: what a run came to, on one page that needs nothing but itself. Same values in, same bytes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError
from markupsafe import Markup
from pydantic import ValidationError

from device_agent.errors import RunUnusable
from device_agent.learning.choices import TOKEN
from device_agent.loopback.plots import (
    Line,
    Votes,
    accuracy_plot,
    balance_plot,
    gas_plot,
    stake_plot,
    votes_plot,
)
from device_agent.loopback.rundir import scenario_toml
from device_agent.loopback.scenario import Scenario
from device_agent.loopback.summary import FORMAT

PUBLISHED_GAS = 457_225
"""Of an encounter, in total, on Ganache: arXiv 2304.05354."""

_MOST_ROWS = 500
_MOST_REASONS = 5

Json = dict[str, Any]


def render(summary: Json, record: Json) -> str:
    """Return the page of a run. Raises `RunUnusable` if the values are not what a run writes."""
    if record.get("format") != FORMAT:
        raise RunUnusable(f"run.json has format {record.get('format')!r}; this version reads {FORMAT}")
    try:
        return _render(summary, record)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        ValidationError,
        UndefinedError,
    ) as error:
        raise RunUnusable(
            f"summary.json and run.json are not what a run writes: {type(error).__name__}: {error}"
        ) from error


def key_lines(summary: Json) -> list[tuple[str, str, str]]:
    """Return what a run came to as (name, value, remark), for a terminal."""
    lines = [(one["name"], one["value"], one["more"]) for one in _key_figures(summary)]
    if summary["encounters"]["reasons"]:
        most = sorted(summary["encounters"]["reasons"].items(), key=lambda one: (-one[1], one[0]))
        reasons = "; ".join(f"{name} {count}" for name, count in most[:_MOST_REASONS])
        lines.append(("reasons", f"{len(most)} kinds", reasons))
    lines.append(
        (
            "time",
            f"{summary['wall_s']:.0f} s",
            f"{summary['virtual_s'] / 3600:.1f} virtual hours, {summary['encounters_per_s']:.2f} encounters per s",
        )
    )
    return lines


def _render(summary: Json, record: Json) -> str:
    scenario = Scenario.model_validate(record["scenario"], strict=False)
    environment = Environment(
        loader=PackageLoader("device_agent.loopback"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    encounters = record["encounters"]
    return environment.get_template("report.html").render(
        scenario=scenario,
        summary=summary,
        about=_about(summary, scenario),
        key_figures=_key_figures(summary),
        plots=_plots(summary, record),
        rows=_rows(encounters, {one["name"] for one in record["devices"] if not one["honest"]}),
        left_out=max(0, len(encounters) - _MOST_ROWS),
        scenario_text=scenario_toml(scenario),
    )


def _about(summary: Json, scenario: Scenario) -> str:
    attackers = f", {summary['attackers']} of them flip labels" if summary["attackers"] else ""
    return (
        f"{summary['devices']} devices{attackers}; {summary['algorithm']} with {scenario.learning.architecture} on"
        f" {summary['dataset']} ({scenario.data.partition}), seed {summary['seed']}; chain"
        f" {summary['chain']['kind']} (id {summary['chain']['id']}), {_door(summary)} door,"
        f" {summary['virtual_s'] / 3600:.1f} virtual hours."
    )


def _door(summary: Json) -> str:
    """How steps got to the chain; runs from before the batched door do not tell."""
    return str(summary["chain"].get("door", "direct"))


def _key_figures(summary: Json) -> list[Json]:
    met, votes, accuracy = summary["encounters"], summary["votes"], summary["accuracy"]
    bad, gas, stake, tokens = met["by_attackers"], summary["gas"], summary["stake"], summary["tokens"]
    verdicts = met["verdicts"]
    figures: list[tuple[str, str, str]] = [
        (
            "encounters settled",
            f"{met['settled']:,} of {met['opened']:,}",
            f"{verdicts['valid']} valid, {verdicts['invalid']} invalid, {verdicts['none']} undecided;"
            f" {met['expired']} expired",
        ),
        (
            "accuracy of honest devices",
            f"{percent(accuracy['honest_start'])} \u2192 {percent(accuracy['honest_end'])}",
            f"attackers end at {percent(accuracy['attackers_end'])}" if summary["attackers"] else "",
        ),
        (
            "votes correct",
            share(votes["correct"], votes["measured"]),
            f"{votes['correct']:,} of {votes['measured']:,} that agree with the test set",
        ),
    ]
    if summary["attackers"]:
        figures.append(
            (
                "attackers' contributions voted down",
                f"{bad['invalid']} of {sum(bad.values())}",
                f"attackers out of stake: {stake['attackers_out']} of {summary['attackers']};"
                f" honest devices out: {stake['honest_out']}",
            )
        )
    figures.append(
        (
            "gas per encounter",
            "\u2013" if gas["per_encounter"] is None else f"{gas['per_encounter']:,}",
            f"published: {PUBLISHED_GAS:,}",
        )
    )
    if tokens is not None:
        figures.append(
            (
                "tokens",
                "conserved" if tokens["conserved"] else "NOT conserved",
                f"supply {_tokens(tokens['supply']):,.4g}, held {_tokens(tokens['held']):,.4g},"
                f" burned {_tokens(tokens['burned']):,.4g}",
            )
        )
    return [{"name": name, "value": value, "more": more} for name, value, more in figures]


def _plots(summary: Json, record: Json) -> list[Json]:
    settled = sorted(
        (one for one in record["encounters"] if one["settled_block"] is not None),
        key=lambda one: one["settled_block"],
    )
    found: list[tuple[str, str, str, str]] = [
        (
            "accuracy",
            "Accuracy",
            "Of every device's own model on the full test set, which no device has seen.",
            accuracy_plot(_accuracies(record), len(settled)),
        ),
        (
            "votes",
            "Votes and verdicts",
            "Each contribution's votes; a wrong vote disagrees with the test set. Below: what was decided about"
            " contributions of honest devices and of attackers.",
            votes_plot([_votes(one) for one in record["encounters"]]),
        ),
    ]
    if record["balances"]:
        stakes = _balances(record, "stake")
        found += [
            (
                "stake",
                "Stake",
                "Free and locked stake. Below the minimum a device takes no role any more.",
                stake_plot(stakes, _tokens(record["min_stake"]), dropped(stakes, _tokens(record["min_stake"]))),
            ),
            ("balance", "Balances", "All that a device owns.", balance_plot(_balances(record, "all"))),
        ]
    if summary["gas"]["by_step"] and summary["encounters"]["settled"]:
        found.append(
            (
                "gas",
                "Gas",
                f"Mean gas of a settled encounter by step, beside the published total of {PUBLISHED_GAS:,}."
                + (" A batch's gas is shared evenly among its calls." if _door(summary) == "batched" else ""),
                gas_plot(_gas_by_step(summary), PUBLISHED_GAS),
            )
        )
    return [
        {"name": name, "title": title, "caption": caption, "svg": Markup(svg)}  # noqa: S704 - drawn above
        for name, title, caption, svg in found
    ]


def dropped(stakes: Sequence[Line], min_stake: float) -> dict[str, int]:
    """Return the devices that end below the least stake, each with the first block since which it is."""
    found: dict[str, int] = {}
    for line in stakes:
        since: int | None = None
        for block, stake in zip(line.at, line.values, strict=True):
            if stake >= min_stake:
                since = None
            elif since is None:
                since = block
        joined = any(stake >= min_stake for stake in line.values)
        if since is not None and joined:
            found[line.device] = since
    return found


def _accuracies(record: Json) -> list[Line]:
    lines = []
    for device in record["devices"]:
        known = [
            (one["after"], one["accuracy"])
            for one in record["models"]
            if one["device"] == device["name"] and one["accuracy"] is not None
        ]
        known.sort(key=lambda one: one[0])
        lines.append(
            Line(
                device=device["name"],
                honest=device["honest"],
                at=[after for after, _ in known],
                values=[value for _, value in known],
            )
        )
    return lines


def _balances(record: Json, what: str) -> list[Line]:
    lines = []
    for device in record["devices"]:
        at: list[int] = []
        values: list[float] = []
        for sample in record["balances"]:
            wallet, free, locked, unbonding = (_tokens(one) for one in sample["accounts"][device["name"]])
            if not at and not free + locked:
                continue  # it has not joined yet
            at.append(sample["block"])
            values.append(free + locked if what == "stake" else wallet + free + locked + unbonding)
        lines.append(Line(device=device["name"], honest=device["honest"], at=at, values=values))
    return lines


def _votes(encounter: Json) -> Votes:
    def count(*, valid: bool, wrong: bool) -> int:
        return sum(one["valid"] is valid and (one["correct"] is False) is wrong for one in encounter["votes"])

    return Votes(
        honest=encounter["honest"],
        verdict=encounter["verdict"],
        valid_correct=count(valid=True, wrong=False),
        valid_wrong=count(valid=True, wrong=True),
        invalid_correct=count(valid=False, wrong=False),
        invalid_wrong=count(valid=False, wrong=True),
    )


def _gas_by_step(summary: Json) -> dict[str, float]:
    """Share the gas of a settled encounter out over the steps, as all their transactions do."""
    gas = summary["gas"]
    used = {step: gas["calls"][step] * mean for step, mean in gas["by_step"].items()}
    return {step: gas["per_encounter"] * one / sum(used.values()) for step, one in used.items()}


def _rows(encounters: Sequence[Json], attackers: set[str]) -> list[Json]:
    rows = []
    for number, one in list(enumerate(encounters, start=1))[-_MOST_ROWS:]:
        both = one["before"] is not None and one["after"] is not None
        row: Json = {
            "number": number,
            "verdict": one["verdict"] or "open or expired",
            "verdict_kind": one["verdict"] if one["verdict"] in ("valid", "invalid") else "",
            "before": percent(one["before"]),
            "after": percent(one["after"]),
            "change": f"{100 * (one['after'] - one['before']):+.1f}" if both else "\u2013",
            "votes": [
                {
                    "text": ("yes" if vote["valid"] else "no") + ("!" if vote["correct"] is False else ""),
                    "kind": "wrong" if vote["correct"] is False else "correct",
                    "title": f"{vote['voter']}: {vote['reason'].replace('_', ' ')}",
                }
                for vote in one["votes"]
            ],
        }
        for side in ("learner", "neighbor"):
            cheats = one[side] in attackers
            row |= {
                side: one[side],
                f"{side}_kind": "attacker" if cheats else "honest",
                f"{side}_note": " (a)" if cheats else "",
            }
        rows.append(row)
    return rows


def percent(value: float | None) -> str:
    """Write a share as a percentage, a dash for None."""
    return "\u2013" if value is None else f"{100 * value:.1f} %"


def share(part: int, whole: int) -> str:
    """Write part of a whole as a percentage, a dash if the whole is nothing."""
    return percent(part / whole if whole else None)


def _tokens(base_units: str) -> float:
    return int(base_units) / TOKEN
