"""The chain's node as the gateway sees it: a few questions over JSON-RPC, faults become `NodeUnavailable`.

A node's URL often holds a key. So its own words (a JSON-RPC error) are passed on, the transport's are not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from eth_typing import HexStr
from web3 import HTTPProvider, Web3
from web3.exceptions import BlockNotFound, ContractCustomError, ContractLogicError, TransactionNotFound, Web3Exception
from web3.types import RPCEndpoint, Wei

from contracts.chain import ChainProfile, Finality
from contracts.identity import Fees
from gateway.answers import Outcome, meaning
from gateway.blocks import Log, Receipt, SeenBlock, read_block, read_block_hash, read_logs, read_receipt
from gateway.errors import ChainMismatch, NodeUnavailable
from gateway.fees import FeeRules, market

GWEI: Final = 10**9
_LONGEST_WORDS = 300
_MOST_IN_BATCH: Final = 64
_MOST_BATCH_BYTES: Final = 256 * 1024
_FEW: Final = 4
"""So many receipts are asked for one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The outcome of one send, with the node's own words unless it took the transaction."""

    outcome: Outcome
    words: str = ""


class Node:
    """One node behind a `Web3`, under the rules of a chain profile."""

    def __init__(self, web3: Web3, profile: ChainProfile) -> None:
        """Wrap a connected `Web3` whose sends are not retried silently."""
        self._web3 = web3
        self._tells_receipts = True
        self._takes_batches = isinstance(web3.provider, HTTPProvider)
        self.profile = profile
        self.fee_rules = FeeRules(
            tip_floor_wei=profile.tip_floor_gwei * GWEI,
            usual_tip_wei=profile.usual_tip_gwei * GWEI,
            most_wei=profile.fee_cap_gwei * GWEI,
        )

    def chain_id(self) -> int:
        """Return the id the node reports."""
        with _faults():
            return int(self._web3.eth.chain_id)

    def check_chain(self, chain_id: int, genesis: str) -> None:
        """Make sure that the node serves the chain of this id and genesis hash. Raises `ChainMismatch`."""
        served, begins = self.chain_id(), self.block_hash(0)
        if (served, begins) != (chain_id, genesis):
            raise ChainMismatch(
                f"the node serves chain {served}, which begins with block {begins}; the contracts are on chain "
                f"{chain_id}, which begins with {genesis}: check RPC URL and deployment. If the chain was started "
                "anew, deploy anew and begin with an empty database"
            )

    def height(self) -> int:
        """Return the number of the newest block."""
        with _faults():
            return int(self._web3.eth.block_number)

    def final_height(self, height: int) -> int:
        """Return the number of the newest block that counts as final under the profile, of a chain this high."""
        match self.profile.finality:
            case Finality.INSTANT:
                return height
            case Finality.DEPTH:
                return max(0, height - self.profile.finality_depth_blocks)
            case Finality.FINALIZED_TAG:
                with _faults():
                    return min(height, int(self._web3.eth.get_block("finalized")["number"]))

    def block(self, number: int) -> SeenBlock:
        """Return a block with its transactions in full."""
        with _faults():
            return read_block(self._ask("eth_getBlockByNumber", hex(number), True))

    def block_hash(self, number: int) -> str:
        """Return the hash of the block that has this number now, 0x-prefixed."""
        with _faults():
            return read_block_hash(self._ask("eth_getBlockByNumber", hex(number), False))

    def receipt(self, transaction: str) -> Receipt | None:
        """Return the receipt of a transaction by its 0x-prefixed hash, None if no block of the chain holds it."""
        with _faults():
            found = self._ask("eth_getTransactionReceipt", transaction)
            return None if found is None else read_receipt(found)

    def receipts(self, block: int, transactions: Sequence[str]) -> list[Receipt]:
        """Return the receipts of some of a block's transactions: all with one question, where the node knows that one.

        `eth_getBlockReceipts` is known to Geth 1.13, Bor 1.2 and Anvil, and not to Ganache.
        """
        if len(transactions) < _FEW or not self._tells_receipts:
            return [self._receipt(one) for one in transactions]
        try:
            found = self._ask("eth_getBlockReceipts", hex(block))
            by_hash = {str(one["transactionHash"]).lower(): one for one in found}
            return [read_receipt(by_hash[one]) for one in transactions]
        except (Web3Exception, OSError, ValueError, KeyError, TypeError):
            # It does not know the question, or its answer is of no use: the ordinary way will tell.
            self._tells_receipts = False
            return [self._receipt(one) for one in transactions]

    def _receipt(self, transaction: str) -> Receipt:
        with _faults():
            return read_receipt(self._ask("eth_getTransactionReceipt", transaction))

    def logs(self, first: int, last: int, addresses: Collection[str]) -> Sequence[Log]:
        """Return the logs of some contracts in the blocks that have these numbers now, the last one included."""
        wanted = {"fromBlock": hex(first), "toBlock": hex(last), "address": sorted(addresses)}
        with _faults():
            return read_logs(self._ask("eth_getLogs", wanted))

    def nonce(self, account: str, *, block: int | None = None) -> int:
        """Return an account's next nonce as of a block, None = the newest. The node's pool plays no part."""
        with _faults():
            return int(
                self._web3.eth.get_transaction_count(
                    Web3.to_checksum_address(account), "latest" if block is None else block
                )
            )

    def nonces(self, accounts: Sequence[str]) -> dict[str, int]:
        """Return the next nonce of each of some accounts as of the newest block, asked at once where that is taken."""
        method, newest = RPCEndpoint("eth_getTransactionCount"), "latest"
        with _faults():
            asked = [(method, [Web3.to_checksum_address(one), newest]) for one in accounts]
            answers = self._together(asked) if self._takes_batches and len(accounts) > 1 else None
            if answers is not None:
                return {one: int(told["result"], 16) for one, told in zip(accounts, answers, strict=True)}
        return {one: self.nonce(one) for one in accounts}

    def knows(self, digest: str) -> bool:
        """Return whether the node has a transaction, in its pool or in a canonical block, by its 0x-prefixed hash.

        A node may remember a transaction of a block that it has dropped since (Ganache does).
        """
        with _faults():
            try:
                found = self._web3.eth.get_transaction(HexStr(digest))
                number = found.get("blockNumber")
                return number is None or self._web3.eth.get_block(number)["hash"] == found["blockHash"]
            except (TransactionNotFound, BlockNotFound):
                return False

    def free_stranded(self, account: str) -> bool:
        """Have a local chain drop what its pool holds of an account if it has stranded it; return whether it did.

        Anvil 1.7 strands what comes while the block with the nonce before is made: though it is the account's next, it
        lies in the queue for good, with all that follow, and is "already imported" when handed over again (seen).
        """
        if not self.profile.time_control:
            return False
        with _faults():
            try:
                queued = dict(self._ask("txpool_inspect")["queued"])
            except Web3Exception:  # neither Ganache nor the embedded chain knows the question
                return False
            nonces = next((nonces for who, nonces in queued.items() if who.lower() == account.lower()), ())
            if str(self.nonce(account)) not in nonces:
                return False
            self._ask("anvil_removePoolTransactions", account)
            return True

    def balance_wei(self, account: str) -> int:
        """Return an account's native balance."""
        with _faults():
            return int(self._web3.eth.get_balance(Web3.to_checksum_address(account)))

    def fees(self, *, extra_tip_wei: int = 0) -> Fees:
        """Return what to offer for gas now."""
        with _faults():
            # Local chains are compared with each other, and their suggestions differ.
            suggested_wei = 0 if self.profile.time_control else int(self._web3.eth.max_priority_fee)
        return market(self.base_fee_wei(), suggested_wei, self.fee_rules, extra_tip_wei=extra_tip_wei)

    def block_gas_limit(self) -> int:
        """Return how much gas the newest block could hold."""
        with _faults():
            return int(self._web3.eth.get_block("latest")["gasLimit"])

    def base_fee_wei(self) -> int:
        """Return the newest block's base fee."""
        with _faults():
            block = self._web3.eth.get_block("latest")
            _check(block, "number")  # old chains have no base fee
            return int(block.get("baseFeePerGas", 0))

    def read(self, target: str, data: bytes) -> bytes:
        """Call a view of a contract at the newest block."""
        with _faults():
            return bytes(
                self._web3.eth.call({"to": Web3.to_checksum_address(target), "data": HexStr("0x" + data.hex())})
            )

    def refusal(
        self, target: str, data: bytes, *, sender: str, value_wei: int = 0, block: int | None = None
    ) -> bytes | None:
        """Return with which revert data a call would fail, None if it would succeed; on a block, None = the newest."""
        with _faults():
            try:
                self._web3.eth.call(
                    {
                        "from": Web3.to_checksum_address(sender),
                        "to": Web3.to_checksum_address(target),
                        "data": HexStr("0x" + data.hex()),
                        "value": Wei(value_wei),
                    },
                    "latest" if block is None else block,
                )
            except (ContractCustomError, ContractLogicError) as error:
                return bytes.fromhex(str(error.data or "").removeprefix("0x"))
        return None

    def _ask(self, method: str, *params: object) -> Any:
        """Ask one thing; return the JSON value that is the result."""
        return self._web3.manager.request_blocking(RPCEndpoint(method), list(params))

    def send(self, raws: Sequence[bytes]) -> list[Sent]:
        """Hand over raw transactions once, in order; return what was said to each, less those not handed over.

        Several go in one JSON-RPC batch where the node takes that. Once it has fallen silent nothing more is handed to
        it. Never raises: an exception from a send means no answer.
        """
        told: list[Sent] = []
        for some in _batches(raws):
            if told and told[-1].outcome.silent:
                break
            if self._takes_batches and len(some) > 1:
                told += self._send_batch(some)
            else:
                for raw in some:
                    told.append(self._send(raw))
                    if told[-1].outcome.silent:
                        break
        return told

    def _send(self, raw: bytes) -> Sent:
        try:
            self._web3.eth.send_raw_transaction(raw)
        except Exception as error:  # whatever broke, the node may have taken it
            words = _words(error)
            if isinstance(error, Web3Exception):
                return Sent(outcome=meaning(words), words=words)
            return Sent(outcome=_silence(error), words=words)
        return Sent(outcome=Outcome.TAKEN)

    def _send_batch(self, raws: Sequence[bytes]) -> list[Sent]:
        asked = [(RPCEndpoint("eth_sendRawTransaction"), ["0x" + raw.hex()]) for raw in raws]
        try:
            answers = self._together(asked)
        except Exception as error:  # as above, and for each of them
            return [Sent(outcome=_silence(error), words=_words(error))] * len(raws)
        return [self._send(raw) for raw in raws] if answers is None else [_told(one) for one in answers]

    def _together(self, asked: list[tuple[RPCEndpoint, list[str]]]) -> list[Any] | None:
        """Ask several things with one JSON-RPC batch; return the answers, None of a node that takes no batches.

        Raises ValueError for what is no answer to each, as web3 does for what is no JSON, and OSError.
        """
        provider: Any = self._web3.provider
        answers = provider.batch_request_func(self._web3, self._web3.middleware_onion)(asked)
        refusal = answers.get("error") if isinstance(answers, dict) else None
        if isinstance(refusal, dict) and meaning(str(refusal.get("message"))) is not Outcome.BUSY:
            self._takes_batches = False
            return None
        if not isinstance(answers, list) or len(answers) != len(asked):
            raise ValueError("not one answer to each")
        return answers


