"""What a run has shown so far: filled while it lives, read by the progress display, the summary and the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from device_agent.loopback.bank import Balance, Books
from device_agent.loopback.recorder import EventLog, Referee


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a run has shown so far; complete once `finished`.

    Attributes:
        chain_kind: of the chain it ran on.
        chain_id: its id.
        honest: device name -> whether it is honest.
        addresses: device name -> account.
        models: device name -> digests of its own models, from before the first encounter to now.
        feed: the gateway's events, in order.
        previous: encounter id -> digest of the Learner's model before it.
        parties: encounter id -> accounts of the Learner and the Neighbor.
        min_stake: below it an account can take no role (token base units).
        samples: (block, chain time s, account -> balance) over time.
        books: the token books at the end.
        referee: accuracies on the full test set.
        log: the agents' events.
        finished: whether the run came to its own end.
        virtual_s: virtual time that passed.
        wall_s: real time that passed.
    """

    chain_kind: str
    chain_id: int
    honest: dict[str, bool]
    addresses: dict[str, str]
    referee: Referee
    log: EventLog
    min_stake: int
    previous: dict[str, bytes] = field(default_factory=dict)
    parties: dict[str, tuple[str, str]] = field(default_factory=dict)
    models: dict[str, list[bytes]] = field(default_factory=dict)
    feed: list[dict[str, Any]] = field(default_factory=list)
    samples: list[tuple[int, int, dict[str, Balance]]] = field(default_factory=list)
    books: Books | None = None
    finished: bool = False
    virtual_s: float = 0.0
    wall_s: float = 0.0

    def count(self, name: str) -> int:
        """Return how many contract events of one name there were."""
        return sum(one["name"] == name for one in self.feed)


Progress = Callable[[Seen], None]
"""Told now and then how far a run is."""
