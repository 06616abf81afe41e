"""Whether the gateway lives, and whether it can do its work."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from contracts.deploy import Deployment
from gateway.errors import Code, Refusal
from gateway.node import Node
from gateway.store import Store


def health_routes(*, store: Store, node: Node, deployment: Deployment, operator: str) -> Blueprint:
    """Answer those who watch over the gateway; `operator` is the account that pays for batches."""
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    def get_health() -> Response:
        return jsonify({"ok": True})

    @routes.get("/readyz")
    def get_ready() -> Response:
        head = store.head()
        served = node.chain_id()
        if served != deployment.chain_id:
            words = f"the node serves chain {served}, not {deployment.chain_id}"
            raise Refusal(503, Code.NODE_UNAVAILABLE, words, retry=True)
        behind = node.height() - (head.number if head else deployment.block - 1)
        return jsonify(
            {
                "ok": True,
                "submissions": store.counts(),
                "operations_waiting": store.waiting_count(),
                "blocks_behind": behind,
                "operator": {"address": operator, "native_wei": node.balance_wei(operator)},
            }
        )

    return routes
