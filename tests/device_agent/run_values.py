"""Makes the files of a run that never was, for the tests of report and run folder."""

from __future__ import annotations

import random
from typing import Any

from device_agent.learning.choices import TOKEN
from device_agent.loopback.scenario import Scenario

Json = dict[str, Any]


def made_up_run(
    *, devices: int = 5, attackers: int = 1, encounters: int = 12, name: str = "made-up"
) -> tuple[Json, Json]:
    """Return a plausible (summary, record)."""
    rng = random.Random(f"{devices} {attackers} {encounters}")
    scenario = Scenario.model_validate(
        {"name": name, "devices": {"count": devices}, "attackers": {"count": attackers}, "run": {"encounters": 99}}
    )
    names = [f"device-{number:02d}" for number in range(devices)]
    honest = {one: number < devices - attackers for number, one in enumerate(names)}
    met = []
    for number in range(encounters):
        learner, neighbor = rng.sample(names, 2)
        before = rng.uniform(0.3, 0.6)
        after = before + (0.05 if honest[neighbor] else -0.2)
        met.append(
            {
                "encounter": f"0x{number:064x}",
                "block": 10 + number,
                "settled_block": 14 + number if number != encounters - 1 else None,
                "time_s": 1_767_225_600 + number,
                "learner": learner,
                "neighbor": neighbor,
                "honest": honest[neighbor],
                "verdict": ("valid" if honest[neighbor] else "invalid") if number != encounters - 1 else None,
                "before": before if number else None,
                "after": after,
                "votes": [
                    {
                        "voter": voter,
                        "valid": honest[neighbor],
                        "reason": "accuracy",
                        "correct": rng.random() < 0.8 if number else None,
                    }
                    for voter in rng.sample(names, min(3, devices))
                ],
            }
        )
    settled = sum(one["settled_block"] is not None for one in met)
    models = [{"after": 0, "device": one, "accuracy": rng.uniform(0.2, 0.4)} for one in names]
    models += [
        {"after": after, "device": rng.choice(names), "accuracy": 0.4 + 0.3 * after / max(1, settled)}
        for after in range(1, settled + 1)
    ]
    balances = []
    for block in range(0, 14 + encounters, 3):
        accounts = {}
        for one in names:
            free = 30 * TOKEN if honest[one] else max(0, 30 - 2 * block) * TOKEN
            accounts[one] = ["0", str(free), "0", "0"] if block else [str(30 * TOKEN), "0", "0", "0"]
        balances.append({"block": block, "accounts": accounts})
    verdicts = {key: sum(one["verdict"] == key for one in met) for key in ("valid", "invalid", "none")}
    summary = {
        "scenario": name,
        "finished": True,
        "algorithm": "oppcl",
        "dataset": "fashion-mnist",
        "seed": 1,
        "chain": {"kind": "embedded", "id": 1337, "door": "batched"},
        "devices": devices,
        "attackers": attackers,
        "encounters": {
            "opened": encounters,
            "settled": settled,
            "expired": 1,
            "verdicts": verdicts,
            "by_attackers": {"valid": 0, "invalid": verdicts["invalid"], "none": 0},
            "reasons": {"vote: accuracy": 3 * encounters},
        },
        "votes": {"cast": 3 * encounters, "correct": 2 * encounters, "measured": 3 * encounters},
        "accuracy": {"honest_start": 0.3, "honest_end": 0.7, "attackers_start": 0.1, "attackers_end": None},
        "gas": {
            "per_encounter": 460_000,
            "by_step": {"checkIn": 53_000, "report": 70_000, "vote": 42_000, "finalise": 83_000},
            "calls": {"checkIn": 24, "report": 24, "vote": 36, "finalise": 12},
        },
        "stake": {"attackers_out": attackers, "honest_out": 0},
        "tokens": {"supply": str(150 * TOKEN), "held": str(150 * TOKEN), "burned": "0", "conserved": True},
        "virtual_s": 3700.0,
        "wall_s": 12.0,
        "encounters_per_s": 1.0,
    }
    record = {
        "format": 1,
        "scenario": scenario.model_dump(mode="json"),
        "min_stake": str(5 * TOKEN),
        "devices": [{"name": one, "honest": honest[one], "address": "0x" + "00" * 20} for one in names],
        "encounters": met,
        "models": models,
        "balances": balances,
    }
    return summary, record
