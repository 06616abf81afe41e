"""A field trial from a scenario: the settings of each device, so that what was rehearsed in loopback is what runs.

Data, learning, incentives, the door, and who validates or cheats are the scenario's. Contacts, air and speeds are not:
in the field they are what they are.
"""

from __future__ import annotations

from typing import Any

from device_agent.loopback.scenario import Scenario


def device_settings(scenario: Scenario, number: int, *, gateway: str) -> dict[str, Any]:
    """Return what `agent.toml` of one device says, for `AgentConfig`.

    Args:
        scenario: of the trial.
        number: of the device, from 0.
        gateway: URL at which devices reach the gateway.

    Raises ValueError for a number that the scenario has not.
    """
    count = scenario.devices.count
    if not 0 <= number < count:
        raise ValueError(f"{scenario.name} has no device {number}; allowed: 0 to {count - 1}")
    incentives, validators = scenario.incentives, scenario.devices.validators
    return {
        "seed": scenario.seed,
        "trial": {"contacts": True},
        "gateway": {"url": gateway},
        "share": {
            "number": number,
            "of": count,
            "flipped": number >= count - scenario.attackers.count,
        },
        "data": scenario.data.model_dump(mode="json"),
        "learning": scenario.learning.model_dump(mode="json"),
        "incentives": {
            "reward": incentives.reward,
            "stake": incentives.stake,
            "tolerance_bps": incentives.tolerance_bps,
        },
        "behaviour": {
            "door": scenario.chain.door.value,
            "validator": validators is None or number < validators,
        },
    }
