"""Accounts and rules as the chain holds them, read through the contract's views and the stored events."""

from __future__ import annotations

import re

from eth_utils.address import is_checksum_address, to_checksum_address

from contracts.deploy import Deployment
from contracts.reading import ContractReader
from gateway.errors import Code, Refusal
from gateway.node import Node
from gateway.store import Store
from gateway.views import Json

_ADDRESS = re.compile(r"[0-9a-fA-F]{40}")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")


class Accounts:
    """Answers questions about accounts and rules."""

    def __init__(self, *, store: Store, node: Node, deployment: Deployment) -> None:
        self._store = store
        self._node = node
        self._deployment = deployment
        self._reader = ContractReader(call=node.read, token=deployment.token, escrow=deployment.escrow)
        self._fixed: Json | None = None
        self._parameters: dict[int, Json] = {}

    def view(self, address: str) -> Json:
        """Return balances (token base units), seat and next nonce of an account."""
        account = checked_address(address)
        stake = self._reader.account(account)
        return {
            "address": account,
            "next_nonce": self._store.free_nonce(account, at_least=self._node.nonce(account)),
            "native_wei": self._node.balance_wei(account),
            "tokens": self._reader.balance_of(account),
            "permit_nonce": self._reader.permit_nonce(account),
            "free": stake.free,
            "locked": stake.locked,
            "unbonding": stake.unbonding,
            "release_at_s": stake.release_at,
            "seat": stake.seat,
            "active": stake.active,
            "leaving_at_s": stake.leaving_at,
        }

    def parameters(self, number: int) -> Json:
        """Return a parameter set as it was added, as JSON values; only `retired` can change later."""
        if number not in self._parameters:
            for row in self._store.latest("ParameterSetAdded"):
                self._parameters[int(row.args["number"])] = row.args["parameters"]
        if number not in self._parameters:
            words = f"no parameter set {number} is known here; it may be in a block not read yet"
            raise Refusal(404, Code.NOT_FOUND, words, retry=True)
        return self._parameters[number]

    def chain(self) -> Json:
        """Return what a device must know to write terms and sign transactions."""
        if self._fixed is None:
            self._fixed = {"min_stake": self._reader.min_stake(), "tokens_per_wei": self._reader.rate()}
        head = self._store.head()
        fees = self._node.fees()
        retired = {int(row.args["number"]) for row in self._store.latest("ParameterSetRetired")}
        numbers = [int(row.args["number"]) for row in self._store.latest("ParameterSetAdded")]
        return {
            "chain_id": self._deployment.chain_id,
            "escrow": self._deployment.escrow,
            "token": self._deployment.token,
            "head": head.number if head else 0,
            "chain_time_s": head.time_s if head else 0,
            **self._fixed,
            "seat_count": self._reader.seat_count(),
            "tip_wei": fees.tip_wei,
            "max_fee_wei": fees.max_fee_wei,
            "parameter_sets": {
                str(number): {**self.parameters(number), "retired": number in retired} for number in numbers
            },
        }


def is_hash(text: str) -> bool:
    """Return whether a text is a hash: 0x and 64 hex digits."""
    return _HASH.fullmatch(text) is not None


def checked_address(address: str) -> str:
    """Return an address that came from anywhere with its checksum. Raises `Refusal` 400."""
    digits = address.removeprefix("0x")
    if address == digits or not _ADDRESS.fullmatch(digits):
        raise Refusal(400, Code.BAD_REQUEST, f"not an account address: {address[:60]!r}")
    if digits not in (digits.lower(), digits.upper()) and not is_checksum_address(address):
        raise Refusal(400, Code.BAD_REQUEST, f"the checksum of {address} is wrong: is a character mistyped?")
    return to_checksum_address(address)
