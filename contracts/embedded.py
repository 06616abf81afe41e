"""An Ethereum node inside the process: py-evm behind the JSON-RPC methods that our programs use.

py-evm alone, without eth-tester's layers: those execute a transaction when it is sent, so that its
block's timestamp cannot be chosen any more, and they check no chain id. Here a transaction waits in a pool
as on a real node, is executed once, in the block that takes it, and stays in that block when it reverts.
Everything is in the process's memory.
"""

import heapq
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import rlp  # type: ignore[import-untyped]
from eth.chains.base import MiningChain
from eth.constants import BLANK_ROOT_HASH, CREATE_CONTRACT_ADDRESS, POST_MERGE_MIX_HASH, ZERO_ADDRESS
from eth.db import get_db_backend
from eth.vm.forks.shanghai import ShanghaiVM
from eth.vm.spoof import SpoofTransaction
from eth_abi.abi import decode as abi_decode
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address
from eth_utils.exceptions import ValidationError
from rlp.exceptions import DecodingError, DeserializationError  # type: ignore[import-untyped]
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

GAS_LIMIT: Final = 30_000_000
_REPLACEMENT_PERCENT = 110
_EMPTY_UNCLES = "0x" + keccak(b"\xc0").hex()

Json = Any
"""A JSON value."""


