"""A gateway that kills itself (SIGKILL) at one point of a transaction's or an operation's life; run as a program."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from gateway.compose import open_gateway
from gateway.config import GatewayConfig
from gateway.node import Node
from gateway.store import Store

POINTS = ("accepted", "written", "sent", "before consuming", "after consuming")
BATCH_POINTS = ("accepted", "before composing", "composed", *POINTS[1:])
PATHS = {"raw": "/v1/transactions", "call": "/v1/operations"}


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(config: Path, member: str, data: str, point: str) -> None:
    gateway = open_gateway(GatewayConfig.model_validate_json(config.read_text()))
    gateway.worker.confirm()
    answer = gateway.app.test_client().post(PATHS[member], json={member: data})
    assert answer.status_code == 202, answer.text
    if point == "accepted":
        die()
    if point == "before composing":
        Store.begin_batch = die  # type: ignore[method-assign]
    gateway.worker.compose()
    if point == "composed":
        die()
    send, consume = Node.send, Store.consume
    if point == "written":
        Node.send = die  # type: ignore[method-assign]
    if point == "sent":
        Node.send = lambda self, raw: (send(self, raw), die())  # type: ignore[method-assign]
    gateway.worker.broadcast()
    gateway.node._web3.provider.make_request("evm_mine", [])
    if point == "before consuming":
        Store.consume = die  # type: ignore[method-assign]
    else:
        Store.consume = lambda self, *a, **k: (consume(self, *a, **k), die())  # type: ignore[method-assign]
    gateway.worker.confirm()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
