"""How a gateway is looked at: `/metrics` for Prometheus, `/v1/status` for programs, `/dashboard` for people."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST

from contracts.chain import ChainProfile
from gateway.alarms import Alarm, alarms
from gateway.dashboard import History, add_filters, page
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics, exposition
from gateway.standing import Standing, standing
from gateway.store import Store
from gateway.tables import Database
from gateway.views import Json
from gateway.watch import Watch, Watched


def observe(
    app: Flask,
    *,
    metrics: Metrics,
    database: Database,
    store: Store,
    watch: Watch,
    profile: ChainProfile,
    chain_id: int,
    operator: str,
    operator_alarm_wei: int,
    now_s: Callable[[], float],
) -> None:
    """Add the routes that tell how the gateway stands to an application.

    Args:
        app: to be added to, before its first request.
        metrics: what is counted.
        database: of the gateway.
        store: over it.
        watch: what is known of node and models.
        profile: what is usual on the chain.
        chain_id: of the chain relayed to.
        operator: checksum address of the account that pays for batches.
        operator_alarm_wei: below this much native coin it should be sent some.
        now_s: wall clock, Unix seconds.
    """

    def stands() -> Standing:
        return standing(database, store, operator=operator, now_s=now_s())

    def raised(told: Standing) -> list[Alarm]:
        return list(alarms(told, watch.latest(), profile, operator_alarm_wei=operator_alarm_wei, now_s=now_s()))

    @app.get("/metrics")
    def get_metrics() -> Response:
        told: Standing | None = None
        found: list[Alarm] = []
        try:
            told = stands()
            found = raised(told)
        except StoreUnavailable:
            pass  # what is counted here is there all the same
        text = exposition(metrics, told, watch.latest(), alarms=found, now_s=now_s())
        return Response(text, content_type=CONTENT_TYPE_LATEST)

    def status() -> Json:
        standing_now = stands()
        told = status_view(standing_now, watch.latest(), metrics, now_s=now_s())
        told["alarms"] = [{"kind": one.kind.value, "words": one.words} for one in raised(standing_now)]
        balance_wei = told["operator"]["native_wei"]
        told["operator"] |= {
            "address": operator,
            "alarm_wei": operator_alarm_wei,
            "low": balance_wei is not None and balance_wei < operator_alarm_wei,
        }
        return told

    @app.get("/v1/status")
    def get_status() -> Response:
        return jsonify(status())

    add_filters(app)
    history = History()

    @app.get("/dashboard")
    def get_dashboard() -> Response:
        try:
            told = status()
        except StoreUnavailable:
            told = None
        return page(told, history, chain_id=chain_id)


def status_view(told: Standing, watched: Watched | None, metrics: Metrics, *, now_s: float) -> Json:
    """Return how a gateway stands, as JSON values; null is what is not known."""
    facts = watched.facts if watched else None
    return {
        "submissions": dict(told.submissions),
        "oldest_unsettled_s": told.oldest_unsettled_s,
        "operations_waiting": told.operations_waiting,
        "oldest_operation_s": told.oldest_operation_s,
        "head": None if told.head is None else {"number": told.head.number, "age_s": now_s - told.head.time_s},
        "node": {
            "fault": "nobody asked yet" if watched is None else watched.fault,
            "height": facts and facts.height,
            "final_height": facts and facts.final_height,
            "finality_lag_s": facts and told.lag_s(facts.final_height),
            "answered_s_ago": watched and facts and now_s - watched.at_s,
        },
        "operator": {"native_wei": facts and facts.operator_wei},
        "reorgs": metrics.reorgs(),
        "batches": [
            {
                "id": one.id,
                "state": one.state.value,
                "block": one.block,
                "gas": one.gas,
                "operations": one.operations,
            }
            for one in told.batches
        ],
        "devices": {"enrolled": told.devices, "open_tokens": told.open_tokens},
        "store_bytes": told.store_bytes,
        "models": watched and watched.models,
        "model_bytes": watched and watched.model_bytes,
    }
