"""Puts the operations that wait into batches, which the gateway's own account signs and pays for.

One batch at a time is on its way: what comes meanwhile goes into the next, so that batches grow with the load. Every
call is tried against the newest block before it goes in; one that the chain would refuse now waits, until it can do
nothing any more. Only an opening that waits for its lane alone goes in all the same, behind the call that vacates it:
in one transaction the two cost less. What the keeper ends goes along. The signed batch and what it carries are one
write, before anything leaves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from contracts.bounds import BATCH_GAS, batch_gas, share
from contracts.calls import Batch, Call, Expire, ReportSigned, Settle, encode, terms_of
from contracts.deploy import Deployment
from contracts.errors import ContractRevert, decode_revert
from contracts.identity import Fees, Identity
from contracts.reverts import LaneBusy
from contracts.terms import LANES
from gateway.case import Case, Item, items
from gateway.cases import Cases
from gateway.keeper import Keeper
from gateway.logs import event
from gateway.metrics import Metrics
from gateway.node import Node
from gateway.operation import over_after
from gateway.policy import CheckedTransaction
from gateway.records import Operation
from gateway.store import Store
from gateway.transaction import MAX_BATCH_BYTES

_log = logging.getLogger(__name__)

MAX_CALLS: Final = 100
"""Calls in a batch, where that many fit: fifty encounters settled and the next fifty opened. More save little gas."""

_TRYING_S: Final = 5.0
"""For as long calls are tried on a slow node; then what will do goes. Much less than a lease lasts."""
_PART_OF_A_BLOCK: Final = 2
"""A batch asks for no more than half of a block: a larger one would have to wait for an emptier block."""
_ENVELOPE_BYTES: Final = 512
"""Of a transaction, around the calls of its batch; it has less."""
_VACATING: Final = (Settle, ReportSigned, Expire)
"""Calls that end an encounter's stay in its lane."""


