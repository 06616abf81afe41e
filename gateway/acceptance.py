"""Takes raw transactions: checks, a trial where it tells something, and the record. What was taken is never lost."""

from __future__ import annotations

import logging
from collections.abc import Callable

from contracts.deploy import Deployment
from contracts.errors import decode_revert
from contracts.reverts import TooEarly, VotesMissing
from gateway.admission import Admit, admit_anyone
from gateway.config import Limits
from gateway.cooperation import elsewhere
from gateway.errors import Code, NodeUnavailable, Refusal
from gateway.node import Node
from gateway.policy import CheckedTransaction, check
from gateway.records import Submission
from gateway.store import Store
from gateway.transaction import read

_log = logging.getLogger(__name__)
_SOON_S = 60
"""What is early by less than this may be in time for the block that takes it: it is tried on the one before."""


class Acceptance:
    """The way in for transactions that devices send and pay for themselves."""

    def __init__(
        self, *, store: Store, node: Node, deployment: Deployment, limits: Limits, wake: Callable[[], None]
    ) -> None:
        """Set where transactions are kept, what is taken, and who is told that there is something to send."""
        self._store = store
        self._node = node
        self._deployment = deployment
        self._limits = limits
        self._wake = wake

    def take(self, raw: bytes, *, now_s: float, admit: Admit = admit_anyone) -> tuple[Submission, bool]:
        """Check a transaction from anywhere and keep it; return its submission and whether it is new.

        `admit` is asked before anything is stored.

        Raises `Refusal` if it is none that is relayed or would be reverted, and `StoreUnavailable` if it is not kept.
        """
        checked = check(
            raw,
            chain_id=self._deployment.chain_id,
            token=self._deployment.token,
            escrow=self._deployment.escrow,
            limits=self._limits,
            tip_floor_wei=self._node.fee_rules.tip_floor_wei,
        )
        known, under_way = self._store.look_up(checked.id, checked.sender)
        admit(checked.sender, known is None)
        if known is not None:
            return known, False
        if not under_way:
            elsewhere(lambda: self._try(checked))
        submission, new = self._store.accept(checked, now_s=now_s)
        if new:
            self._wake()
        return submission, new

    def _try(self, checked: CheckedTransaction) -> None:
        """Refuse an account's next transaction if the chain would revert it now: its nonce is not used up then.

        Nothing is tried that comes after another one on its way, which may change everything. And a node that is
        silent, behind, or of another mind about the nonce refuses nothing: what becomes of it will be told later.
        """
        try:
            data = read(checked.raw)
            refusal = self._node.refusal(checked.target, data.data, sender=checked.sender, value_wei=data.value_wei)
            if refusal is None:
                return
            head = self._store.head()
            behind = head is not None and self._node.height() < head.number
            if behind or self._node.nonce(checked.sender) != checked.nonce:
                return
        except NodeUnavailable as error:
            _log.info("a transaction of %s was taken untried: %s", checked.sender, error)
            return
        told = decode_revert(refusal)
        soon = isinstance(told, TooEarly) and int(told.values["notBefore"]) <= int(told.values["time"]) + _SOON_S
        if not soon:
            words = f"{checked.name} would be reverted: {told}"
            raise Refusal(422, Code.WOULD_REVERT, words, retry=isinstance(told, TooEarly | VotesMissing))
