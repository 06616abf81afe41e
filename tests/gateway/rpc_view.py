"""A node's answers as another node would give them: behind, slow to finalise, of a proof-of-authority chain.

Pure but for `ask`, which puts one request to the true node.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import rlp

Answer = dict[str, Any]
"""The members of a JSON-RPC answer but its id: "result" or "error"."""
Ask = Callable[[str, Sequence[Any]], Answer]

POA_EXTRA_DATA: Final = "0x" + "d7" * 32 + "5e" * 65
"""Vanity and seal of a Clique or Bor header: 97 bytes, where a plain header has at most 32."""

_BLOCK_PLACE: Final = {
    "eth_call": 1,
    "eth_estimateGas": 1,
    "eth_feeHistory": 1,
    "eth_getBalance": 1,
    "eth_getBlockByNumber": 0,
    "eth_getCode": 1,
    "eth_getStorageAt": 2,
    "eth_getTransactionCount": 1,
}
"""Which parameter says as of which block."""
_BY_HASH: Final = ("eth_getTransactionByHash", "eth_getTransactionReceipt", "eth_getBlockByHash")
_TIP, _TYPE_2 = 2, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How the node shows its chain; the defaults change nothing.

    Attributes:
        lag_blocks: how many of the newest blocks it has not heard of.
        finalized_at: the highest block it calls finalized, None = as the node says.
        poa: block headers have the extra data of proof of authority.
        tip_floor_wei: it takes no raw transaction with a smaller tip.
        hidden_transactions: 0x-prefixed hashes of what it does not know.
        hidden_receipts: 0x-prefixed hashes of what it has no receipt of.
    """

    lag_blocks: int = 0
    finalized_at: int | None = None
    poa: bool = False
    tip_floor_wei: int = 0
    hidden_transactions: frozenset[str] = frozenset()
    hidden_receipts: frozenset[str] = frozenset()

    def answer(self, method: str, params: Sequence[Any], ask: Ask) -> Answer:
        """Return what this node answers to one request."""
        if self == View():
            return ask(method, params)
        if method == "eth_sendRawTransaction":
            return self._refused(params) or ask(method, params)
        if self._hides(method, params):
            return {"result": None}
        newest = self._newest(ask)
        if method == "eth_blockNumber":
            return {"result": hex(newest)}
        if method == "eth_getLogs":
            first, last = (_end(params[0].get(key, "latest"), newest) for key in ("fromBlock", "toBlock"))
            if first > newest:
                return {"result": []}
            params = [params[0] | {"fromBlock": hex(first), "toBlock": hex(min(last, newest))}]
        place = _BLOCK_PLACE.get(method)
        if place is not None:
            number = self._number(params[place] if len(params) > place else "latest", newest, ask)
            if number > newest:
                return {"result": None} if method == "eth_getBlockByNumber" else _error("header not found")
            params = [*params[:place], hex(number), *params[place + 1 :]]
        return self._shown(method, ask(method, params), newest)

    def _newest(self, ask: Ask) -> int:
        return max(0, _height(ask) - self.lag_blocks)

    def _number(self, block: Any, newest: int, ask: Ask) -> int:
        """The number a block parameter means here."""
        match block:
            case "latest" | "pending" | "safe":
                return newest
            case "earliest":
                return 0
            case "finalized":
                final = int(ask("eth_getBlockByNumber", ["finalized", False])["result"]["number"], 16)
                return min(final, newest, newest if self.finalized_at is None else self.finalized_at)
            case _:
                return int(block, 16)

    def _hides(self, method: str, params: Sequence[Any]) -> bool:
        if method == "eth_getTransactionReceipt":
            return params[0] in self.hidden_transactions | self.hidden_receipts
        return method == "eth_getTransactionByHash" and params[0] in self.hidden_transactions

    def _shown(self, method: str, answer: Answer, newest: int) -> Answer:
        found = answer.get("result")
        if not isinstance(found, dict):
            return answer
        at = found.get("number" if method == "eth_getBlockByHash" else "blockNumber")
        if method in _BY_HASH and at is not None and int(at, 16) > newest:
            return {"result": None}
        if self.poa and method.startswith("eth_getBlockBy"):
            return {"result": found | {"extraData": POA_EXTRA_DATA}}
        return answer

    def _refused(self, params: Sequence[Any]) -> Answer | None:
        raw = bytes.fromhex(params[0].removeprefix("0x"))
        if not self.tip_floor_wei or raw[0] != _TYPE_2:
            return None
        tip_wei = int.from_bytes(rlp.decode(raw[1:])[_TIP])
        if tip_wei >= self.tip_floor_wei:
            return None
        # Bor's own words.
        return _error(f"transaction underpriced: gas tip cap {tip_wei}, minimum needed {self.tip_floor_wei}")


def _height(ask: Ask) -> int:
    return int(ask("eth_blockNumber", [])["result"], 16)


def _end(block: str, newest: int) -> int:
    return newest if block == "latest" else int(block, 16)


def _error(words: str) -> Answer:
    return {"error": {"code": -32000, "message": words}}
