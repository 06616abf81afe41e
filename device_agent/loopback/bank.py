"""Everybody's money in a simulation: what it starts with, and whether all of it is still there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.reading import ContractReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """One account's tokens, in base units."""

    wallet: int
    free: int
    locked: int
    unbonding: int

    @property
    def stake(self) -> int:
        """What it holds in the escrow."""
        return self.free + self.locked + self.unbonding


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All tokens at one time, in base units.

    Attributes:
        bought: ever made by buying.
        supply: in existence.
        held: in wallets and in the escrow, fines not yet destroyed included.
        burned: fines collected, destroyed or waiting for it.
        conserved: whether supply, holdings, the escrow's own account and the escrow's debts agree to the last unit.
    """

    bought: int
    supply: int
    held: int
    burned: int
    conserved: bool


class Bank:
    """Reads balances from the chain."""

    def __init__(self, reader: ContractReader, accounts: Sequence[str]) -> None:
        self._reader = reader
        self._accounts = accounts

    def balances(self) -> dict[str, Balance]:
        """Return everybody's balance."""
        found: dict[str, Balance] = {}
        for account in self._accounts:
            stake = self._reader.account(account)
            found[account] = Balance(
                wallet=self._reader.balance_of(account),
                free=stake.free,
                locked=stake.locked,
                unbonding=stake.unbonding,
            )
        return found

    def books(self, *, bought: int, fined: int) -> Books:
        """Balance the books.

        Args:
            bought: sum of all `Bought` events.
            fined: sum of `burned` over all `Settled` events.
        """
        balances = self.balances().values()
        supply = self._reader.total_supply()
        pending = self._reader.pending_fines()
        in_escrow = self._reader.balance_of(self._reader.escrow)
        wallets = sum(one.wallet for one in balances)
        owed = sum(one.stake for one in balances)
        destroyed = bought - supply
        conserved = in_escrow == owed + pending and wallets + in_escrow == supply and destroyed + pending == fined
        return Books(bought=bought, supply=supply, held=wallets + in_escrow, burned=fined, conserved=conserved)
