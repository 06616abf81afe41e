"""Blocks, transactions, receipts and logs, as much of them as the gateway reads, out of a node's JSON. Pure.

A block may hold hundreds of transactions, and a client for all of JSON-RPC makes a value of its own of every member of
each: that costs more than all that is done with them. Raises KeyError, TypeError or ValueError for what has another
shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contracts.addresses import checksum_address

_HASH_DIGITS: Final = 66


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTransaction:
    """A transaction that a block holds.

    Attributes:
        hash: 0x-prefixed.
        sender: checksum address.
        target: checksum address, None where it creates a contract.
        data: its calldata.
        value_wei: the native coin it moves.
        gas: its limit.
    """

    hash: str
    sender: str
    target: str | None
    data: bytes
    value_wei: int
    gas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBlock:
    """A block with its transactions; hashes are 0x-prefixed, `time_s` is chain time."""

    number: int
    hash: str
    parent: str
    time_s: int
    transactions: tuple[SeenTransaction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a contract told.

    Attributes:
        address: checksum address of the contract.
        topics: of 32 bytes each.
        data: the rest of it.
        block: number of the block.
        block_hash: 0x-prefixed.
        transaction: hash of the transaction, 0x-prefixed.
    """

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    block_hash: str
    transaction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of a transaction in a block.

    Attributes:
        transaction: its hash, 0x-prefixed.
        block: number of the block.
        block_hash: 0x-prefixed.
        succeeded: whether it was not reverted.
        gas: used.
        logs: in order.
    """

    transaction: str
    block: int
    block_hash: str
    succeeded: bool
    gas: int
    logs: tuple[Log, ...]


def read_block(answer: Any) -> SeenBlock:
    """Read what a node says to `eth_getBlockByNumber` with transactions in full."""
    return SeenBlock(
        number=_number(answer["number"]),
        hash=read_block_hash(answer),
        parent=_hash(answer["parentHash"]),
        time_s=_number(answer["timestamp"]),
        transactions=tuple(_transaction(one) for one in answer["transactions"]),
    )


def read_block_hash(answer: Any) -> str:
    """Read the hash of a block, 0x-prefixed, out of the same or of a shorter answer."""
    return _hash(answer["hash"])


def read_receipt(answer: Any) -> Receipt:
    """Read what a node says to `eth_getTransactionReceipt`."""
    return Receipt(
        transaction=_hash(answer["transactionHash"]),
        block=_number(answer["blockNumber"]),
        block_hash=_hash(answer["blockHash"]),
        succeeded=_number(answer["status"]) == 1,
        gas=_number(answer["gasUsed"]),
        logs=read_logs(answer["logs"]),
    )


def read_logs(answer: Sequence[Any]) -> tuple[Log, ...]:
    """Read what a node says to `eth_getLogs`."""
    return tuple(_log(one) for one in answer)


def _transaction(answer: Mapping[str, Any]) -> SeenTransaction:
    target = answer["to"]
    return SeenTransaction(
        hash=_hash(answer["hash"]),
        sender=checksum_address(answer["from"]),
        target=None if target is None else checksum_address(target),
        data=_bytes(answer["input"]),
        value_wei=_number(answer["value"]),
        gas=_number(answer["gas"]),
    )


def _log(answer: Mapping[str, Any]) -> Log:
    return Log(
        address=checksum_address(answer["address"]),
        topics=tuple(map(_bytes, answer["topics"])),
        data=_bytes(answer["data"]),
        block=_number(answer["blockNumber"]),
        block_hash=_hash(answer["blockHash"]),
        transaction=_hash(answer["transactionHash"]),
    )


def _number(text: str) -> int:
    return int(text, 16)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _hash(text: str) -> str:
    if not isinstance(text, str) or len(text) != _HASH_DIGITS:
        raise ValueError("no hash")
    return text.lower()
