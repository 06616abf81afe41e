"""Work that devices hand in: transactions that they pay for, and operations that the gateway pays for."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from gateway.accounts import is_hash
from gateway.admission import Admit
from gateway.bodies import hex_member
from gateway.cases import Cases
from gateway.config import Limits
from gateway.errors import Code, Refusal
from gateway.shown import operation_view, submission_view
from gateway.store import Store
from gateway.visit import visit


def work_routes(
    *,
    cases: Cases,
    store: Store,
    admit: Admit,
    limits: Limits,
) -> Blueprint:
    """Take transactions and operations, and tell what became of them."""
    routes = Blueprint("work", __name__)

    # Answered by `gateway.intake`, before anything is asked here.
    routes.add_url_rule("/v1/transactions", "post_transaction", methods=["POST"])

    @routes.get("/v1/transactions/<key>")
    def get_transaction(key: str) -> Response:
        submission = store.submission(key.lower()) if is_hash(key) else None
        if submission is None:
            raise Refusal(404, Code.NOT_FOUND, f"no transaction {key[:80]} was handed to this gateway")
        return jsonify(submission_view(submission))

    @routes.post("/v1/operations")
    def post_operation() -> tuple[Response, int]:
        call = hex_member(visit().asked, "call", max_bytes=limits.max_json_bytes)
        operation, new = cases.take(call, admit=admit)
        return jsonify(operation_view(operation)), 202 if new else 200

    @routes.get("/v1/operations/<key>")
    def get_operation(key: str) -> Response:
        operation = store.operation(key.lower()) if is_hash(key) else None
        if operation is None:
            raise Refusal(404, Code.NOT_FOUND, f"no operation {key[:80]} was handed to this gateway")
        return jsonify(operation_view(operation))

    return routes
