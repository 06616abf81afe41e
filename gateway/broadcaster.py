"""Gets accepted transactions to the node: per account in nonce order, written down before they are sent.

The nonces that count are those of the newest block and those held here. A node's own pool is not asked: it
may forget, and Ganache's does not tell.

What is in no block after a while is sent again, unless the node still has it: Ganache executes twice what it is handed
twice. What Anvil has stranded it is made to drop before. For the gateway's own account the offer is raised instead, and
all attempts are watched: an earlier one may still be mined. A device's offer only the device can raise, by handing in
the same call for more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from contracts.identity import Fees, Identity
from gateway.answers import Outcome, needed_tip_wei
from gateway.due import Due
from gateway.fees import raised
from gateway.logs import event
from gateway.metrics import Metrics
from gateway.node import Node
from gateway.policy import CheckedTransaction
from gateway.records import Submission
from gateway.store import Store
from gateway.submission import Happening, State
from gateway.transaction import MAX_BATCH_BYTES, read

_log = logging.getLogger(__name__)

TAKEN_NOTE = "another transaction of this account used its nonce, and is final"
GAP_NOTE = "does nothing: it fills a gap in the operator's nonces, so that later ones can follow"
CAP_NOTE = "its offer is at the cap, and no block has taken it: it is sent again as it is"
_GAS_OF_NOTHING = 21_000


WAITS_NOTE = "it waits for nonce {} of its account: hand that over, or sign this anew with it"
_AT_ONCE = 256
"""Transactions of an account in one step."""


class Broadcaster:
    """Broadcasts for all accounts of one gateway."""

    def __init__(
        self,
        *,
        store: Store,
        node: Node,
        operator: Identity,
        resend_after_s: float,
        metrics: Metrics,
        extra_tip_wei: int = 0,
    ) -> None:
        """Set where transactions come from and go to, and whose own they are.

        Args:
            store: what is held.
            node: what is sent to.
            operator: the account whose offers can be raised here.
            resend_after_s: seconds until a transaction that is in no block is looked after again.
            metrics: what is counted in.
            extra_tip_wei: what the operator pays per gas above what the node asks.
        """
        self._metrics = metrics
        self._store = store
        self._node = node
        self._operator = operator
        self._resend_after_s = resend_after_s
        self._extra_tip_wei = extra_tip_wei

    def broadcast(self, *, now_s: float) -> int:
        """Send what is due; return how many transactions the node was handed.

        Due are the next nonces of each account, without gaps, and what was sent a while ago and is in no block yet.
        Everything that is about to be sent is on disk as such before the first of it leaves. When the node falls
        silent the rest waits until it is due again.
        """
        stale_s = now_s - self._resend_after_s
        due: list[Submission] = []
        accounts = self._store.accounts_due(operator=self._operator.address, stale_s=stale_s)
        overtaken: list[str] = []
        for account, used in self._node.nonces(accounts).items():
            found = self._due(account, used, stale_s=stale_s, now_s=now_s)
            due += found.to_send
            if found.overtaken:
                overtaken.append(account)
        self._settle(overtaken)
        due = list(self._looked_after(due, now_s=now_s))
        self._store.sending(due, now_s=now_s)
        said: dict[str, tuple[Outcome, str | None]] = {}
        answers = self._node.send([one.newest.raw for one in due])
        for one, sent in zip(due, answers, strict=False):
            event(_log, logging.INFO, "sent", submission=one.id, nonce=one.nonce, outcome=sent.outcome.value)
            note = None if sent.outcome.settled else f"the node: {sent.words}"
            if note != one.note or not sent.outcome.settled:
                said[one.id] = (sent.outcome, note)
        self._store.answered(said)
        return len(answers)

    def _due(self, account: str, used: int, *, stale_s: float, now_s: float) -> Due:
        due = self._store.due(
            account, used, operator=self._operator.address, stale_s=stale_s, waits=WAITS_NOTE, most=_AT_ONCE
        )
        if account == self._operator.address and due.first is not None:
            self._fill_gap(used, due.first, now_s=now_s)
        if due.held_back:
            self._store.hold_back(account, due.following, waits=WAITS_NOTE)
        return due

    def _ours(self, one: Submission) -> bool:
        return one.sender == self._operator.address

    def _looked_after(self, due: Sequence[Submission], *, now_s: float) -> Iterator[Submission]:
        """Yield what has to be sent: not what the node still has, and with higher offers where they are ours."""
        asked: Fees | None = None
        kept: list[Submission] = []
        looked_at: set[str] = set()  # accounts that have nothing stranded, or not any more
        for one in due:
            sent_before = one.newest.sent_at_s is not None and one.state is State.BROADCAST
            known = one.state is State.BROADCAST and self._node.knows(one.newest.hash)
            if self._ours(one) and sent_before:
                asked = asked or self._node.fees(extra_tip_wei=self._extra_tip_wei)
                # A node that forgot it may have been started anew, or have dropped it since it is below the market.
                too_low = one.said is Outcome.UNDERPRICED or one.newest.fees.max_fee_wei < asked.max_fee_wei
                higher = self._raised(one, asked) if known or too_low else None
                if higher is not None:
                    yield higher
                    continue
            if known and one.sender not in looked_at:
                looked_at.add(one.sender)
                known = not self._node.free_stranded(one.sender)
            if known:
                kept.append(one)
            else:
                yield one
        self._store.seen(kept, now_s=now_s)

    def _raised(self, one: Submission, asked: Fees) -> Submission | None:
        """The submission with a higher offer, None where that would exceed the cap."""
        needed_wei = needed_tip_wei(one.note or "")
        asked = Fees(tip_wei=max(asked.tip_wei, needed_wei), max_fee_wei=max(asked.max_fee_wei, needed_wei))
        fees = raised(one.newest.fees, asked, self._node.fee_rules)
        if fees is None:
            self._metrics.at_the_cap.inc()
            event(_log, logging.WARNING, "offer at the cap", submission=one.id, nonce=one.nonce)
            if one.note != CAP_NOTE:
                self._store.answered({one.id: (one.said or Outcome.UNDERPRICED, CAP_NOTE)})
            return None
        old = read(one.newest.raw, most_bytes=MAX_BATCH_BYTES)
        raw, digest = self._operator.sign(
            chain_id=old.chain_id,
            nonce=old.nonce,
            target="0x" + old.to.hex(),
            data=old.data,
            gas=old.gas,
            fees=fees,
            value_wei=old.value_wei,
        )
        event(_log, logging.INFO, "offer raised", submission=one.id, nonce=one.nonce, max_fee_wei=fees.max_fee_wei)
        return self._store.raise_offer(one, transaction="0x" + digest.hex(), raw=raw)

    def _fill_gap(self, used: int, first: int, *, now_s: float) -> None:
        """Use up nonces of the operator, up to the first that is held: later ones wait for them."""
        for nonce in range(used, first):
            fees = self._node.fees(extra_tip_wei=self._extra_tip_wei)
            address = self._operator.address
            chain_id = self._node.chain_id()
            raw, digest = self._operator.sign(
                chain_id=chain_id, nonce=nonce, target=address, data=b"", gas=_GAS_OF_NOTHING, fees=fees
            )
            checked = CheckedTransaction(digest=digest, raw=raw, sender=address, nonce=nonce, target=address, call=None)
            event(_log, logging.WARNING, "gap filled in the operator's nonces", submission=checked.id, nonce=nonce)
            self._store.begin_batch(checked, (), now_s=now_s, note=GAP_NOTE)

    def _settle(self, accounts: Sequence[str]) -> None:
        """Tell that another transaction took a nonce of some accounts, once that is beyond doubt.

        A used nonce alone says nothing: it may be ours that was mined. So we wait until the block in which the
        nonce is used is final and the index has consumed that very block: had it held ours, the state would tell.
        """
        if not accounts:
            return
        final = self._node.final_height(self._node.height())
        consumed = self._store.block_hash(final)
        if consumed is None or consumed != self._node.block_hash(final):
            return
        for account in accounts:
            used = self._node.nonce(account, block=final)
            for one in self._store.overtaken(account, used):
                self._store.happened(one, Happening.NONCE_TAKEN, note=TAKEN_NOTE)
