"""The gateway's HTTP interface: `create_app` puts a Flask application over a store, a shelf and a node.

Every answer that is not a model is JSON. Every error is `{"error": {"code", "message", "retry"}}` with a code
from `gateway.errors.Code`; `retry` says whether the same request may succeed later.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, jsonify, request, send_file
from werkzeug.exceptions import HTTPException

from contracts.deploy import Deployment
from gateway.acceptance import Acceptance
from gateway.accounts import Accounts, checked_address
from gateway.cases import Cases
from gateway.config import Limits
from gateway.errors import Code, NodeUnavailable, Refusal, StoreUnavailable
from gateway.node import Node
from gateway.records import Operation, Submission
from gateway.shelf import Shelf
from gateway.store import Store
from gateway.submission import State
from gateway.tables import FREED
from gateway.views import Json, encounter_view

_log = logging.getLogger(__name__)
_FEED_LIMIT = 500
_MAX_BRACKETS = 8
_A_YEAR_S = 31_536_000


def create_app(
    *,
    store: Store,
    shelf: Shelf,
    node: Node,
    deployment: Deployment,
    limits: Limits,
    now_s: Callable[[], float],
    operator: str,
) -> Flask:
    """Build the application; nothing is read from the environment.

    Args:
        store: submissions and events, shared with the worker.
        shelf: model snapshots.
        node: for account balances, nonces and fees.
        deployment: the contracts this gateway relays to.
        limits: what one request may cost.
        now_s: wall clock, Unix seconds.
        operator: checksum address of the account that pays for batches.
    """
    app = Flask("gateway", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = limits.max_model_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]  # DefaultJSONProvider
    accounts = Accounts(store=store, node=node, deployment=deployment)
    acceptance = Acceptance(store=store, node=node, deployment=deployment, limits=limits)
    cases = Cases(store=store, accounts=accounts, domain=deployment.domain, now_s=now_s)

    def view(encounter: str) -> Json:
        rows = store.encounter_events(encounter)
        return encounter_view(encounter, store.terms(encounter), rows, salts=store.salts(encounter))

    @app.post("/v1/transactions")
    def post_transaction() -> tuple[Response, int]:
        submission, new = acceptance.take(_hex_of("raw", limits), now_s=now_s())
        return jsonify(submission_view(submission)), 202 if new else 200

    @app.get("/v1/transactions/<key>")
    def get_transaction(key: str) -> Response:
        submission = store.submission(key.lower())
        if submission is None:
            raise Refusal(404, Code.NOT_FOUND, f"no transaction {key} was handed to this gateway")
        return jsonify(submission_view(submission))

    @app.post("/v1/operations")
    def post_operation() -> tuple[Response, int]:
        operation, new = cases.take(_hex_of("call", limits))
        return jsonify(operation_view(operation)), 202 if new else 200

    @app.get("/v1/operations/<key>")
    def get_operation(key: str) -> Response:
        operation = store.operation(key.lower())
        if operation is None:
            raise Refusal(404, Code.NOT_FOUND, f"no operation {key} was handed to this gateway")
        return jsonify(operation_view(operation))

    @app.get("/v1/accounts/<address>")
    def get_account(address: str) -> Response:
        return jsonify(accounts.view(address))

    @app.get("/v1/chain")
    def get_chain() -> Response:
        return jsonify(accounts.chain())

    @app.get("/v1/encounters/<encounter>")
    def get_encounter(encounter: str) -> Response:
        head = store.head()
        return jsonify(view(encounter.lower()) | {"chain_time_s": head.time_s if head else 0})

    @app.get("/v1/jobs")
    def get_jobs() -> Response:
        validator = checked_address(request.args.get("validator", ""))
        jobs, chain_time_s = cases.jobs(validator)
        return jsonify({"jobs": jobs, "chain_time_s": chain_time_s})

    @app.get("/v1/events")
    def get_events() -> Response:
        after = request.args.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) <= 18):
            raise Refusal(400, Code.BAD_REQUEST, f"after must be an event number, got {after[:40]!r}")
        rows = store.events_after(int(after), limit=_FEED_LIMIT)
        return jsonify({"events": [row.as_json() for row in rows]})

    @app.put("/v1/models/<digest>")
    def put_model(digest: str) -> tuple[Response, int]:
        new = shelf.put(digest, request.get_data(cache=False))
        return jsonify({"digest": digest}), 201 if new else 200

    @app.get("/v1/models/<digest>")
    def get_model(digest: str) -> Response:
        # conditional=True answers HEAD, ranges and If-None-Match.
        return send_file(
            shelf.find(digest),
            mimetype="application/octet-stream",
            conditional=True,
            etag=digest,
            max_age=_A_YEAR_S,
        )

    @app.get("/healthz")
    def get_health() -> Response:
        return jsonify({"ok": True})

    @app.get("/readyz")
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

    _answer_errors(app)
    return app


def _hex_of(member: str, limits: Limits) -> bytes:
    """The bytes that are the only member of the request's body."""
    if (request.content_length or 0) > limits.max_json_bytes:
        raise Refusal(413, Code.BODY_TOO_LARGE, f"at most {limits.max_json_bytes} bytes of JSON")
    request.max_content_length = limits.max_json_bytes  # also for a body that does not say how long it is
    data = request.get_data()
    # Python's reader recurses: a body as deep as it is long could end the process.
    body: Any = None
    if data.count(b"[") + data.count(b"{") <= _MAX_BRACKETS:
        with contextlib.suppress(ValueError):
            body = json.loads(data)
    if not isinstance(body, dict) or set(body) != {member} or not isinstance(body[member], str):
        raise Refusal(400, Code.BAD_REQUEST, f'the body must be {{"{member}": "0x..."}}')
    try:
        return bytes.fromhex(body[member].removeprefix("0x"))
    except ValueError:
        raise Refusal(400, Code.BAD_REQUEST, f"{member} must be hex digits after 0x") from None


