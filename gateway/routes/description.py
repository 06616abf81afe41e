"""The interface's own description."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from gateway.openapi import description


def description_routes() -> Blueprint:
    """Tell programs what can be asked."""
    routes = Blueprint("description", __name__)

    @routes.get("/v1/openapi.json")
    def get_openapi() -> Response:
        return jsonify(description())

    return routes
