"""What moves submissions: one step consumes what the chain shows, composes a batch, broadcasts what is due and forgets
what is old.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable

from contracts.deploy import Deployment
from contracts.identity import Identity
from gateway.accounts import Accounts
from gateway.broadcaster import Broadcaster
from gateway.cases import Cases
from gateway.composer import Composer
from gateway.confirmer import Ours, Places, confirm
from gateway.errors import LeaseLost, NodeUnavailable, StoreUnavailable
from gateway.lease import Lease
from gateway.metrics import Metrics
from gateway.node import Node
from gateway.reaper import KEEP_S, Reaper
from gateway.store import Store
from gateway.tables import Database

_log = logging.getLogger(__name__)
_LONGEST_PAUSE_S = 60.0
_SHORTEST_PAUSE_S = 0.1
"""Between steps, however much comes in."""
_LOOK_S = 0.25
"""How soon an end is noticed while nothing comes in."""
_STRETCH_S = 0.1
"""How long blocks are consumed before it is looked what is to be sent."""


class Worker:
    """The composer, the broadcaster and the confirmer over one database and one node.

    Of the workers on one database one at a time works, the one that holds the lease; the others do nothing.
    """

    def __init__(
        self,
        database: Database,
        node: Node,
        deployment: Deployment,
        *,
        operator: Identity,
        now_s: Callable[[], float],
        resend_after_s: float,
        metrics: Metrics | None = None,
        keep_s: float = KEEP_S,
        extra_tip_wei: int = 0,
        lease: Lease | None = None,
    ) -> None:
        """Bind to a deployment. Raises `ChainMismatch` for another chain.

        Args:
            database: what is worked on.
            node: where transactions go.
            deployment: the contracts.
            operator: the account that pays for batches.
            now_s: wall clock, Unix seconds.
            resend_after_s: seconds until a transaction that is in no block is looked after again.
            metrics: what is counted in.
            keep_s: for how long it can be asked what became of something.
            extra_tip_wei: what the operator pays per gas above what the node asks.
            lease: default: one in this process's name.
        """
        node.check_chain(deployment.chain_id, deployment.genesis_hash)
        metrics = metrics or Metrics()
        self._lease = lease or Lease(database)
        fenced = database.fenced(self._lease.check)
        self._store = store = Store(fenced)
        self._node = node
        self._deployment = deployment
        self._composer = Composer(
            store=store,
            node=node,
            deployment=deployment,
            cases=Cases(
                store=store,
                accounts=Accounts(store=store, node=node, deployment=deployment),
                domain=deployment.domain,
                now_s=now_s,
            ),
            operator=operator,
            metrics=metrics,
            extra_tip_wei=extra_tip_wei,
        )
        self._broadcaster = Broadcaster(
            store=store,
            node=node,
            operator=operator,
            resend_after_s=resend_after_s,
            metrics=metrics,
            extra_tip_wei=extra_tip_wei,
        )
        self._metrics = metrics
        self._places = Places()
        self._ours = Ours(domain=deployment.domain, token=deployment.token, operator=operator.address)
        self._reaper = Reaper(fenced, keep_s=keep_s)
        self._now_s = now_s
        self._woken = threading.Event()

    def wake(self) -> None:
        """Have the next step made soon: there is something to send. From any thread."""
        self._woken.set()

    def compose(self) -> int:
        """Put waiting operations into a batch; return how many calls it has."""
        return self._composer.compose(now_s=self._now_s()) if self._lease.keep() else 0

    def broadcast(self) -> int:
        """Hand due transactions to the node; return how many."""
        return self._broadcaster.broadcast(now_s=self._now_s()) if self._lease.keep() else 0

    def confirm(self, *, enough: Callable[[], bool] = lambda: False) -> int:
        """Consume new blocks, one at the least if there are any, until it is `enough`; return how many."""
        if not self._lease.keep():
            return 0
        return confirm(
            self._store,
            self._node,
            ours=self._ours,
            first_block=self._deployment.block,
            genesis=self._deployment.genesis_hash,
            places=self._places,
            metrics=self._metrics,
            enough=enough,
        )

    def reap(self) -> int:
        """Forget what nobody asks for any more; return how many rows."""
        return self._reaper.reap(now_s=self._now_s()) if self._lease.keep() else 0

    def run(self, stop: threading.Event, *, interval_s: float, jitter: Callable[[], float] = random.random) -> None:
        """Step until `stop` is set; a step that has begun is finished, and the lease given back.

        A fault of node or database is logged and the next step tries again, after a while that grows while faults
        last: while one of composing, broadcasting and confirming fails the others go on. Raises `ChainMismatch`: that
        does not mend itself.

        Args:
            stop: ends it.
            interval_s: seconds between steps while all is well and nobody wakes it.
            jitter: random numbers from 0 to 1, so that gateways do not come back to a node all at once.
        """
        failed = 0
        while not stop.is_set():
            self._woken.clear()
            stretch = _Stretch(_STRETCH_S)
            failed = 0 if self._step(stretch) else failed + 1
            if failed:
                stop.wait(pause_s(failed, interval_s=interval_s, chance=jitter()))
            elif not stretch.ended:  # else there are more blocks
                self._pause(stop, interval_s)
        with contextlib.suppress(StoreUnavailable):
            self._lease.release()

    def _pause(self, stop: threading.Event, interval_s: float) -> None:
        """Wait for the next step's time, for something to send, or for the end."""
        end_s = time.monotonic() + interval_s
        stop.wait(min(interval_s, _SHORTEST_PAUSE_S))
        while not stop.is_set() and (left_s := end_s - time.monotonic()) > 0:
            if self._woken.wait(min(left_s, _LOOK_S)):
                return

    def _step(self, stretch: _Stretch) -> bool:
        parts: tuple[tuple[str, Callable[[], object]], ...] = (
            ("confirm", lambda: self.confirm(enough=stretch)),
            ("compose", self.compose),
            ("broadcast", self.broadcast),
            ("reap", self.reap),
        )
        well = True
        for name, part in parts:
            try:
                part()
            except LeaseLost as error:
                _log.info("%s: another gateway goes on: %s", name, error)
            except (NodeUnavailable, StoreUnavailable) as error:
                well = False
                _log.warning("%s: %s", name, error)
        return well


class _Stretch:
    """Some time that begins now; called, it returns whether it has ended, and remembers that it was said so."""

    def __init__(self, length_s: float) -> None:
        self._end_s = time.monotonic() + length_s
        self.ended = False

    def __call__(self) -> bool:
        self.ended = time.monotonic() >= self._end_s
        return self.ended


def pause_s(failed: int, *, interval_s: float, chance: float) -> float:
    """Return how long to wait after so many failed steps: twice as long each time, up to a minute, less up to half."""
    longest_s = min(interval_s * 2.0 ** min(failed, 16), max(_LONGEST_PAUSE_S, interval_s))
    return longest_s * (1 - chance / 2)
