"""How submissions and operations are shown to devices and operators, as JSON values."""

from __future__ import annotations

from gateway.records import Operation, Submission
from gateway.submission import LOST
from gateway.views import Json


def submission_view(submission: Submission) -> Json:
    """Return a submission as devices and operators see it."""
    return {
        "id": submission.id,
        "sender": submission.sender,
        "nonce": submission.nonce,
        "function": submission.function,
        "state": submission.state.value,
        "sends": submission.sends,
        "transactions": [one.hash for one in submission.attempts],
        "mined": submission.mined,
        "block": submission.block,
        "gas": submission.gas,
        "note": submission.note,
    }


def operation_view(operation: Operation) -> Json:
    """Return an operation as devices and operators see it.

    Its state is "waiting", "over", or that of the transaction that carries it: accepted, broadcast, included, final...
    """
    carried = None if operation.carried is None or operation.carried in LOST else operation.carried.value
    return {
        "id": operation.id,
        "function": operation.function,
        "encounter": operation.encounter,
        "account": operation.account,
        "state": "over" if operation.over else carried or "waiting",
        "transaction": operation.mined or operation.batch,
        "note": operation.note,
    }
