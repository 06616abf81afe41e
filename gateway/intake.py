"""Takes transactions over HTTP: `POST /v1/transactions`, as a WSGI application in front of Flask's.

They are most of what comes, and Flask spends on each as long as all that is done with it here. What is around a request
is the same: who may come in, how errors are told, what is counted and logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from flask import Request, Response
from werkzeug.routing import Rule

from gateway.acceptance import Acceptance
from gateway.answering import answer_to, json_answer
from gateway.bodies import hex_member
from gateway.door import Door
from gateway.shown import submission_view
from gateway.visit import Visit, Visits

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def is_transaction(environ: WSGIEnvironment) -> bool:
    """Whether a request hands in a transaction: then it waits for disk and node by `elsewhere` alone."""
    return bool(environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] == "/v1/transactions")


class Intake:
    """Answers what hands in a transaction, and has another application answer the rest."""

    def __init__(
        self,
        *,
        acceptance: Acceptance,
        door: Door,
        visits: Visits,
        rule: Rule,
        max_bytes: int,
        now_s: Callable[[], float],
        otherwise: WSGIApplication,
    ) -> None:
        """Do nothing yet.

        Args:
            acceptance: takes transactions.
            door: lets requests in.
            visits: counts them.
            rule: of the route, in Flask's map of them.
            max_bytes: of a body.
            now_s: wall clock, Unix seconds.
            otherwise: answers the rest.
        """
        self._acceptance = acceptance
        self._door = door
        self._visits = visits
        self._rule = rule
        self._max_bytes = max_bytes
        self._now_s = now_s
        self._otherwise = otherwise

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if not is_transaction(environ):
            return self._otherwise(environ, start_response)
        asked = Request(environ)
        asked.url_rule = self._rule
        visit = self._visits.begin(asked)
        try:
            response = self._visits.answered(visit, self._door.leave(visit, self._answer(visit)))
            start_response(response.status, response.headers.to_wsgi_list())
            return [response.get_data()]
        finally:
            self._visits.end(visit)

    def _answer(self, visit: Visit) -> Response:
        try:
            self._door.admit(visit)
            raw = hex_member(visit.asked, "raw", max_bytes=self._max_bytes)
            admit = partial(self._door.admit_work, visit)
            submission, new = self._acceptance.take(raw, now_s=self._now_s(), admit=admit)
        except Exception as error:  # each is told as Flask would have it told
            return answer_to(error)
        return json_answer(submission_view(submission), 202 if new else 200)
