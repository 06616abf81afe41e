"""Devices that are away from any gateway: they go on, and settle when it is back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agents import Field, FieldAgent, MakeBridge, field_of, wait_for


@pytest.mark.timeout(600)
def test_encounters_go_on_without_a_gateway_and_are_settled_when_it_is_back(bridge: MakeBridge, tmp_path: Path) -> None:
    with field_of(bridge, tmp_path, 3, validators=1) as field:
        wait_for("all have learned", lambda: all(one.told("adopted") for one in field.agents), 180)
        field.relay.cut()
        wait_for("some go on", lambda: len(on_credit(field)) >= 3, 180)
        wait_for("and learn by it", lambda: any(said.get("on_credit") for said in adopted(field)), 120)
        waiting = [one.status()["outbox_in_all"] for one in field.agents]
        assert sum(waiting) > 0
        for one in field.agents:  # what was promised is not forgotten
            assert one.stop() == 0
            one.start()
        field.relay.mend()
        wait_for("what was done is settled", lambda: len(settled_of(field, on_credit(field))) >= 3, 240)
        books = field.end()
    learned = sum(bool(said.get("on_credit")) for said in adopted(field))
    print(f"{len(on_credit(field))} on credit, {learned} adopted at once; {books['happened']}")
    assert books["wrong"] == []


def on_credit(field: Field) -> set[str]:
    """The encounters of which the Learner has the model, and no validators have seen it."""
    told = [said for one in field.agents for said in one.told("encounter")]
    return {said["key"] for said in told if said["happening"] == "updated model arrived on credit"}


def adopted(field: Field) -> list[dict[str, Any]]:
    return [said for one in field.agents for said in one.told("adopted")]


def settled_of(field: Field, keys: set[str]) -> set[str]:
    """Those of them that were settled, as a Learner saw it."""
    return {key for one in field.agents for key in _settled(one) if key in keys}


def _settled(one: FieldAgent) -> set[str]:
    told = one.told("encounter")
    return {said["key"] for said in told if said["stage"] == "settled" and said["role"] == "learner"}