def submission_view(submission: Submission) -> Json:
    """Return a submission as devices and operators see it."""
    return {
        "id": submission.id,
        "sender": submission.sender,
        "nonce": submission.nonce,
        "function": submission.function,
        "state": submission.state.value,
        "sends": submission.sends,
        "transactions": [one.hash for one in submission.attempts],
        "mined": submission.mined,
        "block": submission.block,
        "gas": submission.gas,
        "note": submission.note,
    }


def operation_view(operation: Operation) -> Json:
    """Return an operation as devices and operators see it.

    Its state is "waiting", "over", or that of the transaction that carries it: accepted, broadcast, included, final...
    """
    lost = operation.carried in (State.REVERTED, *FREED)
    carried = None if operation.carried is None or lost else operation.carried.value
    return {
        "id": operation.id,
        "function": operation.function,
        "encounter": operation.encounter,
        "account": operation.account,
        "state": "over" if operation.over else carried or "waiting",
        "transaction": operation.mined or operation.batch,
        "note": operation.note,
    }


def _answer_errors(app: Flask) -> None:
    def answer(status: int, code: Code, message: str, *, retry: bool) -> tuple[Response, int]:
        return jsonify({"error": {"code": code.value, "message": message, "retry": retry}}), status

    @app.errorhandler(Refusal)
    def refused(error: Refusal) -> tuple[Response, int]:
        return answer(error.status, error.code, error.message, retry=error.retry)

    @app.errorhandler(StoreUnavailable)
    def not_stored(error: StoreUnavailable) -> tuple[Response, int]:
        _log.error("%s", error)
        return answer(503, Code.STORE_UNAVAILABLE, "nothing was stored; send it again later", retry=True)

    @app.errorhandler(NodeUnavailable)
    def no_node(error: NodeUnavailable) -> tuple[Response, int]:
        _log.warning("%s", error)
        words = "the chain's node gave no answer; ask again later"
        return answer(503, Code.NODE_UNAVAILABLE, words, retry=True)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> tuple[Response, int]:
        status = error.code or 500
        codes = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED, 413: Code.BODY_TOO_LARGE}
        words = error.description or error.name
        return answer(status, codes.get(status, Code.BAD_REQUEST), words, retry=False)

    @app.errorhandler(Exception)
    def broken(error: Exception) -> tuple[Response, int]:
        _log.error("unexpected fault", exc_info=error)
        return answer(500, Code.INTERNAL, "the gateway failed on this request; its log says why", retry=True)
