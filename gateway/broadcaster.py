"""Gets accepted transactions to the node: per account in nonce order, written down before they are sent.

The nonces that count are those of the newest block and those held here. A node's own pool is not asked: it
may forget, and Ganache's does not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from gateway.node import Node, SendOutcome
from gateway.records import Submission
from gateway.store import Store
from gateway.submission import Happening, State

TAKEN_NOTE = "another transaction of this account used its nonce, and is final"


def broadcast(store: Store, node: Node, *, now_s: float, resend_after_s: float) -> int:
    """Send what is due; return how many transactions the node was handed.

    Due are the next nonces of each account, without gaps, and what was sent over `resend_after_s` ago and is
    in no block yet, unless the node still has it: Ganache executes twice what it is handed twice. Everything
    that is about to be sent is on disk as such before the first of it leaves. When the node falls silent the
    rest waits until it is due again.
    """
    due: list[Submission] = []
    for account, group in groupby(store.unsettled(), key=lambda one: one.sender):
        due += _due(list(group), account, store, node, now_s=now_s, resend_after_s=resend_after_s)
    kept = [one for one in due if one.state is State.BROADCAST and node.knows(one.id)]
    store.seen(kept, now_s=now_s)
    due = [one for one in due if one not in kept]
    store.sending(due, now_s=now_s)
    for handed, one in enumerate(due, start=1):
        sent = node.send(one.raw)
        if sent.outcome in (SendOutcome.REFUSED, SendOutcome.NO_ANSWER):
            store.note(one.id, f"the node: {sent.words}")
        elif one.note is not None:
            store.note(one.id, None)
        if sent.outcome is SendOutcome.NO_ANSWER:
            return handed
    return len(due)


def _due(
    held: Sequence[Submission], account: str, store: Store, node: Node, *, now_s: float, resend_after_s: float
) -> list[Submission]:
    def stale(one: Submission) -> bool:
        return one.sent_at_s is None or now_s - one.sent_at_s >= resend_after_s

    pending = [one for one in held if one.state is not State.INCLUDED]
    if not any(one.state is not State.BROADCAST or stale(one) for one in pending):
        return []
    used = node.nonce(account)
    overtaken = [one for one in pending if one.nonce < used]
    if overtaken:
        _settle(overtaken, account, store, node)
    due: list[Submission] = []
    following = used
    for one in (one for one in held if one.nonce >= used):
        in_order = one.nonce == following
        following += in_order
        first_time = one.state in (State.ACCEPTED, State.READY) and in_order
        if first_time or (one.state is State.BROADCAST and stale(one)):
            due.append(one)
    return due


def _settle(overtaken: Sequence[Submission], account: str, store: Store, node: Node) -> None:
    """Tell that another transaction took a nonce, once that is beyond doubt.

    A used nonce alone says nothing: it may be ours that was mined. So we wait until the block in which the
    nonce is used is final and the index has consumed that very block: had it held ours, the state would tell.
    """
    final = min(node.final_height(), node.height())
    if store.block_hash(final) != node.block_hash(final):
        return
    used = node.nonce(account, block=final)
    for one in overtaken:
        if one.nonce < used:
            store.happened(one, Happening.NONCE_TAKEN, note=TAKEN_NOTE)
