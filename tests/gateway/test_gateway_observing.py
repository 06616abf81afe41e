"""How a gateway is looked at from outside."""

import pytest
from gateway_rig import ALICE, OPERATOR, Rig

from gateway.errors import StoreUnavailable
from gateway.node import Node


@pytest.fixture(autouse=True)
def _always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.watch._FRESH_S", 0.0)
    monkeypatch.setattr("gateway.watch._PATIENCE_S", 10.0)


def test_the_status_is_told(deep: Rig) -> None:
    deep.accepted(deep.buy(ALICE))
    deep.step()
    told = deep.get("/v1/status")
    height = deep.chain.web3.eth.block_number
    assert told["submissions"]["included"] == 1
    assert told["head"] == {"number": height, "age_s": deep.now_s - deep.chain.time_s}
    assert told["node"]["fault"] is None
    assert (told["node"]["height"], told["node"]["final_height"]) == (height, height - 3)
    assert told["operator"] == {
        "address": OPERATOR.address,
        "native_wei": deep.chain.web3.eth.get_balance(OPERATOR.address),
        "alarm_wei": 10**17,
        "low": False,
    }
    assert (told["reorgs"], told["batches"], told["models"]) == (0, [], 0)


def test_what_is_not_known_is_null(rig: Rig) -> None:
    rig.provider.down = True
    told = rig.get("/v1/status")
    assert told["head"] is None
    assert "no useful answer" in told["node"].pop("fault")
    assert set(told["node"].values()) == {None}
    assert (told["operator"]["native_wei"], told["operator"]["low"]) == (None, False)


def test_an_operator_that_runs_short_is_shown(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for held_wei, low in ((10**17, False), (10**17 - 1, True), (0, True)):
        monkeypatch.setattr(Node, "balance_wei", lambda _node, _account, held_wei=held_wei: held_wei)
        assert rig.get("/v1/status")["operator"]["low"] is low


def test_a_database_that_is_away_is_a_503(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(rig.store, "counts", away)
    response = rig.client.get("/v1/status")
    assert (response.status_code, response.json["error"]["code"]) == (503, "store_unavailable")