class _Refused(Exception):
    """A JSON-RPC error: code, message and, for reverts, data."""

    def __init__(self, message: str, *, code: int = -32000, data: bytes | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mined:
    """A block with what there is to know about its transactions."""

    block: Any
    transactions: tuple[Json, ...]
    receipts: tuple[Json, ...]

    @property
    def number(self) -> int:
        return int(self.block.header.block_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Executed:
    """What a call returned, and the gas it took before refunds."""

    output: bytes
    gas_spent: int


class EmbeddedNode:
    """A chain in memory that makes a block only when it is told to. Safe to share between threads."""

    def __init__(self, *, chain_id: int, genesis_time_s: int, balances_wei: dict[str, int]) -> None:
        state = {
            bytes.fromhex(address[2:]): {"balance": balance, "nonce": 0, "code": b"", "storage": {}}
            for address, balance in balances_wei.items()
        }
        genesis = {
            "coinbase": ZERO_ADDRESS,
            "difficulty": 0,
            "extra_data": b"",
            "gas_limit": GAS_LIMIT,
            "mix_hash": POST_MERGE_MIX_HASH,
            "nonce": bytes(8),
            "receipt_root": BLANK_ROOT_HASH,
            "timestamp": genesis_time_s,
            "transaction_root": BLANK_ROOT_HASH,
        }
        chain_class = type("Chain", (MiningChain,), {"chain_id": chain_id, "vm_configuration": ((0, ShanghaiVM),)})
        self._chain: Any = cast("Any", chain_class).from_genesis(get_db_backend(), genesis, state)
        self.chain_id = chain_id
        self._lock = threading.RLock()
        block = self._chain.get_canonical_block_by_number(0)
        self._mined = [_Mined(block=block, transactions=(), receipts=())]
        self._pool: dict[tuple[bytes, int], Any] = {}  # by sender and nonce, in order of arrival
        self._located: dict[bytes, tuple[int, int]] = {}

    def request(self, method: str, params: Json) -> Json:
        """Answer one JSON-RPC request, with ``result`` or ``error``."""
        answer = _METHODS.get(method, _missing)
        with self._lock:
            try:
                return {"jsonrpc": "2.0", "id": 1, "result": answer(self, *params)}
            except _Refused as error:
                shown: dict[str, Json] = {"code": error.code, "message": error.message}
                if error.data is not None:
                    shown["data"] = _hex(error.data)
                return {"jsonrpc": "2.0", "id": 1, "error": shown}

    # Making blocks

    def mine(self, options: Json = None) -> str:
        """Make one block of all pending transactions; ``{"timestamp": s}`` or a number sets its time."""
        parent = self._mined[-1].block.header
        asked = options.get("timestamp") if isinstance(options, dict) else options
        timestamp = _int(asked) if asked is not None else parent.timestamp + 1
        if timestamp <= parent.timestamp:
            raise _Refused(f"timestamp {timestamp} is not later than the last block's {parent.timestamp}")
        header = self._chain.create_header_from_parent(parent, gas_limit=GAS_LIMIT, timestamp=timestamp)
        vm = self._chain.get_vm(header)
        taken, receipts = [], []
        for transaction in self._executable(vm.state, header.base_fee_per_gas or 0):
            if header.gas_used + transaction.gas > GAS_LIMIT:
                continue
            try:
                receipt, computation = vm.apply_transaction(header, transaction)
            except ValidationError:  # it was payable when it came, and is not any more
                self._pool.pop((transaction.sender, transaction.nonce))
                continue
            receipts.append((receipt, receipt.gas_used - header.gas_used, computation))
            header = vm.add_receipt_to_header(header, receipt)
            taken.append(transaction)
        filled = vm.set_block_transactions_and_withdrawals(
            vm.get_block(), header, tuple(taken), tuple(receipt for receipt, _, _ in receipts)
        )
        block = vm.finalize_block(filled).block
        self._chain.chaindb.db[block.header.hash] = rlp.encode(block.header)  # for BLOCKHASH
        self._append(block, taken, receipts)
        return "0x0"

    def _executable(self, state: Any, base_fee: int) -> list[Any]:
        """Pending transactions as a node orders them: the best-paying first, of equals the first to come; each
        account's by nonce, and one after a gap in the nonces waits.
        """
        queues: dict[bytes, list[Any]] = {}
        for arrival, ((sender, nonce), transaction) in enumerate(self._pool.items()):
            queues.setdefault(sender, []).append((nonce, arrival, transaction))
        heads: list[tuple[int, int, bytes]] = []
        for sender, queue in queues.items():
            queue.sort(key=lambda one: one[0], reverse=True)
            self._offer(heads, sender, queue, state.get_nonce(sender), base_fee)
        ready: list[Any] = []
        while heads:
            sender = heapq.heappop(heads)[2]
            nonce, _, transaction = queues[sender].pop()
            ready.append(transaction)
            self._offer(heads, sender, queues[sender], nonce + 1, base_fee)
        return ready

    @staticmethod
    def _offer(
        heads: list[tuple[int, int, bytes]], sender: bytes, queue: list[Any], following: int, base_fee: int
    ) -> None:
        if queue and queue[-1][0] == following:
            _, arrival, transaction = queue[-1]
            heapq.heappush(heads, (-_price(transaction, base_fee), arrival, sender))

    def _append(self, block: Any, taken: list[Any], receipts: list[Any]) -> None:
        number, block_hash = block.header.block_number, block.header.hash
        place: dict[str, Json] = {"blockHash": _hex(block_hash), "blockNumber": hex(number)}
        shown, results, log_index = [], [], 0
        for index, (transaction, (receipt, gas_used, computation)) in enumerate(zip(taken, receipts, strict=True)):
            here = place | {"transactionIndex": hex(index)}
            price = _price(transaction, block.header.base_fee_per_gas)
            shown.append(_transaction(transaction) | here | {"gasPrice": hex(price)})
            logs = []
            for log in receipt.logs:
                logs.append(
                    here
                    | {
                        "transactionHash": _hex(transaction.hash),
                        "logIndex": hex(log_index),
                        "address": _address(log.address),
                        "topics": [_hex(topic.to_bytes(32, "big")) for topic in log.topics],
                        "data": _hex(log.data),
                        "removed": False,
                    }
                )
                log_index += 1
            created = transaction.to == CREATE_CONTRACT_ADDRESS
            results.append(
                here
                | {
                    "transactionHash": _hex(transaction.hash),
                    "from": _address(transaction.sender),
                    "to": None if created else _address(transaction.to),
                    "contractAddress": _address(computation.msg.storage_address) if created else None,
                    "status": "0x0" if computation.is_error else "0x1",
                    "gasUsed": hex(gas_used),
                    "cumulativeGasUsed": hex(receipt.gas_used),
                    "effectiveGasPrice": hex(price),
                    "logs": logs,
                    "logsBloom": _hex(int(receipt.bloom).to_bytes(256, "big")),
                    "type": hex(_type_of(transaction)),
                }
            )
            self._pool.pop((transaction.sender, transaction.nonce))
            self._located[transaction.hash] = (number, index)
        self._mined.append(_Mined(block=block, transactions=tuple(shown), receipts=tuple(results)))

    def snapshot(self) -> str:
        """Remember the present block; `revert` goes back to it."""
        return hex(len(self._mined))

    def revert(self, snapshot: str) -> bool:
        """Drop every block and pending transaction since a `snapshot`."""
        kept = _int(snapshot)
        if not 1 <= kept <= len(self._mined):
            return False
        del self._mined[kept:]
        self._pool.clear()
        self._located = {tx: place for tx, place in self._located.items() if place[0] < kept}
        return True

    # Transactions

    def send(self, raw: str) -> str:
        """Put a signed transaction into the pool, or refuse it as Geth does."""
        vm = self._vm()
        try:
            transaction = vm.get_transaction_builder().decode(bytes.fromhex(raw[2:]))
            sender = transaction.sender
        except (DecodingError, DeserializationError, ValidationError, ValueError) as error:
            raise _Refused(f"invalid transaction: {error}") from error
        if transaction.hash in self._located:
            raise _Refused("already known")
        if transaction.chain_id != self.chain_id:
            raise _Refused(f"invalid chain id for signer: have {transaction.chain_id} want {self.chain_id}")
        nonce, balance = vm.state.get_nonce(sender), vm.state.get_balance(sender)
        if transaction.nonce < nonce:
            raise _Refused(f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
        if transaction.gas > GAS_LIMIT:
            raise _Refused("exceeds block gas limit")
        if transaction.gas < transaction.intrinsic_gas:
            raise _Refused(f"intrinsic gas too low: gas {transaction.gas}, minimum needed {transaction.intrinsic_gas}")
        cost = transaction.value + transaction.gas * transaction.max_fee_per_gas
        if balance < cost:
            raise _Refused(f"insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")
        self._check_replacement(transaction)
        self._pool[sender, transaction.nonce] = transaction
        return _hex(transaction.hash)

    def _check_replacement(self, transaction: Any) -> None:
        """A second transaction with a pending one's nonce must pay enough more."""
        other = self._pool.get((transaction.sender, transaction.nonce))
        if other is None:
            return
        if other.hash == transaction.hash:
            raise _Refused("already known")
        for name in ("max_fee_per_gas", "max_priority_fee_per_gas"):
            if getattr(transaction, name) * 100 < getattr(other, name) * _REPLACEMENT_PERCENT:
                raise _Refused("replacement transaction underpriced")

    def transaction(self, tx_hash: str) -> Json:
        """A mined or pending transaction, or None."""
        place = self._located.get(bytes.fromhex(tx_hash[2:]))
        if place:
            return self._mined[place[0]].transactions[place[1]]
        pending = [one for one in self._pool.values() if _hex(one.hash) == tx_hash]
        return _transaction(pending[0]) if pending else None

    def receipt(self, tx_hash: str) -> Json:
        """The receipt of a mined transaction, or None."""
        place = self._located.get(bytes.fromhex(tx_hash[2:]))
        return self._mined[place[0]].receipts[place[1]] if place else None

    def nonce(self, address: str, block: str = "latest") -> str:
        """The next nonce; ``pending`` counts what waits in the pool without a gap."""
        sender = bytes.fromhex(address[2:])
        following = self._vm(block).state.get_nonce(sender)
        if block == "pending":
            while (sender, following) in self._pool:
                following += 1
        return hex(following)

    # Calls

    def call(self, request: Json, block: str = "latest") -> str:
        """Execute without a trace; reverts carry their data."""
        return _hex(self._execute(request, block).output)

    def estimate(self, request: Json, block: str = "latest") -> str:
        """Gas that suffices: what it takes before refunds, with a reserve for nested calls."""
        spent = self._execute(request, block).gas_spent
        return hex(min(GAS_LIMIT, spent + spent // 32 + 2_500))

    def _execute(self, request: Json, block: str) -> _Executed:
        found = self._find(block)
        # Free of charge: no base fee, no price, whatever the request says.
        vm = self._chain.get_vm(found.block.header.copy(base_fee_per_gas=0))
        sender = bytes.fromhex(request.get("from", "0x" + "0" * 40)[2:])
        to = request.get("to")
        unsigned = vm.create_unsigned_transaction(
            nonce=vm.state.get_nonce(sender),
            gas_price=0,
            gas=min(_int(request.get("gas", GAS_LIMIT)), GAS_LIMIT),
            to=bytes.fromhex(to[2:]) if to else CREATE_CONTRACT_ADDRESS,
            value=_int(request.get("value", 0)),
            data=bytes.fromhex((request.get("data") or request.get("input") or "0x")[2:]),
        )
        spoofed = SpoofTransaction(unsigned, from_=sender)
        try:
            computation = vm.state.apply_transaction(spoofed)
        except ValidationError as error:
            raise _Refused(str(error)) from error
        if computation.is_error:
            raise _revert(computation)
        spent = unsigned.gas - computation.get_gas_remaining()
        return _Executed(output=computation.output, gas_spent=spent)

    # Reading

    def block(self, which: str, full: bool = False) -> Json:
        """A block by number or tag, or None."""
        try:
            found = self._find(which)
        except _Refused:
            return None
        header = found.block.header
        return {
            "number": hex(header.block_number),
            "hash": _hex(header.hash),
            "parentHash": _hex(header.parent_hash),
            "nonce": _hex(header.nonce),
            "sha3Uncles": _EMPTY_UNCLES,
            "logsBloom": _hex(int(header.bloom).to_bytes(256, "big")),
            "transactionsRoot": _hex(header.transaction_root),
            "receiptsRoot": _hex(header.receipt_root),
            "stateRoot": _hex(header.state_root),
            "miner": _address(header.coinbase),
            "mixHash": _hex(header.mix_hash),
            "difficulty": "0x0",
            "totalDifficulty": "0x0",
            "extraData": _hex(header.extra_data),
            "size": "0x0",
            "gasLimit": hex(header.gas_limit),
            "gasUsed": hex(header.gas_used),
            "baseFeePerGas": hex(header.base_fee_per_gas),
            "timestamp": hex(header.timestamp),
            "transactions": [one if full else one["hash"] for one in found.transactions],
            "uncles": [],
        }

    def block_by_hash(self, block_hash: str, full: bool = False) -> Json:
        """A block by hash, or None."""
        for one in reversed(self._mined):
            if _hex(one.block.header.hash) == block_hash:
                return self.block(hex(one.number), full)
        return None

    def logs(self, wanted: Json) -> Json:
        """Logs by block range or block hash, addresses and topics."""
        if "blockHash" in wanted:
            blocks = [one for one in self._mined if _hex(one.block.header.hash) == wanted["blockHash"]]
        else:
            first = self._find(wanted.get("fromBlock", "latest"), cut=True).number
            last = self._find(wanted.get("toBlock", "latest"), cut=True).number
            blocks = self._mined[first : last + 1]
        addresses = wanted.get("address")
        if isinstance(addresses, str):
            addresses = [addresses]
        allowed = {one.lower() for one in addresses} if addresses else None
        topics = wanted.get("topics") or []
        return [
            log
            for one in blocks
            for receipt in one.receipts
            for log in receipt["logs"]
            if (allowed is None or log["address"].lower() in allowed) and _topics_match(log["topics"], topics)
        ]

    def fee_history(self, count: Json, newest: str, percentiles: Json = ()) -> Json:
        """Base fees of the newest blocks; every tip was zero."""
        last = self._find(newest).number
        first = max(0, last - _int(count) + 1)
        blocks = self._mined[first : last + 1]
        upcoming = self._chain.create_header_from_parent(blocks[-1].block.header).base_fee_per_gas
        return {
            "oldestBlock": hex(first),
            "baseFeePerGas": [hex(one.block.header.base_fee_per_gas) for one in blocks] + [hex(upcoming)],
            "gasUsedRatio": [one.block.header.gas_used / GAS_LIMIT for one in blocks],
            "reward": [["0x0" for _ in percentiles or ()] for _ in blocks],
        }

    def balance(self, address: str, block: str = "latest") -> str:
        """Wei of an account."""
        return hex(self._vm(block).state.get_balance(bytes.fromhex(address[2:])))

    def code(self, address: str, block: str = "latest") -> str:
        """Code of an account."""
        return _hex(self._vm(block).state.get_code(bytes.fromhex(address[2:])))

    def storage(self, address: str, slot: str, block: str = "latest") -> str:
        """One storage word of an account."""
        value = self._vm(block).state.get_storage(bytes.fromhex(address[2:]), _int(slot))
        return _hex(value.to_bytes(32, "big"))

    def _find(self, which: str, *, cut: bool = False) -> _Mined:
        if which == "earliest":
            return self._mined[0]
        if which in ("latest", "pending", "safe", "finalized"):
            return self._mined[-1]
        number = _int(which)
        if number < len(self._mined):
            return self._mined[number]
        if cut:
            return self._mined[-1]
        raise _Refused(f"block {number} not found")

    def _vm(self, block: str = "latest") -> Any:
        return self._chain.get_vm(self._find(block).block.header)


class EmbeddedProvider(BaseProvider):
    """web3's way to an `EmbeddedNode`."""

    def __init__(self, node: EmbeddedNode) -> None:
        super().__init__()
        self._node = node

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Answer in the process, at once."""
        return cast("RPCResponse", self._node.request(method, _plain(params)))

    def is_connected(self, show_traceback: bool = False) -> bool:
        """Always."""
        return True


def _plain(value: Any) -> Json:
    """Parameters as they would arrive over HTTP: bytes as hex."""
    if isinstance(value, bytes):
        return _hex(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _missing(_: EmbeddedNode, *__: Json) -> Json:
    raise _Refused("the method does not exist", code=-32601)


def _revert(computation: Any) -> _Refused:
    """The error of a reverted call, as Geth words it."""
    data = bytes(computation.output)
    if data[:4] == b"\x08\xc3y\xa0":
        reason = abi_decode(["string"], data[4:])[0]
        return _Refused(f"execution reverted: {reason}", code=3, data=data)
    if type(computation.error).__name__ == "Revert":
        return _Refused("execution reverted", code=3, data=data)
    return _Refused(f"{type(computation.error).__name__}: {computation.error}")


def _transaction(transaction: Any) -> dict[str, Json]:
    """A transaction that is in no block yet."""
    created = transaction.to == CREATE_CONTRACT_ADDRESS
    kind = _type_of(transaction)
    shown: dict[str, Json] = {
        "hash": _hex(transaction.hash),
        "blockHash": None,
        "blockNumber": None,
        "transactionIndex": None,
        "type": hex(kind),
        "chainId": hex(transaction.chain_id),
        "nonce": hex(transaction.nonce),
        "from": _address(transaction.sender),
        "to": None if created else _address(transaction.to),
        "value": hex(transaction.value),
        "gas": hex(transaction.gas),
        "gasPrice": hex(transaction.max_fee_per_gas),
        "input": _hex(transaction.data),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
        "v": hex(transaction.y_parity if kind else transaction.v),
    }
    if kind:
        shown["accessList"] = []
    if kind == _DYNAMIC_FEE:
        shown["maxFeePerGas"] = hex(transaction.max_fee_per_gas)
        shown["maxPriorityFeePerGas"] = hex(transaction.max_priority_fee_per_gas)
    return shown


def _price(transaction: Any, base_fee: int) -> int:
    """Wei per gas that a block's transaction pays."""
    return int(min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas + base_fee))


def _type_of(transaction: Any) -> int:
    return int(getattr(transaction, "type_id", None) or 0)


def _topics_match(topics: list[str], wanted: Json) -> bool:
    if len(wanted) > len(topics):
        return False
    for topic, allowed in zip(topics, wanted, strict=False):
        if allowed is None:
            continue
        if topic not in ([allowed] if isinstance(allowed, str) else allowed):
            return False
    return True


def _int(value: str | int) -> int:
    return int(value, 16) if isinstance(value, str) else value


def _hex(value: bytes) -> str:
    return "0x" + bytes(value).hex()


def _address(value: bytes) -> str:
    return to_checksum_address(value)


_DYNAMIC_FEE = 2

_METHODS: Final[dict[str, Callable[..., Json]]] = {
    "web3_clientVersion": lambda _: "idml-embedded/py-evm",
    "net_version": lambda node: str(node.chain_id),
    "eth_chainId": lambda node: hex(node.chain_id),
    "eth_syncing": lambda _: False,
    "eth_accounts": lambda _: [],
    "eth_gasPrice": lambda node: node.block("latest")["baseFeePerGas"],
    "eth_maxPriorityFeePerGas": lambda _: "0x0",
    "eth_feeHistory": EmbeddedNode.fee_history,
    "eth_blockNumber": lambda node: node.block("latest")["number"],
    "eth_getBlockByNumber": EmbeddedNode.block,
    "eth_getBlockByHash": EmbeddedNode.block_by_hash,
    "eth_getTransactionByHash": EmbeddedNode.transaction,
    "eth_getTransactionReceipt": EmbeddedNode.receipt,
    "eth_getTransactionCount": EmbeddedNode.nonce,
    "eth_getBalance": EmbeddedNode.balance,
    "eth_getCode": EmbeddedNode.code,
    "eth_getStorageAt": EmbeddedNode.storage,
    "eth_getLogs": EmbeddedNode.logs,
    "eth_call": EmbeddedNode.call,
    "eth_estimateGas": EmbeddedNode.estimate,
    "eth_sendRawTransaction": EmbeddedNode.send,
    "evm_mine": EmbeddedNode.mine,
    "evm_snapshot": EmbeddedNode.snapshot,
    "evm_revert": EmbeddedNode.revert,
}
