"""Answers every error in one shape: `{"error": {"code", "message", "retry"}}`, never with a traceback."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Final

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from gateway.errors import Code, NodeUnavailable, Refusal, StoreUnavailable
from gateway.views import Json

_log = logging.getLogger(__name__)
_CODES: Final = {
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    406: Code.NOT_ACCEPTABLE,
    408: Code.TOO_SLOW,
    411: Code.LENGTH_REQUIRED,
    413: Code.BODY_TOO_LARGE,
    414: Code.ADDRESS_TOO_LONG,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
    416: Code.RANGE_NOT_SATISFIABLE,
    429: Code.TOO_MANY_REQUESTS,
    431: Code.HEADERS_TOO_LARGE,
    501: Code.NOT_IMPLEMENTED,
    503: Code.TOO_BUSY,
}
"""What werkzeug, or the server before the app, refuses by itself."""
_JSON: Final = json.JSONEncoder(separators=(",", ":"))


def json_answer(told: Json, status: int) -> Response:
    """Return an answer in JSON, as `flask.jsonify` writes it; that one needs to be asked within an application."""
    return Response(_JSON.encode(told) + "\n", status, content_type="application/json")


def answer(status: int, code: Code, message: str, *, retry: bool) -> Response:
    """Return an error as clients are told it."""
    return json_answer(error_body(code, message, retry=retry), status)


def error_body(code: Code, message: str, *, retry: bool) -> Json:
    """Return what every error says; `retry`: the same request may succeed later."""
    return {"error": {"code": code.value, "message": message, "retry": retry}}


def code_of(status: int) -> Code:
    """Return the stable code of an HTTP status that was not raised by us."""
    return _CODES.get(status, Code.INTERNAL if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Code.BAD_REQUEST)


def answer_to(error: Exception) -> Response:
    """Return the answer to whatever was raised in place of one."""
    match error:
        case Refusal():
            response = answer(error.status, error.code, error.message, retry=error.retry)
            response.headers.update(error.headers)
            return response
        case StoreUnavailable():
            _log.error("%s", error)
            return answer(503, Code.STORE_UNAVAILABLE, "nothing was stored; send it again later", retry=True)
        case NodeUnavailable():
            _log.warning("%s", error)
            words = "the chain's node gave no answer; ask again later"
            return answer(503, Code.NODE_UNAVAILABLE, words, retry=True)
        case HTTPException():
            status = error.code or 500
            response = answer(status, code_of(status), error.description or error.name, retry=False)
            kept = ("Allow", "Content-Range", "Retry-After")  # what a status must or may carry with it
            response.headers.extend((name, value) for name, value in error.get_headers() if name in kept)
            return response
        case _:
            _log.error("unexpected fault", exc_info=error)
            return answer(500, Code.INTERNAL, "the gateway failed on this request; its log says why", retry=True)


def answer_errors(app: Flask) -> None:
    """Let `app` answer everything that can be raised in it."""
    app.register_error_handler(Exception, answer_to)
