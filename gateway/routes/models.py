"""Model snapshots, by their SHA-256: in one piece, or in parts that follow each other."""

from __future__ import annotations

import re
from typing import Final

from flask import Blueprint, Response, jsonify, request, send_file

from gateway.bodies import checked_chunks
from gateway.errors import Code, Refusal
from gateway.shelf import EVERYONE, Shelf
from gateway.visit import visit

_A_YEAR_S: Final = 31_536_000
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")


def model_routes(*, shelf: Shelf, max_bytes: int) -> Blueprint:
    """Take and serve models of at most `max_bytes`."""
    routes = Blueprint("models", __name__)

    @routes.put("/v1/models/<digest>")
    def put_model(digest: str) -> tuple[Response, int]:
        if request.content_length is None and "Transfer-Encoding" in request.headers:
            raise Refusal(411, Code.LENGTH_REQUIRED, "say how long the body is")
        size_bytes = request.content_length or 0
        if "Content-Range" in request.headers:
            return put_part(digest, size_bytes)
        new = shelf.put(digest, checked_chunks(visit().asked), size_bytes=size_bytes, owner=_owner())
        return _received(digest, size_bytes), 201 if new else 200

    def put_part(digest: str, size_bytes: int) -> tuple[Response, int]:
        start, total_bytes = _content_range(request.headers["Content-Range"], size_bytes)
        if total_bytes > max_bytes:
            raise Refusal(413, Code.BODY_TOO_LARGE, f"a model has at most {max_bytes} bytes")
        there = shelf.put_part(
            digest, checked_chunks(visit().asked), start=start, total_bytes=total_bytes, owner=_owner()
        )
        return _received(digest, there), 201 if there == total_bytes else 202

    @routes.get("/v1/models/<digest>/upload")
    def get_upload(digest: str) -> Response:
        return _received(digest, shelf.received(digest, owner=_owner()))

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


def _received(digest: str, size_bytes: int) -> Response:
    return jsonify({"digest": digest, "received_bytes": size_bytes})


def _owner() -> str:
    """Who is charged for what this request stores."""
    return visit().account or EVERYONE


def _content_range(text: str, size_bytes: int) -> tuple[int, int]:
    """Where a part begins, and how long the whole is."""
    found = _CONTENT_RANGE.fullmatch(text)
    if found is None:
        raise Refusal(400, Code.BAD_REQUEST, "Content-Range must be `bytes FIRST-LAST/TOTAL`")
    first, last, total_bytes = map(int, found.groups())
    if not first <= last < total_bytes or last - first + 1 != size_bytes:
        raise Refusal(400, Code.BAD_REQUEST, f"Content-Range {text} does not go with a body of {size_bytes} bytes")
    return first, total_bytes
