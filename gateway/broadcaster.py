"""Gets accepted transactions to the node: per account in nonce order, written down before they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from gateway.node import Node, SendOutcome
from gateway.store import Store, Submission
from gateway.submission import Happening, State


def broadcast(store: Store, node: Node, *, now_s: float, resend_after_s: float) -> int:
    """Send what is due; return how many transactions the node was handed.

    Due are the next nonces of each account, without gaps, and what was sent over `resend_after_s` ago and is in
    no block yet. Everything that is about to be sent is on disk as such before the first of it leaves.
    """
    due: list[Submission] = []
    for account, group in groupby(store.unsettled(), key=lambda one: one.sender):
        due += _due(list(group), account, store, node, now_s=now_s, resend_after_s=resend_after_s)
    store.sending(due, now_s=now_s)
    for one in due:
        sent = node.send(one.raw)
        if sent.outcome is SendOutcome.UNKNOWN:
            store.note(one.id, sent.words or "no answer")
    return len(due)


def _due(
    held: Sequence[Submission], account: str, store: Store, node: Node, *, now_s: float, resend_after_s: float
) -> list[Submission]:
    waiting = [one for one in held if one.state in (State.ACCEPTED, State.READY)]
    flying = [one for one in held if one.state is State.BROADCAST]
    stale = [one for one in flying if one.sent_at_s is None or now_s - one.sent_at_s >= resend_after_s]
    if not waiting and not stale:
        return []
    used = node.nonce(account)
    reached = max([used] + [one.nonce + 1 for one in held if one.state in (State.BROADCAST, State.INCLUDED)])
    due = [one for one in stale if one.nonce >= used]
    for one in waiting:
        if one.nonce == reached:
            due.append(one)
            reached += 1
        elif one.nonce < used:
            # Either ours was mined before we recorded a send (the confirmer will say so), or another took its place.
            _settle_used(one, store, node)
    return due


def _settle_used(one: Submission, store: Store, node: Node) -> None:
    head = store.head()
    if head is not None and head.number >= node.height():
        store.happened(one, Happening.NONCE_TAKEN, note="the account's nonce was used by another transaction")
