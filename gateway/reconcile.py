"""Compares what the gateway says of its submissions with what the chain shows. Reads only; safe while it works."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from gateway.errors import ChainMismatch
from gateway.node import Node
from gateway.records import Block, Submission
from gateway.store import Store
from gateway.submission import State

_WITHOUT_A_BLOCK = frozenset({State.ACCEPTED, State.READY, State.BROADCAST, State.SUPERSEDED, State.EXPIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that the database and the chain do not agree on.

    Attributes:
        about: a submission's id, or an account's address.
        words: what each of them says.
    """

    about: str
    words: str


def differences(store: Store, node: Node, *, operator: str) -> Iterator[Difference]:
    """Yield what does not agree, over all that the database still knows.

    Blocks that were not read yet are left out, so that a worker that is at it causes no difference.

    Args:
        store: what the gateway says.
        node: what the chain shows.
        operator: checksum address of the account whose nonces all belong to the gateway.

    Raises `ChainMismatch` if the newest block read is not the chain's, and `NodeUnavailable`.
    """
    head = store.head()
    if head is None:
        return
    if node.height() >= head.number and node.block_hash(head.number) != head.hash:
        raise ChainMismatch(
            f"block {head.number} is another one on the chain than was read: the worker has to follow the "
            "reorganisation first"
        )
    held = store.submissions()
    for one in held:
        yield from _compared(one, node, head)
    for account, group in groupby(held, key=lambda one: one.sender):
        yield from _nonces(account, list(group), node, head, ours=account == operator)


def _compared(one: Submission, node: Node, head: Block) -> Iterator[Difference]:
    receipts = {attempt.hash: node.receipt(attempt.hash) for attempt in one.attempts}
    found = {
        key: (receipt.succeeded, receipt.block)
        for key, receipt in receipts.items()
        if receipt is not None and receipt.block <= head.number
    }
    if one.state in _WITHOUT_A_BLOCK:
        for key, (_, block) in found.items():
            words = f"{one.state.value} here, but block {block} holds {key}"
            yield Difference(about=one.id, words=words)
        return
    there = found.get(one.mined or "")
    here = (bool(one.succeeded), one.block or 0)
    if there is None:
        yield Difference(about=one.id, words=f"{one.state.value} in block {one.block} here, but no block holds it")
    elif there != here:
        yield Difference(about=one.id, words=f"{_told(here)} here, but {_told(there)} on the chain")


def _told(place: tuple[bool, int]) -> str:
    succeeded, block = place
    return f"{'done' if succeeded else 'reverted'} in block {block}"


def _nonces(account: str, held: list[Submission], node: Node, head: Block, *, ours: bool) -> Iterator[Difference]:
    used = node.nonce(account, block=min(head.number, node.height()))
    waiting = sorted(one.nonce for one in held if one.state in (State.ACCEPTED, State.READY, State.BROADCAST))
    if waiting and waiting[0] > used:
        words = f"the next nonce is {used}, the lowest that waits here {waiting[0]}: what is between is missing"
        yield Difference(about=account, words=words)
    if not ours:
        return
    ended = {one.nonce for one in held if one.state in (State.INCLUDED, State.FINAL, State.REVERTED)}
    for nonce in range(min(ended, default=used), used):
        if nonce not in ended:
            words = f"the operator's nonce {nonce} was used by a transaction that is not known here"
            yield Difference(about=account, words=words)