def _batches(raws: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut into what fits a request."""
    begin = 0
    while begin < len(raws):
        end, size = begin + 1, len(raws[begin])
        while end < min(len(raws), begin + _MOST_IN_BATCH) and size + len(raws[end]) <= _MOST_BATCH_BYTES:
            size += len(raws[end])
            end += 1
        yield raws[begin:end]
        begin = end


def _told(answer: object) -> Sent:
    """What one answer of a batch says."""
    if not isinstance(answer, dict):
        return Sent(outcome=Outcome.NO_ANSWER, words="an answer that is no object")
    refusal = answer.get("error")
    if refusal is None:
        taken = isinstance(answer.get("result"), str)
        return Sent(outcome=Outcome.TAKEN) if taken else Sent(outcome=Outcome.NO_ANSWER, words="an answer without one")
    words = _shortened(refusal.get("message") if isinstance(refusal, dict) else refusal)
    return Sent(outcome=meaning(words), words=words)


def _silence(error: Exception) -> Outcome:
    busy = getattr(getattr(error, "response", None), "status_code", None) == HTTPStatus.TOO_MANY_REQUESTS
    return Outcome.BUSY if busy else Outcome.NO_ANSWER


def _check(answer: Mapping[str, object], *members: str) -> None:
    """Make sure that an answer has what others read of it. Raises KeyError."""
    for one in members:
        answer[one]


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except (Web3Exception, OSError, ValueError, KeyError, TypeError) as error:
        # The last three: web3 reading an answer of another shape.
        raise NodeUnavailable(f"the chain's node gave no useful answer: {_words(error)}") from error


def _words(error: Exception) -> str:
    """What a node said, or what kind of silence it was: a transport's message holds the URL."""
    if not isinstance(error, Web3Exception):
        return type(error).__name__
    said = getattr(error, "rpc_response", None)
    told = said.get("error") if isinstance(said, dict) else None
    message = told.get("message") if isinstance(told, dict) else None  # Ganache adds its whole stack beside it
    return _shortened(message or error)


def _shortened(said: object) -> str:
    return " ".join(str(said).replace("\0", " ").split())[:_LONGEST_WORDS]
