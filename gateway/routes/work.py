"""Work that devices hand in: transactions that they pay for, and operations that the gateway pays for."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, jsonify

from gateway.acceptance import Acceptance
from gateway.accounts import is_hash
from gateway.admission import Admit
from gateway.bodies import hex_member
from gateway.cases import Cases
from gateway.config import Limits
from gateway.errors import Code, Refusal
from gateway.shown import operation_view, submission_view
from gateway.store import Store


def work_routes(
    *,
    acceptance: Acceptance,
    cases: Cases,
    store: Store,
    admit: Admit,
    limits: Limits,
    now_s: Callable[[], float],
) -> Blueprint:
    """Take transactions and operations, and tell what became of them."""
    routes = Blueprint("work", __name__)

    @routes.post("/v1/transactions")
    def post_transaction() -> tuple[Response, int]:
        raw = hex_member("raw", max_bytes=limits.max_json_bytes)
        submission, new = acceptance.take(raw, now_s=now_s(), admit=admit)
        return jsonify(submission_view(submission)), 202 if new else 200

    @routes.get("/v1/transactions/<key>")
    def get_transaction(key: str) -> Response:
        submission = store.submission(key.lower()) if is_hash(key) else None
        if submission is None:
            raise Refusal(404, Code.NOT_FOUND, f"no transaction {key[:80]} was handed to this gateway")
        return jsonify(submission_view(submission))

    @routes.post("/v1/operations")
    def post_operation() -> tuple[Response, int]:
        operation, new = cases.take(hex_member("call", max_bytes=limits.max_json_bytes), admit=admit)
        return jsonify(operation_view(operation)), 202 if new else 200

    @routes.get("/v1/operations/<key>")
    def get_operation(key: str) -> Response:
        operation = store.operation(key.lower()) if is_hash(key) else None
        if operation is None:
            raise Refusal(404, Code.NOT_FOUND, f"no operation {key[:80]} was handed to this gateway")
        return jsonify(operation_view(operation))

    return routes
