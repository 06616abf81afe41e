"""The gateway's HTTP interface: `create_app` puts a Flask application over a store, a shelf and a node.

Every answer that is not a model is JSON. Every error is `{"error": {"code", "message", "retry"}}` with a code
from `gateway.errors.Code`; `retry` says whether the same request may succeed later.
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask, g, request, request_started

from contracts.deploy import Deployment
from gateway.acceptance import Acceptance
from gateway.accounts import Accounts
from gateway.answering import answer_errors
from gateway.backlog import Backlog
from gateway.cases import Cases
from gateway.config import Access, Limits
from gateway.door import Door
from gateway.enrolment import Enrolment
from gateway.intake import Intake
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
from gateway.visit import Visits, visit
from gateway.waiting import Waiting


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
    visits: Visits,
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
        visits: names and counts requests.
    """
    app = Flask("gateway", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = limits.max_model_bytes
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # no browser of another site is served
    app.json.sort_keys = False  # type: ignore[attr-defined]  # DefaultJSONProvider
    accounts = Accounts(store=store, node=node, deployment=deployment)
    acceptance = Acceptance(store=store, node=node, deployment=deployment, limits=limits, wake=wake)
    cases = Cases(store=store, accounts=accounts, domain=deployment.domain, now_s=now_s)
    door = Door(access=access, enrolment=enrolment, turnstile=Turnstile(limits, now_s), backlog=backlog)

    def begin(_app: Flask) -> None:
        g.visit = visits.begin(request._get_current_object())  # type: ignore[attr-defined]

    def admit(account: str | None, new: bool) -> None:
        door.admit_work(visit(), account, new)

    for routes in (
        work_routes(cases=cases, store=store, admit=admit, limits=limits),
        fact_routes(accounts=accounts, store=store),
        feed_routes(cases=cases, store=store, waiting=waiting),
        model_routes(shelf=shelf, max_bytes=limits.max_model_bytes),
        description_routes(),
        device_routes(enrolment=enrolment, now_s=now_s),
        health_routes(store=store, node=node, deployment=deployment, operator=operator),
    ):
        app.register_blueprint(routes)
    request_started.connect(begin, app, weak=False)  # what others do before a request may refuse it
    app.before_request(lambda: door.admit(visit()))
    app.after_request(lambda response: visits.answered(visit(), door.leave(visit(), response)))
    app.teardown_request(lambda _: visits.end(visit()))
    answer_errors(app)
    (handed_in,) = app.url_map.iter_rules("work.post_transaction")
    app.wsgi_app = Intake(  # type: ignore[method-assign]  # Flask's own way to put something in front
        acceptance=acceptance,
        door=door,
        visits=visits,
        rule=handed_in,
        max_bytes=limits.max_json_bytes,
        now_s=now_s,
        otherwise=app.wsgi_app,
    )
    return app
