"""What a run comes to, as numbers: `summary.json` and `run.json`. Pure: what was seen in, JSON values out."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from device_agent.loopback.scenario import Scenario
from device_agent.loopback.seen import Seen

Json = dict[str, Any]

FORMAT = 1
"""Of `run.json`; raised when its shape changes."""

_STEPS = (
    "checkIn",
    "report",
    "vote",
    "finalise",
    "closeReporting",
    "openSigned",
    "reportSigned",
    "voteSigned",
    "settle",
    "expire",
)
_JUDGED = ("VotingStarted", "Settled")
"""Events that tell which digest the votes are about: the second where all was settled in one step."""
_BPS = 10_000


def summarise(scenario: Scenario, seen: Seen) -> Json:
    """Return the summary. Accuracies are shares of the full test set, amounts token base units as strings."""
    encounters = outcomes(scenario, seen)
    books = seen.books
    wall_s = max(seen.wall_s, 1e-9)
    settled = [one for one in encounters if one["verdict"] is not None]
    return {
        "scenario": scenario.name,
        "finished": seen.finished,
        "algorithm": scenario.learning.algorithm,
        "dataset": scenario.data.dataset,
        "seed": scenario.seed,
        "chain": {"kind": seen.chain_kind, "id": seen.chain_id, "door": scenario.chain.door.value},
        "devices": scenario.devices.count,
        "attackers": scenario.attackers.count,
        "encounters": {
            "opened": seen.count("Opened"),
            "settled": len(settled),
            "expired": seen.count("Expired"),
            "verdicts": {
                verdict: sum(one["verdict"] == verdict for one in settled) for verdict in ("valid", "invalid", "none")
            },
            "by_attackers": {
                verdict: sum(one["verdict"] == verdict and not one["honest"] for one in settled)
                for verdict in ("valid", "invalid", "none")
            },
            "reasons": dict(sorted(_reasons(seen).items())),
        },
        "votes": {
            "cast": sum(len(one["votes"]) for one in encounters),
            "correct": sum(vote["correct"] is True for one in encounters for vote in one["votes"]),
            "measured": sum(vote["correct"] is not None for one in encounters for vote in one["votes"]),
        },
        "accuracy": _accuracy(seen),
        "gas": _gas(seen),
        "stake": _stake(scenario, seen),
        "tokens": None
        if books is None
        else {
            "supply": str(books.supply),
            "held": str(books.held),
            "burned": str(books.burned),
            "conserved": books.conserved,
        },
        "virtual_s": round(seen.virtual_s, 3),
        "wall_s": round(seen.wall_s, 3),
        "encounters_per_s": round(len(settled) / wall_s, 4),
    }


def outcomes(scenario: Scenario, seen: Seen) -> list[Json]:
    """Return one object per opened encounter: parties, verdict, votes and their correctness, accuracies.

    A vote is correct if it agrees with the change of accuracy on the full test set, under the same tolerance.
    """
    name_of = {address: name for name, address in seen.addresses.items()}
    by_encounter: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for event in seen.feed:
        if event["encounter"]:
            by_encounter[event["encounter"]].append(event)
    found: list[Json] = []
    for encounter, events in by_encounter.items():
        opened = next((one for one in events if one["name"] == "Opened"), None)
        if opened is None:
            continue
        previous = seen.previous.get(encounter)
        voting = next((one for one in events if "updated" in one["args"] and one["name"] in _JUDGED), None)
        updated = None if voting is None else bytes.fromhex(voting["args"]["updated"][2:])
        before = None if previous is None else seen.referee.accuracy.get(previous)
        after = None if updated is None else seen.referee.accuracy.get(updated)
        truth = None
        if before is not None and after is not None:
            truth = after - before >= -scenario.incentives.tolerance_bps / _BPS
        settled = next((one for one in events if one["name"] == "Settled"), None)
        learner, neighbor = (name_of[account] for account in seen.parties[encounter])
        found.append(
            {
                "encounter": encounter,
                "block": opened["block"],
                "time_s": opened["block_time_s"],
                "learner": learner,
                "neighbor": neighbor,
                "honest": seen.honest[neighbor],
                "verdict": _verdict(settled),
                "before": before,
                "after": after,
                "votes": [
                    {
                        "voter": name_of[one["args"]["voter"]],
                        "valid": one["args"]["valid"],
                        "reason": one["args"]["reason"],
                        "correct": None if truth is None else one["args"]["valid"] == truth,
                    }
                    for one in events
                    if one["name"] == "VoteCast"
                ],
            }
        )
    return found


def record(scenario: Scenario, seen: Seen) -> Json:
    """Return what the plots of a run need beside the summary: `run.json`.

    `models` lists each device's models in the order in which they were adopted, `after` so many settled encounters;
    `balances` are token base units as strings: wallet, free, locked, unbonding.
    """
    name_of = {address: name for name, address in seen.addresses.items()}
    settled = {one["encounter"]: one["block"] for one in seen.feed if one["name"] == "Settled"}
    rank = {encounter.removeprefix("0x"): number for number, encounter in enumerate(settled, start=1)}
    accuracy = seen.referee.accuracy
    models = [
        {"after": 0, "device": name, "accuracy": accuracy.get(digests[0])} for name, digests in seen.models.items()
    ]
    for event in seen.log.events:
        if event["event"] == "adopted":
            after = rank.get(str(event["encounter"]), len(rank))
            found = accuracy.get(bytes.fromhex(event["model"]))
            models.append({"after": after, "device": event["device"], "accuracy": found})
    return {
        "format": FORMAT,
        "scenario": scenario.model_dump(mode="json"),
        "min_stake": str(seen.min_stake),
        "devices": [
            {"name": name, "honest": honest, "address": seen.addresses[name]} for name, honest in seen.honest.items()
        ],
        "encounters": [one | {"settled_block": settled.get(one["encounter"])} for one in outcomes(scenario, seen)],
        "models": models,
        "balances": [
            {
                "block": block,
                "accounts": {
                    name_of[account]: [str(one.wallet), str(one.free), str(one.locked), str(one.unbonding)]
                    for account, one in balances.items()
                },
            }
            for block, _, balances in seen.samples
        ],
    }


def _verdict(settled: Mapping[str, Any] | None) -> str | None:
    if settled is None:
        return None
    yes, no = settled["args"]["yes"], settled["args"]["no"]
    return "none" if yes == no else "valid" if yes > no else "invalid"


def _reasons(seen: Seen) -> Counter[str]:
    """Count what decided: the reasons of votes, and why devices declined or gave encounters up."""
    reasons: Counter[str] = Counter(
        f"vote: {one['args']['reason'].replace('_', ' ')}" for one in seen.feed if one["name"] == "VoteCast"
    )
    for event in seen.log.events:
        if event["event"] == "declined":
            reasons[f"declined: {event['reason']}"] += 1
        elif event["event"] == "encounter" and event.get("happening") == "failed":
            reasons[f"failed: {_without_names(str(event['reason']), seen)}"] += 1
    return reasons


def _without_names(reason: str, seen: Seen) -> str:
    """Take devices and digests out of a reason, so that equal ones are counted together."""
    names = "|".join(map(re.escape, seen.addresses))
    return re.sub(r"[0-9a-f]{64}", "a model", re.sub(rf"\b({names})\b", "the peer", reason))


def _accuracy(seen: Seen) -> Json:
    def mean(names: Iterable[str], which: int) -> float | None:
        found = [seen.referee.accuracy.get(seen.models[name][which]) for name in names if name in seen.models]
        known = [one for one in found if one is not None]
        return round(fmean(known), 4) if known else None

    honest = [name for name, good in seen.honest.items() if good]
    attackers = [name for name, good in seen.honest.items() if not good]
    return {
        "honest_start": mean(honest, 0),
        "honest_end": mean(honest, -1),
        "attackers_start": mean(attackers, 0),
        "attackers_end": mean(attackers, -1),
    }


def _gas(seen: Seen) -> Json:
    """Mean gas of each step, and of all steps of a settled encounter; a batch counts in equal shares of its calls."""
    named = [one for one in seen.feed if one["encounter"]]  # a payment may also empty a seat, which names none
    used = {(one["transaction"], one["place"]): (one["function"], one["gas"], one["encounter"]) for one in named}
    steps: dict[str, list[int]] = defaultdict(list)
    per_encounter: dict[str, int] = defaultdict(int)
    for function, gas, encounter in used.values():
        if function in _STEPS:
            steps[function].append(gas)
            per_encounter[encounter] += gas
    settled = [one["encounter"] for one in seen.feed if one["name"] == "Settled"]
    return {
        "per_encounter": round(fmean(per_encounter[one] for one in settled)) if settled else None,
        "by_step": {step: round(fmean(steps[step])) for step in _STEPS if steps[step]},
        "calls": {step: len(steps[step]) for step in _STEPS if steps[step]},
    }


def _stake(scenario: Scenario, seen: Seen) -> Json:
    """Count the devices that ended below the minimum stake, and so can take no role any more."""
    floor = seen.min_stake
    last = seen.samples[-1][2] if seen.samples else {}

    def out(*, honest: bool) -> int:
        return sum(
            last[address].free + last[address].locked < floor
            for name, address in seen.addresses.items()
            if seen.honest[name] is honest and address in last
        )

    return {"attackers_out": out(honest=False), "honest_out": out(honest=True)}
