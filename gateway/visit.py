"""A request while it is answered: named, timed, counted, and told in the log."""

from __future__ import annotations

import logging
import random
import time
from contextvars import Token
from dataclasses import dataclass
from typing import Final

from flask import Request, Response, g

from gateway.logs import REQUEST, event
from gateway.metrics import Metrics

_log = logging.getLogger(__name__)
_LOOKING: Final = frozenset({"/healthz", "/readyz", "/metrics", "/v1/status", "/dashboard"})
"""Asked by programs every few seconds."""
_NAMES: Final = random.Random()  # noqa: S311  (names that differ, no secrets; the system's own are ten times as dear)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


@dataclass(slots=True, kw_only=True)
class Visit:
    """A request, and what is known of it.

    Attributes:
        asked: the request itself: to ask it by Flask's name for it is a search each time.
        began_s: when it came, by `time.perf_counter`.
        named: what its name in the log took the place of.
        account: the enrolled account that was proved to have made it.
        counted: whether it was counted for anybody yet.
    """

    asked: Request
    began_s: float
    named: Token[str | None]
    account: str | None = None
    counted: bool = False


def visit() -> Visit:
    """Return what is known of the request that Flask is answering here."""
    found: Visit = g.visit
    return found


class Visits:
    """Names each request, counts it, and writes what became of it."""

    def __init__(self, metrics: Metrics) -> None:
        """Set where they are counted."""
        self._metrics = metrics

    def begin(self, asked: Request) -> Visit:
        """Take in a request; all that is logged from now on until `end` bears its name."""
        return Visit(asked=asked, began_s=time.perf_counter(), named=REQUEST.set(f"{_NAMES.getrandbits(64):016x}"))

    def answered(self, one: Visit, response: Response) -> Response:
        """Count one by its answer, and put its name there."""
        rule, method = one.asked.url_rule, one.asked.method
        route = "none" if rule is None else rule.rule
        method = method if method in _METHODS else "other"
        taken_s = time.perf_counter() - one.began_s
        self._metrics.http_latency.labels(method, route, response.status_code).observe(taken_s)
        response.headers["X-Request-Id"] = REQUEST.get()
        level = logging.DEBUG if route in _LOOKING else logging.INFO
        if _log.isEnabledFor(level):
            told = {"method": method, "route": route, "status": response.status_code, "ms": round(taken_s * 1000, 1)}
            event(_log, level, "answered", **told)
        return response

    def end(self, one: Visit) -> None:
        """Forget its name."""
        REQUEST.reset(one.named)
