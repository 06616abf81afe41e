"""Follows the chain block by block: what was included, what became final, what the contracts said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from enum import Enum
from typing import Any

from contracts import calls, events
from contracts.errors import ContractsError, MalformedCalldata, MalformedLog, MalformedTerms
from contracts.terms import Domain, Terms, encounter_id, terms_to_json
from web3.types import BlockData, TxData, TxReceipt

from gateway.node import Node
from gateway.store import Block, Mined, NewEvent, Store

_MAX_BLOCKS_A_STEP = 500


def confirm(store: Store, node: Node, *, domain: Domain, token: str, first_block: int) -> int:
    """Consume the blocks the node has and the store has not; return how many.

    A block whose parent is not the one consumed before it means a reorganisation: blocks are forgotten back to
    the last common one, and what they held is broadcast again.
    """
    height = node.height()
    final = min(node.final_height(), height)
    consumed = 0
    head = store.head()
    following = first_block if head is None else head.number + 1
    while following <= height and consumed < _MAX_BLOCKS_A_STEP:
        block = node.block(following)
        if head is not None and "0x" + bytes(block["parentHash"]).hex() != head.hash:
            head = _common(store, node, head)
            store.rewind(head.number if head else first_block - 1)
            following = first_block if head is None else head.number + 1
            continue
        head = _consume(store, node, block, domain=domain, token=token, final=final)
        following += 1
        consumed += 1
    if consumed == 0:
        store.finalise(final)
    return consumed


def _common(store: Store, node: Node, head: Block) -> Block | None:
    number = head.number - 1
    while (known := store.block_hash(number)) is not None:
        block = node.block(number)
        if "0x" + bytes(block["hash"]).hex() == known:
            return Block(number=number, hash=known, time_s=block["timestamp"])
        number -= 1
    return None


def _consume(store: Store, node: Node, block: BlockData, *, domain: Domain, token: str, final: int) -> Block:
    ours = {domain.escrow, token}
    mined: list[Mined] = []
    found: list[NewEvent] = []
    terms: dict[str, dict[str, Any]] = {}
    for transaction in block["transactions"]:
        if isinstance(transaction, bytes) or transaction.get("to") not in ours:
            continue
        receipt = node.receipt(transaction)
        call = _call(transaction)
        mined.append(
            Mined(
                id="0x" + bytes(transaction["hash"]).hex(),
                succeeded=receipt["status"] == 1,
                gas=receipt["gasUsed"],
            )
        )
        agreed = getattr(call, "terms", None)
        if isinstance(agreed, Terms):
            terms["0x" + encounter_id(agreed, domain).hex()] = dict(terms_to_json(agreed))
        found += _events(receipt, ours, "" if call is None else calls.function_name(call))
    consumed = Block(
        number=block["number"], hash="0x" + bytes(block["hash"]).hex(), time_s=block["timestamp"]
    )
    store.consume(consumed, mined=mined, events=found, terms=terms, final_block=final)
    return consumed


def _call(transaction: TxData) -> calls.Call | None:
    try:
        return calls.decode(bytes(transaction["input"]))
    except (MalformedCalldata, MalformedTerms, ContractsError):
        return None


def _events(receipt: TxReceipt, ours: set[str], function: str) -> Sequence[NewEvent]:
    found: list[NewEvent] = []
    for log in receipt["logs"]:
        if log["address"] not in ours:
            continue
        try:
            event = events.decode([bytes(topic) for topic in log["topics"]], bytes(log["data"]))
        except MalformedLog:
            continue
        if event is None:
            continue
        args = {field.name: _json(getattr(event, field.name)) for field in fields(event)}
        found.append(
            NewEvent(
                transaction="0x" + bytes(receipt["transactionHash"]).hex(),
                function=function,
                gas=receipt["gasUsed"],
                name=type(event).__name__,
                encounter=args.get("encounter"),
                account=next((args[key] for key in ("account", "validator", "voter", "by") if key in args), None),
                args=args,
            )
        )
    return found


def _json(value: Any) -> Any:  # noqa: ANN401 - whatever an event holds
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: _json(getattr(value, field.name)) for field in fields(value)}
    return value