class Composer:
    """Composes the batches of one gateway."""

    def __init__(
        self,
        *,
        store: Store,
        node: Node,
        deployment: Deployment,
        cases: Cases,
        operator: Identity,
        metrics: Metrics,
        extra_tip_wei: int = 0,
    ) -> None:
        """Set where operations come from, and who pays; `extra_tip_wei` is paid per gas above what the node asks."""
        self._store = store
        self._node = node
        self._deployment = deployment
        self._cases = cases
        self._keeper = Keeper(store=store, cases=cases)
        self._operator = operator
        self._metrics = metrics
        self._extra_tip_wei = extra_tip_wei

    def compose(self, *, now_s: float) -> int:
        """Sign the next batch; return how many calls it has, 0 where there is none. Raises `NodeUnavailable`."""
        head = self._store.head()
        if head is None or self._store.under_way(self._operator.address):
            return 0
        waiting = self._store.waiting_operations()
        due = self._keeper.due(chain_time_s=head.time_s)
        if not waiting and not due:
            return 0
        owners = self._store.seats()
        cases = list(self._cases_of(waiting, owners))
        kept = dict(self._keeper.items(due, owners=owners, chain_time_s=head.time_s))
        if not waiting and not kept:
            return 0
        tried = self._tried([*_candidates(waiting, cases), *kept.values()])
        chosen = [item for item, refusal in tried if refusal is None]
        notes = {number: str(refusal) for item, refusal in tried if refusal for number in item.operations}
        fees = self._node.fees(extra_tip_wei=self._extra_tip_wei) if chosen else None
        gas = batch_gas(item.call for item in chosen)
        lacking = None if fees is None else self._lacking(gas, fees)
        if lacking is not None:
            _log.warning("%s", lacking)
            notes |= {number: lacking for item in chosen for number in item.operations}
            chosen = []
        carried = {number for item in chosen for number in item.operations}
        over = self._over(waiting, cases, chain_time_s=head.time_s) - carried
        known = {one.number: one.note for one in waiting}
        self._store.remark(
            {number: words for number, words in notes.items() if known[number] != words}, over=sorted(over)
        )
        begun = fees is not None and bool(chosen) and self._begin(chosen, fees, gas=gas, now_s=now_s)
        if begun:
            self._metrics.batch_calls.observe(len(chosen))
        refusals = dict(tried)
        done = {key: refusals[item] for key, item in kept.items() if item in refusals and (begun or refusals[item])}
        self._keeper.put_off(done, chain_time_s=head.time_s)
        return len(chosen) if begun else 0

    def _tried(self, candidates: Sequence[Item]) -> list[tuple[Item, ContractRevert | None]]:
        """Try calls on the newest block until a batch is full, or overdue; return with what each was refused."""
        overdue_s = time.monotonic() + _TRYING_S
        gas = min(self._node.profile.most_gas, self._node.block_gas_limit() // _PART_OF_A_BLOCK) - BATCH_GAS
        room = MAX_BATCH_BYTES - _ENVELOPE_BYTES
        places = MAX_CALLS
        vacated: set[tuple[str, int]] = set()
        tried: list[tuple[Item, ContractRevert | None]] = []
        for item in candidates:
            data = encode(item.call)
            if places < MAX_CALLS and time.monotonic() > overdue_s:
                break
            needed, size = share(item.call), _bytes_in_batch(data)
            if places == 0 or needed > gas or size > room:
                break
            refused = self._node.refusal(self._deployment.escrow, data, sender=self._operator.address)
            refusal = None if refused is None else decode_revert(refused)
            lane = _lane(item.call)
            if isinstance(refusal, LaneBusy) and lane in vacated:
                vacated.remove(lane)
                refusal = None
            tried.append((item, refusal))
            if refusal is not None:
                continue
            if lane is not None and isinstance(item.call, _VACATING):
                vacated.add(lane)
            places, gas, room = places - 1, gas - needed, room - size
        return tried

    def _lacking(self, gas: int, fees: Fees) -> str | None:
        """Say what the operator lacks to send a batch of so much gas, None if it can."""
        needed_wei = gas * fees.max_fee_wei
        held_wei = self._node.balance_wei(self._operator.address)
        if held_wei >= needed_wei:
            return None
        return f"the operator {self._operator.address} has {held_wei} wei, a batch may cost {needed_wei}: send it coin"

    def _cases_of(self, waiting: list[Operation], owners: Mapping[int, str]) -> Iterator[Case]:
        """The encounters that operations wait about, the one waiting longest first."""
        about: dict[str, list[Operation]] = {}
        for one in waiting:
            if one.encounter is not None:
                about.setdefault(one.encounter, []).append(one)
        for encounter, held in about.items():
            case = self._cases.of(encounter, held, owners=owners)
            if case is not None:
                yield case

    def _over(self, waiting: list[Operation], cases: list[Case], *, chain_time_s: int) -> set[int]:
        """Which operations can do nothing any more: their time is over, or their encounter's end is final."""
        ends = {one.number: over_after(one.call) for one in waiting}
        over = {number for number, last_s in ends.items() if last_s is not None and chain_time_s > last_s}
        closed = [case for case in cases if case.view["closed_block"] is not None]
        final = self._node.final_height(self._node.height()) if closed else 0
        for case in closed:
            if case.view["closed_block"] <= final:
                over |= {one.number for one in case.held if ends[one.number] is None}
        return over

    def _begin(self, chosen: list[Item], fees: Fees, *, gas: int, now_s: float) -> bool:
        """Sign a batch and keep it; return whether that was done, and not by another worker at the same moment."""
        account = self._operator.address
        call = Batch(calls=tuple(encode(item.call) for item in chosen))
        nonce = self._store.free_nonce(account, at_least=self._node.nonce(account))
        raw, digest = self._operator.sign(
            chain_id=self._deployment.chain_id,
            nonce=nonce,
            target=self._deployment.escrow,
            data=encode(call),
            gas=gas,
            fees=fees,
        )
        checked = CheckedTransaction(
            digest=digest, raw=raw, sender=account, nonce=nonce, target=self._deployment.escrow, call=call
        )
        begun = self._store.begin_batch(checked, [item.operations for item in chosen], now_s=now_s)
        if begun:
            event(_log, logging.INFO, "batch composed", submission=checked.id, nonce=nonce, calls=len(chosen))
        return begun


def _candidates(waiting: list[Operation], cases: list[Case]) -> Iterator[Item]:
    """The calls the chain may take now: the accounts' own steps first, without which others fail."""
    for one in waiting:
        if one.encounter is None:
            yield Item(call=one.call, operations=(one.number,))
    for case in cases:
        yield from items(case)


def _lane(call: Call) -> tuple[str, int] | None:
    """The lane that a call takes or vacates: whose, and which."""
    terms = terms_of(call)
    return None if terms is None or terms.nonce == 0 else (terms.learner, terms.nonce % LANES)


def _bytes_in_batch(data: bytes) -> int:
    """What a call takes up in a batch: where it is, how long, and itself, in whole words."""
    return 64 + -(-len(data) // 32) * 32
