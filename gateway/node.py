"""The chain's node as the gateway sees it: a few questions over JSON-RPC, faults turned into `NodeUnavailable`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from contracts.chain import ChainProfile, Finality
from web3 import Web3
from web3.exceptions import Web3Exception, Web3RPCError
from web3.types import BlockData, TxData, TxReceipt

from gateway.errors import NodeUnavailable


class SendOutcome(Enum):
    """What a node's answer to a raw transaction says about it."""

    TAKEN = "taken"
    KNOWN = "already known"
    NONCE_USED = "nonce too low"
    UNKNOWN = "unknown"
    """No answer, or one that does not tell: it may or may not have been taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The outcome of one send, with the node's own words."""

    outcome: SendOutcome
    words: str | None = None


_SAYS = (
    ("already known", SendOutcome.KNOWN),
    ("already imported", SendOutcome.KNOWN),
    ("nonce too low", SendOutcome.NONCE_USED),
    ("nonce is too low", SendOutcome.NONCE_USED),
    ("correct nonce", SendOutcome.NONCE_USED),
)


class Node:
    """One node behind a `Web3`, under the rules of a chain profile."""

    def __init__(self, web3: Web3, profile: ChainProfile) -> None:
        """Wrap a connected `Web3` whose sends are not retried silently."""
        self._web3 = web3
        self.profile = profile

    def chain_id(self) -> int:
        """Return the id the node reports."""
        with _faults():
            return self._web3.eth.chain_id

    def height(self) -> int:
        """Return the number of the newest block."""
        with _faults():
            return self._web3.eth.block_number

    def final_height(self) -> int:
        """Return the number of the newest block that counts as final under the profile."""
        with _faults():
            match self.profile.finality:
                case Finality.INSTANT:
                    return self._web3.eth.block_number
                case Finality.FINALIZED_TAG:
                    return int(self._web3.eth.get_block("finalized")["number"])
                case Finality.DEPTH:
                    return max(0, self._web3.eth.block_number - self.profile.finality_depth_blocks)

    def block(self, number: int) -> BlockData:
        """Return a block with its transactions in full."""
        with _faults():
            return self._web3.eth.get_block(number, full_transactions=True)

    def receipt(self, transaction: TxData) -> TxReceipt:
        """Return the receipt of a transaction taken from a block."""
        with _faults():
            return self._web3.eth.get_transaction_receipt(transaction["hash"])

    def nonce(self, account: str) -> int:
        """Return an account's next nonce as of the newest block."""
        with _faults():
            return self._web3.eth.get_transaction_count(Web3.to_checksum_address(account))

    def balance_wei(self, account: str) -> int:
        """Return an account's native balance."""
        with _faults():
            return self._web3.eth.get_balance(Web3.to_checksum_address(account))

    def tip_wei(self) -> int:
        """Return the priority fee to use now: at least the profile's floor."""
        return max(self.profile.tip_floor_gwei * 10**9, 10**9)

    def base_fee_wei(self) -> int:
        """Return the newest block's base fee."""
        with _faults():
            return int(self._web3.eth.get_block("latest").get("baseFeePerGas", 0))

    def read(self, target: str, data: bytes) -> bytes:
        """Call a view of a contract at the newest block."""
        with _faults():
            return bytes(self._web3.eth.call({"to": Web3.to_checksum_address(target), "data": data}))

    def send(self, raw: bytes) -> Sent:
        """Hand over a raw transaction once. Never raises: an exception from a send means unknown."""
        try:
            self._web3.eth.send_raw_transaction(raw)
        except Exception as error:  # whatever broke, the node may have taken it
            words = str(error)
            for phrase, outcome in _SAYS:
                if phrase in words.lower():
                    return Sent(outcome=outcome, words=words)
            return Sent(outcome=SendOutcome.UNKNOWN, words=words)
        return Sent(outcome=SendOutcome.TAKEN)


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except (Web3Exception, Web3RPCError, OSError, ValueError) as error:
        raise NodeUnavailable(f"the chain's node did not answer usefully: {error}") from error
