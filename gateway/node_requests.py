"""Counts what is asked of the node, how long it takes, and what came of it that was no use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from typing import Any, Final

import requests
from web3 import Web3
from web3.middleware import Web3Middleware
from web3.types import MakeBatchRequestFn, MakeRequestFn, RPCEndpoint, RPCResponse

from gateway.metrics import Metrics

_REVERTED: Final = 3
"""JSON-RPC code of a call that the contract refuses: an answer like any other."""


class NodeFault(StrEnum):
    """Why a request to the node brought no useful answer."""

    TIME_OUT = "time-out"
    NO_CONNECTION = "no connection"
    BUSY = "busy"
    """HTTP 429."""
    HTTP = "http error"
    MALFORMED = "malformed answer"
    REFUSED = "refused"
    """A JSON-RPC error, other than a call that the contract reverts."""


def count_requests(web3: Web3, metrics: Metrics) -> None:
    """Have every request of a client counted."""
    web3.middleware_onion.add(partial(_Counted, metrics=metrics))  # type: ignore[arg-type]  # it calls it with a client


class _Counted(Web3Middleware):
    def __init__(self, w3: Web3, *, metrics: Metrics) -> None:
        super().__init__(w3)
        self._metrics = metrics

    def wrap_make_request(self, make_request: MakeRequestFn) -> MakeRequestFn:
        def counted(method: RPCEndpoint, params: Any) -> RPCResponse:
            with self._counted(method):
                answer = make_request(method, params)
            self._count_refusal(answer)
            return answer

        return counted

    def wrap_make_batch_request(self, make_batch_request: MakeBatchRequestFn) -> MakeBatchRequestFn:
        def counted(asked: list[tuple[RPCEndpoint, Any]]) -> list[RPCResponse] | RPCResponse:
            with self._counted(f"batch of {asked[0][0]}" if asked else "batch"):
                answer = make_batch_request(asked)
            for one in answer if isinstance(answer, list) else [answer]:
                self._count_refusal(one)
            return answer

        return counted

    @contextmanager
    def _counted(self, method: str) -> Iterator[None]:
        with self._metrics.node_latency.labels(method).time():
            try:
                yield
            except (OSError, ValueError) as error:
                self._metrics.node_errors.labels(_fault(error)).inc()
                raise

    def _count_refusal(self, answer: Any) -> None:
        refusal = answer.get("error") if isinstance(answer, dict) else None
        if isinstance(refusal, dict) and refusal.get("code") != _REVERTED:
            self._metrics.node_errors.labels(NodeFault.REFUSED).inc()


def _fault(error: Exception) -> NodeFault:
    match error:
        case requests.Timeout() | TimeoutError():
            return NodeFault.TIME_OUT
        case requests.HTTPError(response=requests.Response(status_code=429)):
            return NodeFault.BUSY
        case requests.HTTPError():
            return NodeFault.HTTP
        case ValueError():
            return NodeFault.MALFORMED
        case _:
            return NodeFault.NO_CONNECTION
