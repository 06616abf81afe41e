"""What moves submissions: one step composes a batch, broadcasts what is due and consumes what the chain shows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from contracts.deploy import Deployment
from contracts.identity import Identity
from gateway.accounts import Accounts
from gateway.broadcaster import broadcast
from gateway.cases import Cases
from gateway.composer import Composer
from gateway.confirmer import confirm
from gateway.errors import ChainMismatch, NodeUnavailable, StoreUnavailable
from gateway.node import Node
from gateway.store import Store

_log = logging.getLogger(__name__)


class Worker:
    """The composer, the broadcaster and the confirmer over one store and one node."""

    def __init__(
        self,
        store: Store,
        node: Node,
        deployment: Deployment,
        *,
        operator: Identity,
        now_s: Callable[[], float],
        resend_after_s: float,
        extra_tip_wei: int = 0,
    ) -> None:
        """Bind to a deployment, with the account that pays for batches. Raises `ChainMismatch` for another chain."""
        served, genesis = node.chain_id(), node.block_hash(0)
        if (served, genesis) != (deployment.chain_id, deployment.genesis_hash):
            raise ChainMismatch(
                f"the node serves chain {served} with genesis {genesis}, the contracts are deployed on chain "
                f"{deployment.chain_id} with genesis {deployment.genesis_hash}: check RPC URL and deployment"
            )
        self._store = store
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
            extra_tip_wei=extra_tip_wei,
        )
        self._now_s = now_s
        self._resend_after_s = resend_after_s

    def compose(self) -> int:
        """Put waiting operations into a batch; return how many calls it has."""
        return self._composer.compose(now_s=self._now_s())

    def broadcast(self) -> int:
        """Hand due transactions to the node; return how many."""
        return broadcast(self._store, self._node, now_s=self._now_s(), resend_after_s=self._resend_after_s)

    def confirm(self) -> int:
        """Consume new blocks; return how many."""
        deployment = self._deployment
        return confirm(
            self._store,
            self._node,
            domain=deployment.domain,
            token=deployment.token,
            first_block=deployment.block,
        )

    def run(self, stop: threading.Event, *, interval_s: float) -> None:
        """Step until `stop` is set; a step that has begun is finished.

        A fault of node or database is logged and the next step tries again: while one of composing, broadcasting and
        confirming fails the others go on. Raises `ChainMismatch`: that does not mend itself.
        """
        while not stop.is_set():
            for part in (self.compose, self.broadcast, self.confirm):
                try:
                    part()
                except (NodeUnavailable, StoreUnavailable) as error:
                    _log.warning("%s: %s", part.__name__, error)
            stop.wait(interval_s)
