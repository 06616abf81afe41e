"""Reads the bodies of requests. Everything in them comes from anywhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

from flask import Request

from contracts.requests import EMPTY_SHA256, read_content_digest
from gateway.errors import Code, Refusal

_MAX_BRACKETS: Final = 8
_CHUNK_BYTES: Final = 64 * 1024
_JSON: Final = "application/json"


def json_members(asked: Request, *members: str, max_bytes: int) -> dict[str, str]:
    """Return the texts that are all a request's JSON body of at most `max_bytes` holds. Raises `Refusal`."""
    if asked.mimetype not in (_JSON, ""):
        raise Refusal(415, Code.UNSUPPORTED_MEDIA_TYPE, f"the body must be {_JSON}, not {asked.mimetype[:80]}")
    # Not by Flask's ways, which guard a stream that has no end: the server has taken in the whole body before it asks.
    data = asked.environ["wsgi.input"].read(max_bytes + 1)
    if len(data) > max_bytes:
        raise Refusal(413, Code.BODY_TOO_LARGE, f"at most {max_bytes} bytes of JSON")
    _check_claim(asked, hashlib.sha256(data).digest())
    # Python's reader recurses: a body as deep as it is long could end the process.
    body: Any = None
    if data.count(b"[") + data.count(b"{") <= _MAX_BRACKETS:
        with contextlib.suppress(ValueError):
            body = json.loads(data.decode())
    if (
        not isinstance(body, dict)
        or set(body) != set(members)
        or not all(isinstance(one, str) for one in body.values())
    ):
        wanted = ", ".join(f'"{one}": "..."' for one in members)
        raise Refusal(400, Code.BAD_REQUEST, f"the body must be {{{wanted}}}")
    return body


def claimed_sha256(asked: Request) -> bytes | None:
    """Return the SHA-256 that a request says its body has, None if it says nothing. Raises `Refusal`.

    A signed request speaks of its body in any case: where it names no digest, there is to be no body.
    """
    text = asked.environ.get("HTTP_CONTENT_DIGEST")
    if text is None:
        return EMPTY_SHA256 if "HTTP_AUTHORIZATION" in asked.environ else None
    try:
        return read_content_digest(text)
    except ValueError as error:
        raise Refusal(400, Code.BAD_REQUEST, str(error)) from None


def _check_claim(asked: Request, sha256: bytes) -> None:
    """Make sure that the body of a request, whose SHA-256 this is, is what it says. Raises `Refusal`."""
    if claimed_sha256(asked) not in (None, sha256):
        raise Refusal(400, Code.BODY_DIFFERS, "the body is not the one that Content-Digest names")


def checked_chunks(asked: Request) -> Iterator[bytes]:
    """Yield the body of a request as it comes; it ends in a `Refusal` if it is not what the request says."""
    sha256 = hashlib.sha256()
    while chunk := asked.stream.read(_CHUNK_BYTES):
        sha256.update(chunk)
        yield chunk
    _check_claim(asked, sha256.digest())


def hex_member(asked: Request, member: str, *, max_bytes: int) -> bytes:
    """Return the bytes that are the only member of a request's body. Raises `Refusal`."""
    return from_hex(member, json_members(asked, member, max_bytes=max_bytes)[member])


def from_hex(name: str, text: str) -> bytes:
    """Return the bytes that a member of a body writes as hex digits. Raises `Refusal`."""
    digits = text.removeprefix("0x")
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        found = b""
    if 2 * len(found) != len(digits):  # Python passes over spaces between the digits
        raise Refusal(400, Code.BAD_REQUEST, f"{name} must be hex digits after 0x")
    return found
