"""What goes wrong in a trial, with real agents: they go on, and every payment is right to the last unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from agents import MakeBridge, field_of, wait_for


@pytest.mark.programs("tc", "iptables", "ip6tables")
@pytest.mark.timeout(600)
def test_encounters_settle_where_a_fifth_is_lost_and_the_network_is_slow(bridge: MakeBridge, tmp_path: Path) -> None:
    with field_of(bridge, tmp_path, 3, validators=1, changed={"lost_after_s": 25.0}) as field:
        for one in field.agents:
            one.host.rate(2)
            one.host.loss(20)
        wait_for("each adopts a model", lambda: all(one.told("adopted") for one in field.agents), 420)
        books = field.end()
    print(books["happened"])
    assert books["happened"]["Settled"] >= len(field.agents)
    assert books["wrong"] == []
