"""Model snapshots, by their SHA-256."""

from __future__ import annotations

import hashlib
from typing import Final

from flask import Blueprint, Response, jsonify, request, send_file

from gateway.bodies import check_claim
from gateway.shelf import Shelf

_A_YEAR_S: Final = 31_536_000


def model_routes(*, shelf: Shelf) -> Blueprint:
    """Take and serve models."""
    routes = Blueprint("models", __name__)

    @routes.put("/v1/models/<digest>")
    def put_model(digest: str) -> tuple[Response, int]:
        body = request.get_data(cache=False)
        check_claim(hashlib.sha256(body).digest())
        new = shelf.put(digest, body)
        return jsonify({"digest": digest}), 201 if new else 200

    @routes.get("/v1/models/<digest>")
    def get_model(digest: str) -> Response:
        # conditional=True answers HEAD, ranges and If-None-Match.
        return send_file(
            shelf.find(digest),
            mimetype="application/octet-stream",
            conditional=True,
            etag=digest,
            max_age=_A_YEAR_S,
        )

    return routes
