"""Follows the chain block by block: what was included, what became final, what the contracts said."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Final

from contracts import calls, events
from contracts.errors import MalformedCalldata, MalformedLog, MalformedTerms, decode_revert
from contracts.terms import Domain, Terms, both_salts, commitment, encounter_id, terms_to_json
from gateway.batch import Told, told_by
from gateway.blocks import Log, Receipt, SeenBlock, SeenTransaction
from gateway.errors import ChainMismatch, NodeUnavailable
from gateway.logs import event
from gateway.metrics import Metrics
from gateway.node import Node
from gateway.records import Block, Mined, NewEvent
from gateway.store import Store

_log = logging.getLogger(__name__)
_MAX_BLOCKS_A_STEP: Final = 500
_FAR_BEHIND: Final = 64
"""From so many final blocks on those without anything about us are passed over."""
_LEAST_SPAN: Final = 16
_ABOUT: Final = ("account", "validator", "voter", "by")
"""Event arguments that name the account an event is about, most telling first."""
_REVEALING: Final = (calls.Report, calls.ReportSigned, calls.CloseReporting, calls.Settle)
"""Calls that carry both salts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What in a block is about this gateway.

    Attributes:
        domain: where encounters live.
        token: checksum address of the token.
        operator: checksum address of the account that pays for batches.
    """

    domain: Domain
    token: str
    operator: str

    @property
    def contracts(self) -> set[str]:
        """Addresses of escrow and token."""
        return {self.domain.escrow, self.token}


class Places:
    """Which final blocks hold our attempts, remembered while many blocks are caught up with, over many steps.

    What lies in final blocks does not change: each attempt is looked for once up to the block that was final then.
    """

    def __init__(self) -> None:
        """Nothing was looked for yet."""
        self._final = -1
        self._blocks: dict[str, int | None] = {}

    def within(self, store: Store, node: Node, first: int, last: int, *, final: int) -> set[int]:
        """Return the blocks from `first` to `last`, none above `final`, that hold an attempt of an open submission."""
        if last > self._final:
            self._final, self._blocks = final, {}
        attempts = [attempt.hash for one in store.unsettled() for attempt in one.attempts]
        for key in attempts:
            if key not in self._blocks:
                receipt = node.receipt(key)
                self._blocks[key] = None if receipt is None else receipt.block
        blocks = (self._blocks[key] for key in attempts)
        return {block for block in blocks if block is not None and first <= block <= last}


def confirm(
    store: Store,
    node: Node,
    *,
    ours: Ours,
    first_block: int,
    genesis: str,
    places: Places,
    metrics: Metrics,
    enough: Callable[[], bool],
) -> int:
    """Consume the blocks the node has and the store has not; return how many.

    While there are more, `enough` is asked after each look whether they are to wait: one at the least is consumed.

    A block whose parent is not the one consumed before it means a reorganisation: blocks are forgotten back
    to the last common one, and what they held is broadcast again. Raises `ChainMismatch` when that would undo
    what was final, and `NodeUnavailable` when the node is behind what was consumed: nothing goes backwards
    from that alone.
    """
    height = node.height()
    final = node.final_height(height)
    head = store.head()
    following = first_block if head is None else head.number + 1
    if head is not None:
        if height < head.number:
            node.check_chain(ours.domain.chain_id, genesis)
            raise NodeUnavailable(f"the chain's node is behind: it has block {height}, block {head.number} was seen")
        if height == head.number or final - following >= _FAR_BEHIND:  # else the block that follows names its parent
            head = _still_canonical(store, node, head, metrics)
            following = head.number + 1
    consumed = 0
    while following <= height and consumed < _MAX_BLOCKS_A_STEP and not (consumed and enough()):
        if final - following >= _FAR_BEHIND:
            last = min(final, following + _MAX_BLOCKS_A_STEP - consumed - 1)
            numbers = _telling(node, following, last, ours.contracts)
            numbers |= places.within(store, node, following, last, final=final)  # one that was reverted has no logs
        else:
            last, numbers = following, {following}
        for number in sorted(numbers):
            block = node.block(number)
            if head is not None and number == head.number + 1 and block.parent != head.hash:
                head = _rewound(store, node, head, metrics)
                break
            head = _consume(store, node, block, ours=ours, final=final, metrics=metrics)
        else:
            consumed += last - following + 1
        if head is None:
            raise AssertionError("a block that was consumed is gone")
        following = head.number + 1
    if consumed == 0 and head is not None:
        store.finalise(final)
    return consumed


def _telling(node: Node, first: int, last: int, ours: set[str]) -> set[int]:
    """The numbers, up to `last`, of final blocks in which our contracts spoke, and `last` itself, to go on from.

    For when many blocks have to be caught up with: most are about others. A node may want to be asked for fewer blocks
    at once.
    """
    span = last - first + 1
    telling: set[int] = {last}
    begin = first
    while begin <= last:
        try:
            found = node.logs(begin, min(last, begin + span - 1), ours)
        except NodeUnavailable:
            if span <= _LEAST_SPAN:
                raise
            span //= 2
            continue
        telling |= {log.block for log in found}
        begin += span
    return telling


def _still_canonical(store: Store, node: Node, head: Block, metrics: Metrics) -> Block:
    return head if node.block_hash(head.number) == head.hash else _rewound(store, node, head, metrics)


def _rewound(store: Store, node: Node, head: Block, metrics: Metrics) -> Block:
    """Forget the blocks that are not canonical any more; return the last one that is."""
    number = head.number - 1
    while (known := store.block_hash(number)) is not None and node.block_hash(number) != known:
        number -= 1
    if known is None or number < store.settled_height():
        raise ChainMismatch(
            f"the node's chain and the one followed so far (block {head.number} is {head.hash}) differ in "
            "blocks that were final: was it started anew? Connect to the right node, or begin with an empty "
            "database"
        )
    store.rewind(number)
    metrics.reorg_depth.observe(head.number - number)
    event(_log, logging.WARNING, "chain reorganised", block=number, blocks_forgotten=head.number - number)
    kept = store.head()
    if kept is None:
        raise AssertionError("a block that was kept is gone")
    return kept


def _consume(store: Store, node: Node, block: SeenBlock, *, ours: Ours, final: int, metrics: Metrics) -> Block:
    mined: list[Mined] = []
    found: list[NewEvent] = []
    terms: dict[str, dict[str, Any]] = {}
    salts: dict[str, tuple[str, str]] = {}
    contracts = ours.contracts
    concerning = _concerning(node, block, ours)
    receipts = node.receipts(block.number, [one.hash for one in concerning])
    for transaction, receipt in zip(concerning, receipts, strict=True):
        if receipt.block_hash != block.hash:
            raise NodeUnavailable(f"block {block.number} was reorganised while it was read")
        called = _calls(transaction.data) if transaction.target in contracts else []
        mined.append(
            Mined(
                hash=transaction.hash,
                succeeded=receipt.succeeded,
                gas=receipt.gas,
                why=None if receipt.succeeded else _why(store, node, transaction, receipt),
            )
        )
        for call in called:
            agreed = None if call is None else calls.terms_of(call)
            if agreed is None:
                continue
            name = _hex(encounter_id(agreed, ours.domain))
            terms[name] = dict(terms_to_json(agreed))
            if isinstance(call, _REVEALING) and _reveals(agreed, call.learner_salt, call.neighbor_salt):
                salts[name] = (_hex(call.learner_salt), _hex(call.neighbor_salt))
        told = told_by(called, _decoded(receipt.logs, contracts), ours.domain)
        found += [_row(receipt, one, share=max(1, len(called))) for one in told]
    consumed = Block(number=block.number, hash=block.hash, time_s=block.time_s)
    included = store.consume(consumed, mined=mined, events=found, terms=terms, salts=salts, final_block=final)
    event(_log, logging.DEBUG, "block read", block=consumed.number, included=len(included), events=len(found))
    for sends in included:
        metrics.attempts.observe(sends)
    return consumed


def _why(store: Store, node: Node, transaction: SeenTransaction, receipt: Receipt) -> str | None:
    """Why a transaction of ours was reverted, as far as trying it again on the block before tells; None of others."""
    if store.submission(transaction.hash) is None:
        return None
    if receipt.gas >= transaction.gas:
        return f"out of gas: it used all of its {transaction.gas}"
    try:
        data = node.refusal(
            transaction.target or "",
            transaction.data,
            sender=transaction.sender,
            value_wei=transaction.value_wei,
            block=receipt.block - 1,
        )
    except NodeUnavailable:
        data = None  # a node need not keep old states
    return "reverted" if data is None else f"reverted: {decode_revert(data)}"


def _reveals(terms: Terms, learner_salt: bytes, neighbor_salt: bytes) -> bool:
    """Whether these are the salts of the terms; a call that was reverted may carry anything."""
    return both_salts(commitment(learner_salt), commitment(neighbor_salt)) == terms.salts


def _concerning(node: Node, block: SeenBlock, ours: Ours) -> list[SeenTransaction]:
    """The block's transactions that call our contracts, directly or through another one, and the operator's."""
    logs: Sequence[Log] = ()
    contracts = ours.contracts
    if any(one.target not in contracts for one in block.transactions):
        logs = node.logs(block.number, block.number, contracts)
    if any(log.block_hash != block.hash for log in logs):
        raise NodeUnavailable(f"block {block.number} was reorganised while it was read")
    inner = {log.transaction for log in logs}
    return [
        one for one in block.transactions if one.target in contracts or one.sender == ours.operator or one.hash in inner
    ]


def _calls(data: bytes) -> list[calls.Call | None]:
    """The calls of a transaction: those of a batch one by one, None for one that is none of ours."""
    call = _call(data)
    return [_call(one) for one in call.calls] if isinstance(call, calls.Batch) else [call]


def _call(data: bytes) -> calls.Call | None:
    try:
        return calls.decode(data)
    except (MalformedCalldata, MalformedTerms):
        return None


def _decoded(logs: Sequence[Log], ours: Collection[str]) -> list[events.Event]:
    found: list[events.Event] = []
    for log in logs:
        if log.address not in ours:
            continue
        try:
            event = events.decode(log.topics, log.data)
        except MalformedLog:
            continue
        if event is not None:
            found.append(event)
    return found


def _row(receipt: Receipt, told: Told, *, share: int) -> NewEvent:
    event = told.event
    args = {field.name: _json(getattr(event, field.name)) for field in fields(event)}
    args |= {key: _json(value) for key, value in told.beside.items()}
    return NewEvent(
        transaction=receipt.transaction,
        place=told.place,
        function=told.function,
        gas=receipt.gas // share,
        name=type(event).__name__,
        encounter=args.get("encounter"),
        account=next((args[key] for key in _ABOUT if key in args), None),
        args=args,
    )


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return _hex(value)
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    if is_dataclass(value):
        return {field.name: _json(getattr(value, field.name)) for field in fields(value)}
    return value


def _hex(value: bytes) -> str:
    return "0x" + bytes(value).hex()
