"""A gateway that kills itself (SIGKILL) at one of its writes, whichever it is."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from sqlalchemy.engine import Connection

from gateway.compose import open_gateway
from gateway.config import GatewayConfig
from gateway.tables import Database

PATHS = {"raw": "/v1/transactions", "call": "/v1/operations"}


class Moment(Enum):
    """When it is killed: all that it did since the write before is done, or nothing of what comes after."""

    BEFORE = "before the commit"
    AFTER = "after the commit"


def live(config: str, member: str, data: str, at: int, moment: Moment) -> None:
    """Take what a device hands in and see it final, unless killed at write number `at`."""
    gateway = open_gateway(GatewayConfig.model_validate_json(config))
    gateway.worker.confirm()
    _kill(at, moment)
    answer = gateway.app.test_client().post(PATHS[member], json={member: data})
    assert answer.status_code == 202, answer.text
    for _ in range(2):
        gateway.worker.compose()
        gateway.worker.broadcast()
        gateway.node._web3.provider.make_request("evm_mine", [])
        gateway.worker.confirm()
    gateway.close()


def _kill(at: int, moment: Moment) -> None:
    write, writes = Database.write, 0

    @contextmanager
    def counted(database: Database) -> Iterator[Connection]:
        nonlocal writes
        writes += 1
        due = writes == at
        with write(database) as connection:
            yield connection
            if due and moment is Moment.BEFORE:
                os.kill(os.getpid(), signal.SIGKILL)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)

    Database.write = counted  # type: ignore[method-assign]
