"""What Prometheus reads: well-formed, complete, and there when database and node are not."""

import platform
from importlib.metadata import version
from typing import Any

import pytest
from gateway_rig import ALICE, OPERATOR, Rig
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import StoreUnavailable

ALWAYS = {
    "idml_gateway_build_info",
    "idml_gateway_alarm",
    "idml_gateway_at_fee_cap",
    "idml_gateway_store_up",
    "idml_gateway_node_up",
    "idml_gateway_reorg_depth_blocks",
    "idml_gateway_attempts_per_inclusion",
    "idml_gateway_batch_calls",
    "idml_gateway_node_errors",
    "idml_gateway_node_request_seconds",
    "idml_gateway_http_request_seconds",
}
OF_THE_STORE = {
    "idml_gateway_submissions",
    "idml_gateway_oldest_unsettled_seconds",
    "idml_gateway_operations_waiting",
    "idml_gateway_oldest_operation_seconds",
    "idml_gateway_store_bytes",
    "idml_gateway_head_block",
    "idml_gateway_head_age_seconds",
}
OF_THE_NODE = {
    "idml_gateway_node_height",
    "idml_gateway_node_asked_age_seconds",
    "idml_gateway_operator_balance_wei",
    "idml_gateway_finality_lag_blocks",
    "idml_gateway_finality_lag_seconds",
    "idml_gateway_models",
    "idml_gateway_model_bytes",
}


@pytest.fixture(autouse=True)
def _always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.watch._FRESH_S", 0.0)
    monkeypatch.setattr("gateway.watch._PATIENCE_S", 10.0)


def scrape(rig: Rig) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and labels."""
    response = rig.client.get("/metrics")
    assert (response.status_code, response.mimetype) == (200, "text/plain")
    families = list(text_string_to_metric_families(response.text))
    assert len({one.name for one in families}) == len(families)
    assert all(one.documentation for one in families)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for one in families for s in one.samples}


def value(found: Any, name: str, **labels: str) -> float | None:
    return found.get((f"idml_gateway_{name}", tuple(sorted(labels.items()))))


def families(rig: Rig) -> set[str]:
    names = {one.name for one in text_string_to_metric_families(rig.client.get("/metrics").text)}
    return {name for name in names if not name.endswith("_created")}  # as many again, in this format


def test_everything_is_told(rig: Rig) -> None:
    rig.worker.confirm()
    assert families(rig) == ALWAYS | OF_THE_STORE | OF_THE_NODE


def test_the_gauges_are_those_of_the_gateway(deep: Rig) -> None:
    deep.accepted(deep.buy(ALICE))
    deep.now_s += 8
    found = scrape(deep)
    assert value(found, "submissions", state="accepted") == 1
    assert value(found, "oldest_unsettled_seconds") == 8
    deep.worker.broadcast()
    deep.mine()
    deep.mine(deep.chain.time_s + 30)
    deep.mine()
    deep.worker.confirm()
    found = scrape(deep)
    height = deep.chain.web3.eth.block_number
    assert value(found, "submissions", state="included") == 1
    assert value(found, "submissions", state="accepted") == 0
    assert (value(found, "head_block"), value(found, "node_height")) == (height, height)
    assert (value(found, "finality_lag_blocks"), value(found, "finality_lag_seconds")) == (3, 32)
    assert value(found, "operator_balance_wei") == deep.chain.web3.eth.get_balance(OPERATOR.address)
    assert value(found, "head_age_seconds") == deep.now_s - deep.chain.time_s
    assert value(found, "build_info", version=version("idml"), python=platform.python_version()) == 1


def test_requests_are_counted_by_route_and_not_by_what_clients_write(rig: Rig) -> None:
    rig.post(rig.buy(ALICE))
    rig.post(b"\2")
    for key in range(3):
        rig.client.get(f"/v1/transactions/{key}")
        rig.client.get(f"/nowhere/{key}")
    rig.client.open("/healthz", method="BREW")
    rig.client.open("/healthz", method="STEEP")
    found = scrape(rig)

    def count(method: str, route: str, status: int) -> float | None:
        labels = {"method": method, "route": route, "status": str(status)}
        return value(found, "http_request_seconds_count", **labels)

    assert count("POST", "/v1/transactions", 202) == 1
    assert count("POST", "/v1/transactions", 400) == 1
    assert count("GET", "/v1/transactions/<key>", 404) == 3
    assert count("GET", "none", 404) == 3
    assert count("other", "none", 405) == 2
    assert count("GET", "/metrics", 200) is None  # not before it is answered
    assert value(scrape(rig), "http_request_seconds_count", method="GET", route="/metrics", status="200") == 1


def test_a_silent_node_takes_nothing_from_the_rest(rig: Rig) -> None:
    rig.worker.confirm()
    rig.provider.down = True
    found = scrape(rig)
    assert (value(found, "node_up"), value(found, "store_up")) == (0, 1)
    assert families(rig) == ALWAYS | OF_THE_STORE | {"idml_gateway_models", "idml_gateway_model_bytes"} | {
        "idml_gateway_node_asked_age_seconds"
    }


def test_a_database_that_is_away_takes_nothing_from_the_rest(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(rig.store, "counts", away)
    found = scrape(rig)
    assert (value(found, "node_up"), value(found, "store_up")) == (1, 0)
    assert families(rig) == ALWAYS | OF_THE_NODE - {"idml_gateway_finality_lag_seconds"}


def test_what_only_this_process_saw_is_counted(rig: Rig) -> None:
    metrics = rig.gateway.metrics
    assert metrics.reorgs() == 0
    for depth in (1, 3):
        metrics.reorg_depth.observe(depth)
    metrics.attempts.observe(2)
    metrics.batch_calls.observe(50)
    found = scrape(rig)
    assert metrics.reorgs() == 2
    assert value(found, "reorg_depth_blocks_sum") == 4
    assert value(found, "attempts_per_inclusion_bucket", le="1.0") == 0
    assert value(found, "attempts_per_inclusion_bucket", le="2.0") == 1
    assert value(found, "batch_calls_bucket", le="40.0") == 0
    assert value(found, "batch_calls_bucket", le="+Inf") == 1


def test_two_gateways_in_one_process_count_apart(rig: Rig) -> None:
    first = rig.gateway.metrics
    rig.restart()
    rig.client.get("/healthz")
    assert first is not rig.gateway.metrics
    assert (
        first.registry.get_sample_value(
            "idml_gateway_http_request_seconds_count", {"method": "GET", "route": "/healthz", "status": "200"}
        )
        is None
    )
