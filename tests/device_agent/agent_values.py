"""Constants and makers of plain values for the tests of the agent."""

from __future__ import annotations

from typing import Any

from contracts.identity import Identity
from contracts.terms import commitment
from device_agent.messages import Propose

LEARNER_SALT = b"L" * 32
NEIGHBOR_SALT = b"N" * 32
LEARNING, WORKING = Identity(b"\x01" * 32), Identity(b"\x02" * 32)
LEARNER, NEIGHBOR = LEARNING.address, WORKING.address
OPEN_BY, REPORT_BY, VOTE_BY = 1_000, 2_000, 3_000
SEATS = 9


def proposal(**changes: Any) -> Propose:
    """Return a proposal that makes sense."""
    values: dict[str, Any] = {
        "learner": LEARNER,
        "algorithm": "oppcl",
        "architecture": "a1" * 32,
        "previous": "b2" * 32,
        "size_bytes": 1000,
        "age": 3,
        "reward": 10**18,
        "tolerance_bps": 200,
        "parameter_set": 0,
        "open_by": OPEN_BY,
        "report_by": REPORT_BY,
        "seats": SEATS,
        "nonce": 0,
        "commitment": commitment(LEARNER_SALT).hex(),
    }
    return Propose(**(values | changes))
