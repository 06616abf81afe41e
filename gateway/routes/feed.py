"""What happens: the events of the chain, and the votes that are asked of a validator."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, jsonify, request

from gateway.accounts import checked_address
from gateway.cases import Cases
from gateway.errors import Code, Refusal
from gateway.store import Store
from gateway.waiting import MAX_WAIT_S, Waiting

_FEED_LIMIT: Final = 500
"""Events in one answer."""


def feed_routes(*, cases: Cases, store: Store, waiting: Waiting) -> Blueprint:
    """Tell what is new, at once or when there is something."""
    routes = Blueprint("feed", __name__)

    @routes.get("/v1/jobs")
    def get_jobs() -> Response:
        validator = checked_address(request.args.get("validator", ""))
        jobs, chain_time_s = waiting.until(
            lambda: cases.jobs(validator), lambda found: bool(found[0]), wait_s=_wait_s()
        )
        return jsonify({"jobs": jobs, "chain_time_s": chain_time_s})

    @routes.get("/v1/events")
    def get_events() -> Response:
        after = _after()
        rows = waiting.until(lambda: store.events_after(after, limit=_FEED_LIMIT), bool, wait_s=_wait_s())
        return jsonify({"events": [row.as_json() for row in rows]})

    return routes


def _wait_s() -> int:
    text = request.args.get("wait_s", "0")
    if not (text.isascii() and text.isdecimal() and len(text) <= 2 and int(text) <= MAX_WAIT_S):
        raise Refusal(400, Code.BAD_REQUEST, f"wait_s must be whole seconds from 0 to {MAX_WAIT_S}, got {text[:40]!r}")
    return int(text)


def _after() -> int:
    text = request.args.get("after", "0")
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise Refusal(400, Code.BAD_REQUEST, f"after must be an event number, got {text[:40]!r}")
    return int(text)
