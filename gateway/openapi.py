"""The HTTP interface described by OpenAPI 3.1, built from the tables of the code where there are any."""

from __future__ import annotations

from typing import Any, Final

from gateway.errors import Code
from gateway.submission import State
from gateway.waiting import MAX_WAIT_S

_Schema = dict[str, Any]

_TEXT: Final[_Schema] = {"type": "string"}
_WHOLE: Final[_Schema] = {"type": "integer", "minimum": 0}
_FLAG: Final[_Schema] = {"type": "boolean"}
_OBJECT: Final[_Schema] = {"type": "object"}
_ADDRESS: Final[_Schema] = {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}
_ID: Final[_Schema] = {"type": "string", "pattern": "^0x[0-9a-f]{64}$"}
_ANY_CASE_ID: Final[_Schema] = {"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$"}
_SHA256: Final[_Schema] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_HEX: Final[_Schema] = {"type": "string", "pattern": "^(0x)?([0-9a-fA-F]{2})*$"}
_EVENT_NUMBER: Final[_Schema] = {"type": "string", "pattern": "^[0-9]{1,18}$"}
_WAIT_S: Final[_Schema] = {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S}
_BYTES: Final[_Schema] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def _object(**members: _Schema) -> _Schema:
    return {"type": "object", "properties": members, "required": list(members)}


def _or_null(schema: _Schema) -> _Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _all(schema: _Schema) -> _Schema:
    return {"type": "array", "items": schema}


def _closed(schema: _Schema) -> _Schema:
    return schema | {"additionalProperties": False}


SCHEMAS: Final[dict[str, _Schema]] = {
    "Error": _object(error=_object(code={"enum": [code.value for code in Code]}, message=_TEXT, retry=_FLAG)),
    "Submission": _object(
        id=_ID,
        sender=_ADDRESS,
        nonce=_WHOLE,
        function=_TEXT,
        state={"enum": [state.value for state in State]},
        sends=_WHOLE,
        transactions=_all(_ID),
        mined=_or_null(_ID),
        block=_or_null(_WHOLE),
        gas=_or_null(_WHOLE),
        note=_or_null(_TEXT),
    ),
    "Operation": _object(
        id=_ID,
        function=_TEXT,
        encounter=_or_null(_ID),
        account=_or_null(_ADDRESS),
        state={"enum": ["waiting", "over", *(state.value for state in State)]},
        transaction=_or_null(_ID),
        note=_or_null(_TEXT),
    ),
    "Account": _object(
        address=_ADDRESS,
        next_nonce=_WHOLE,
        native_wei=_WHOLE,
        tokens=_WHOLE,
        permit_nonce=_WHOLE,
        free=_WHOLE,
        locked=_WHOLE,
        unbonding=_WHOLE,
        release_at_s=_WHOLE,
        seat=_WHOLE,
        active=_FLAG,
        leaving_at_s=_WHOLE,
    ),
    "Chain": _object(
        chain_id=_WHOLE,
        escrow=_ADDRESS,
        token=_ADDRESS,
        head=_WHOLE,
        chain_time_s=_WHOLE,
        min_stake=_WHOLE,
        tokens_per_wei=_WHOLE,
        seat_count=_WHOLE,
        tip_wei=_WHOLE,
        max_fee_wei=_WHOLE,
        parameter_sets={"type": "object", "additionalProperties": _object(retired=_FLAG)},
    ),
    "Encounter": _object(
        id=_TEXT,
        state=_TEXT,
        terms=_or_null(_OBJECT),
        checked_in=_all(_ADDRESS),
        salts=_or_null(_all(_ID)),
        updated=_or_null(_ID),
        panel=_all(_WHOLE),
        vote_by=_or_null(_WHOLE),
        yes=_WHOLE,
        no=_WHOLE,
        votes=_all(_object(voter=_ADDRESS, valid=_FLAG, reason={})),
        sealed=_all(_ADDRESS),
        burned={},
        closed_block=_or_null(_WHOLE),
        chain_time_s=_WHOLE,
    ),
    "Jobs": _object(
        jobs=_all(
            _object(
                encounter=_ID,
                terms=_OBJECT,
                updated=_ID,
                panel=_all(_WHOLE),
                position=_WHOLE,
                opens_at_s=_WHOLE,
                vote_by=_WHOLE,
            )
        ),
        chain_time_s=_WHOLE,
    ),
    "Events": _object(events=_all(_object(number=_WHOLE, block=_WHOLE, name=_TEXT, args=_OBJECT))),
    "Device": _object(account=_ADDRESS, realm=_TEXT, counter=_WHOLE),
    "Model": _object(digest=_SHA256, received_bytes=_WHOLE),
    "Health": _object(ok=_FLAG),
    "Ready": _object(
        ok=_FLAG,
        submissions={"type": "object", "additionalProperties": _WHOLE},
        operations_waiting=_WHOLE,
        blocks_behind={"type": "integer"},
        operator=_object(address=_ADDRESS, native_wei=_WHOLE),
    ),
    "Status": _object(
        submissions=_OBJECT, operations_waiting=_WHOLE, node=_OBJECT, operator=_OBJECT, alarms=_all(_OBJECT)
    ),
    "Description": _object(openapi=_TEXT, info=_OBJECT, paths=_OBJECT),
}


def _json(name: str) -> _Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


_ERROR: Final[_Schema] = {"description": "an error with a stable code", "content": _json("Error")}
_TOO_MANY: Final[_Schema] = _ERROR | {
    "headers": {"Retry-After": {"description": "seconds", "required": True, "schema": {"type": "string"}}}
}
_SIGNED: Final[list[_Schema]] = [{"signed_request": []}, {}]


