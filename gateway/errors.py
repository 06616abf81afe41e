"""What can go wrong at the gateway.

GatewayError
├── ConfigError          the operator's file or flags; the process does not start
├── StoreUnavailable     disk full, database read-only or locked; nothing was acknowledged
├── NodeUnavailable      the chain's node gave no usable answer
├── LeaseLost            another gateway works on this database
├── ChainMismatch        the node serves another chain than the one deployed to
└── Refusal              a request that is answered with 4xx; carries a stable code
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class GatewayError(Exception):
    """Any fault of the gateway."""


class ConfigError(GatewayError):
    """A setting is missing, unknown or impossible."""


class StoreUnavailable(GatewayError):
    """The database or the model folder did not take a write."""


class NodeUnavailable(GatewayError):
    """The node did not answer, or answered with an error that says nothing about our request."""


class LeaseLost(GatewayError):
    """Another gateway works on this database now; nothing was written."""


class ChainMismatch(GatewayError):
    """The node serves another chain or other contracts than the deployment names."""


class Code(StrEnum):
    """Stable error codes of the HTTP interface."""

    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    TOO_SLOW = "too_slow"
    LENGTH_REQUIRED = "length_required"
    BODY_TOO_LARGE = "body_too_large"
    ADDRESS_TOO_LONG = "address_too_long"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    TOO_MANY_REQUESTS = "too_many_requests"
    TOO_MUCH_UNDONE = "too_much_undone"
    HEADERS_TOO_LARGE = "headers_too_large"
    NOT_IMPLEMENTED = "not_implemented"
    TOO_BUSY = "too_busy"
    MALFORMED_TRANSACTION = "malformed_transaction"
    MALFORMED_OPERATION = "malformed_operation"
    WRONG_CHAIN = "wrong_chain"
    WRONG_DOOR = "wrong_door"
    WRONG_STATE = "wrong_state"
    NOT_ON_PANEL = "not_on_panel"
    ALREADY_HELD = "already_held"
    FOREIGN_TARGET = "foreign_target"
    UNKNOWN_CALL = "unknown_call"
    UNKNOWN_OPERATION = "unknown_operation"
    VALUE_ABOVE_CAP = "value_above_cap"
    GAS_ABOVE_CAP = "gas_above_cap"
    GAS_TOO_LOW = "gas_too_low"
    WOULD_REVERT = "would_revert"
    FEE_ABOVE_CAP = "fee_above_cap"
    FEE_BELOW_FLOOR = "fee_below_floor"
    BAD_SIGNATURE = "bad_signature"
    NOT_SIGNED = "not_signed"
    BAD_REQUEST_SIGNATURE = "bad_request_signature"
    BODY_DIFFERS = "body_differs"
    NOT_ENROLLED = "not_enrolled"
    TOKEN_REFUSED = "token_refused"  # noqa: S105  (a word for it)
    REPLAYED = "replayed"
    NONCE_TAKEN = "nonce_taken"
    DIGEST_MISMATCH = "digest_mismatch"
    WRONG_OFFSET = "wrong_offset"
    UPLOAD_BUSY = "upload_busy"
    QUOTA_FULL = "quota_full"
    SHELF_FULL = "shelf_full"
    STORE_UNAVAILABLE = "store_unavailable"
    NODE_UNAVAILABLE = "node_unavailable"
    INTERNAL = "internal"


class Refusal(GatewayError):
    """A request this gateway will not take, as it will be told to the client."""

    def __init__(
        self,
        status: int,
        code: Code,
        message: str,
        *,
        retry: bool = False,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry = retry
        self.headers = headers
