"""The gateway's HTTP interface: `create_app` puts a Flask application over a store, a shelf and a node.

Every answer that is not a model is JSON. Every error is `{"error": {"code", "message", "retry"}}` with a code
from `gateway.errors.Code`; `retry` says whether the same request may succeed later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Flask

from contracts.deploy import Deployment
from gateway.acceptance import Acceptance
from gateway.accounts import Accounts
from gateway.answering import answer_errors
from gateway.backlog import Backlog
from gateway.bodies import current
from gateway.cases import Cases
from gateway.config import Access, Limits
from gateway.door import Door
from gateway.enrolment import Enrolment
from gateway.node import Node
from gateway.routes.description import description_routes
from gateway.routes.devices import device_routes
from gateway.routes.facts import fact_routes
from gateway.routes.feed import feed_routes
from gateway.routes.health import health_routes
from gateway.routes.models import model_routes
from gateway.routes.work import work_routes
from gateway.shelf import Shelf
from gateway.store import Store
from gateway.turnstile import Turnstile
from gateway.waiting import Waiting

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def quick(environ: WSGIEnvironment) -> bool:
    """Whether a request is one that waits for disk and node by `gateway.cooperation.elsewhere` alone.

    Such are transactions, which are most of what devices ask.
    """
    return bool(environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] == "/v1/transactions")


class _Synchronous(Flask):
    """Flask, where no function is a coroutine: it would look at each anew for every request."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return it as it is."""
        return func


def create_app(
    *,
    store: Store,
    shelf: Shelf,
    node: Node,
    deployment: Deployment,
    limits: Limits,
    now_s: Callable[[], float],
    operator: str,
    access: Access,
    enrolment: Enrolment,
    backlog: Backlog,
    waiting: Waiting,
    wake: Callable[[], None],
) -> Flask:
    """Build the application; nothing is read from the environment.

    Args:
        store: submissions and events, shared with the worker.
        shelf: model snapshots.
        node: for account balances, nonces and fees.
        deployment: the contracts this gateway relays to.
        limits: what one request may cost, and how many may come.
        now_s: wall clock, Unix seconds.
        operator: checksum address of the account that pays for batches.
        access: who has to sign requests.
        enrolment: which devices are known.
        backlog: how much waits already.
        waiting: requests that wait for news.
        wake: told when there is something to send.
    """
    app = _Synchronous("gateway", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = limits.max_model_bytes
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # no browser of another site is served
    app.json.sort_keys = False  # type: ignore[attr-defined]  # DefaultJSONProvider
    accounts = Accounts(store=store, node=node, deployment=deployment)
    acceptance = Acceptance(store=store, node=node, deployment=deployment, limits=limits, wake=wake)
    cases = Cases(store=store, accounts=accounts, domain=deployment.domain, now_s=now_s)
    door = Door(access=access, enrolment=enrolment, turnstile=Turnstile(limits, now_s), backlog=backlog)
    admit = door.admit_work
    for routes in (
        work_routes(acceptance=acceptance, cases=cases, store=store, admit=admit, limits=limits, now_s=now_s),
        fact_routes(accounts=accounts, store=store),
        feed_routes(cases=cases, store=store, waiting=waiting),
        model_routes(shelf=shelf, max_bytes=limits.max_model_bytes),
        description_routes(),
        device_routes(enrolment=enrolment, now_s=now_s),
        health_routes(store=store, node=node, deployment=deployment, operator=operator),
    ):
        app.register_blueprint(routes)
    app.before_request(lambda: door.admit(current()))
    app.after_request(lambda response: door.leave(current(), response))
    answer_errors(app)
    return app