def _operation(summary: str, found: dict[int, _Schema], *parameters: _Schema, **more: Any) -> _Schema:
    """One operation; `found` are the contents of its good answers by status."""
    answers: dict[str, _Schema] = {
        str(status): {"description": "done", "content": content} for status, content in found.items()
    }
    answers |= {"429": _TOO_MANY, "4XX": _ERROR, "5XX": _ERROR}
    return {"summary": summary, "parameters": list(parameters), "responses": answers} | more


def _in(place: str, name: str, schema: _Schema, *, required: bool = True) -> _Schema:
    return {"in": place, "name": name, "required": required, "schema": schema}


def _body(**members: _Schema) -> _Schema:
    return {"required": True, "content": {"application/json": {"schema": _closed(_object(**members))}}}


PATHS: Final[dict[str, dict[str, _Schema]]] = {
    "/v1/transactions": {
        "post": _operation(
            "Hand in a signed transaction. Once this is answered it is on disk.",
            {200: _json("Submission"), 202: _json("Submission")},
            requestBody=_body(raw=_HEX),
            security=_SIGNED,
        ),
    },
    "/v1/transactions/{key}": {
        "get": _operation(
            "What became of a transaction.",
            {200: _json("Submission")},
            _in("path", "key", _ANY_CASE_ID),
            security=_SIGNED,
        ),
    },
    "/v1/operations": {
        "post": _operation(
            "Hand in a call that carries its signatures; the gateway pays for it.",
            {200: _json("Operation"), 202: _json("Operation")},
            requestBody=_body(call=_HEX),
            security=_SIGNED,
        ),
    },
    "/v1/operations/{key}": {
        "get": _operation(
            "What became of an operation.",
            {200: _json("Operation")},
            _in("path", "key", _ANY_CASE_ID),
            security=_SIGNED,
        ),
    },
    "/v1/chain": {"get": _operation("What the chain's rules are.", {200: _json("Chain")})},
    "/v1/accounts/{address}": {
        "get": _operation("An account on the chain.", {200: _json("Account")}, _in("path", "address", _ADDRESS)),
    },
    "/v1/encounters/{encounter}": {
        "get": _operation(
            "How an encounter stands.", {200: _json("Encounter")}, _in("path", "encounter", _ANY_CASE_ID)
        ),
    },
    "/v1/jobs": {
        "get": _operation(
            "The votes that are asked of a validator; with wait_s, once there is one or the time is over.",
            {200: _json("Jobs")},
            _in("query", "validator", _ADDRESS),
            _in("query", "wait_s", _WAIT_S, required=False),
            security=_SIGNED,
        ),
    },
    "/v1/events": {
        "get": _operation(
            "What happened on the chain after an event; with wait_s, once there is more or the time is over.",
            {200: _json("Events")},
            _in("query", "after", _EVENT_NUMBER, required=False),
            _in("query", "wait_s", _WAIT_S, required=False),
        ),
    },
    "/v1/models/{digest}": {
        "put": _operation(
            "Store a model under its SHA-256, or with Content-Range the next part of it (202 until it is whole).",
            {200: _json("Model"), 201: _json("Model"), 202: _json("Model")},
            _in("path", "digest", _SHA256),
            _in("header", "Content-Range", _TEXT, required=False),
            requestBody={"required": True, "content": _BYTES},
            security=_SIGNED,
        ),
        "get": _operation(
            "Fetch a model, or a range of it.",
            {200: _BYTES, 206: _BYTES, 304: {}},
            _in("path", "digest", _SHA256),
            security=_SIGNED,
        ),
    },
    "/v1/models/{digest}/upload": {
        "get": _operation(
            "How many bytes of a model have arrived.",
            {200: _json("Model")},
            _in("path", "digest", _SHA256),
            security=_SIGNED,
        ),
    },
    "/v1/devices": {
        "post": _operation(
            "Redeem a one-time token of the operator's for an account.",
            {200: _json("Device"), 201: _json("Device")},
            requestBody=_body(token=_TEXT, account=_ADDRESS, signature=_HEX),
        ),
    },
    "/v1/devices/{account}": {
        "get": _operation(
            "From which number on a device is to sign its requests.",
            {200: _json("Device")},
            _in("path", "account", _ADDRESS),
        ),
    },
    "/v1/status": {"get": _operation("How the gateway stands, for its operator.", {200: _json("Status")})},
    "/metrics": {"get": _operation("The same for Prometheus.", {200: {"text/plain": {"schema": _TEXT}}})},
    "/dashboard": {"get": _operation("The same for people.", {200: {"text/html": {"schema": _TEXT}}})},
    "/v1/openapi.json": {"get": _operation("This description.", {200: _json("Description")})},
    "/healthz": {"get": _operation("Whether the process answers.", {200: _json("Health")})},
    "/readyz": {"get": _operation("Whether it can do its work.", {200: _json("Ready")})},
}


def description() -> _Schema:
    """Return the whole description."""
    scheme = {
        "type": "http",
        "scheme": "iDML",
        "description": (
            "Authorization: iDML account=0x..., counter=..., signature=... over method, path, counter and the "
            "Content-Digest of the body. Needed where the gateway serves enrolled devices alone."
        ),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "iDML gateway", "version": "1"},
        "paths": PATHS,
        "components": {"schemas": SCHEMAS, "securitySchemes": {"signed_request": scheme}},
    }
