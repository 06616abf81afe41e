"""What the chain holds: its rules, accounts and encounters."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from gateway.accounts import Accounts, is_hash
from gateway.errors import Code, Refusal
from gateway.store import Store
from gateway.views import encounter_view


def fact_routes(*, accounts: Accounts, store: Store) -> Blueprint:
    """Tell what anyone can read on the chain."""
    routes = Blueprint("facts", __name__)

    @routes.get("/v1/chain")
    def get_chain() -> Response:
        return jsonify(accounts.chain())

    @routes.get("/v1/accounts/<address>")
    def get_account(address: str) -> Response:
        return jsonify(accounts.view(address))

    @routes.get("/v1/encounters/<encounter>")
    def get_encounter(encounter: str) -> Response:
        head, key = store.head(), _checked_id(encounter)
        shown = encounter_view(key, store.terms(key), store.encounter_events(key), salts=store.salts(key))
        return jsonify(shown | {"chain_time_s": head.time_s if head else 0})

    return routes


def _checked_id(text: str) -> str:
    if not is_hash(text):
        raise Refusal(400, Code.BAD_REQUEST, f"an encounter's id is 0x and 64 hex digits, got {text[:80]!r}")
    return text.lower()
