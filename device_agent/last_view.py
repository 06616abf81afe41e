"""What this device last knew of the chain: what it goes by while no gateway is in reach.

A device in the field is away from its gateway for hours. Addresses and rules do not change meanwhile; the chain's time
goes on with the device's own clock; stakes are as they were, and the older that is, the less it is worth.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from contracts.identity import Fees
from contracts.settlement import ParameterSet
from device_agent.clock import Clock
from device_agent.errors import GatewayUnreachable
from device_agent.gateway import ChainFacts, GatewayClient
from device_agent.journal import Journal

_FACT = "last view of the chain"
_WRITTEN_EVERY_S = 60.0
"""Spares the card: a view that old is nearly as good as the newest."""
_FRESH_S = 600.0
_MOST_WANTED = 32
"""Accounts of strangers that are asked for when the gateway is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """Facts, and when they were heard: in monotonic s of this start, and in Unix s."""

    facts: ChainFacts
    at_s: float | None
    wall_s: float


class LastView:
    """The chain as one device last saw it, kept in its journal."""

    def __init__(self, gateway: GatewayClient, journal: Journal, clock: Clock) -> None:
        self._gateway = gateway
        self._journal = journal
        self._clock = clock
        self._heard = _remembered(journal)
        self._written_s: float | None = None
        self._wanted: dict[str, None] = {}

    @property
    def away(self) -> bool:
        """Whether the gateway did not answer when it was asked last."""
        return self._gateway.away

    @property
    def age_s(self) -> float | None:
        """How old the last view is; None if there is none."""
        return None if self._heard is None else self._passed_s(self._heard)

    @property
    def last(self) -> ChainFacts | None:
        """The last facts, the chain's time moved on by what has passed; None if there are none."""
        if self._heard is None:
            return None
        facts = self._heard.facts
        return replace(facts, chain_time_s=facts.chain_time_s + int(self._passed_s(self._heard)))

    async def ask(self) -> ChainFacts:
        """Ask for the facts, and remember them. Raises what the gateway raises."""
        facts = await self._gateway.chain()
        now_s, wall_s = self._clock.monotonic_s(), self._clock.wall_s()
        self._heard = _Heard(facts=facts, at_s=now_s, wall_s=wall_s)
        if self._written_s is None or now_s - self._written_s >= _WRITTEN_EVERY_S:
            self._written_s = now_s
            self._journal.set_fact(_FACT, json.dumps({"facts": asdict(facts), "wall_s": wall_s}))
        return facts

    async def refresh(self, own: str, near: Iterable[str]) -> None:
        """While the gateway is away, see whether it is back; else, once in a while, see what may be needed without it.

        That is the facts, the account `own`, and those that were asked for in vain. Of who is `near` and was never
        heard of, the stake is asked for at once: the gateway may be gone when it is needed. Raises what the gateway
        raises.
        """
        for address in near:
            if self._journal.free_stake(address) is None:
                self._want(address)
        age_s = self.age_s
        if self.away or age_s is None or age_s >= _FRESH_S:
            await self.ask()
            await self.free(own)
        for address in list(self._wanted):
            await self.free(address)

    async def now(self) -> ChainFacts | None:
        """Return the facts as they are now; None while no gateway answers. Raises `GatewayRefused`."""
        if self.away:
            return None
        try:
            return await self.ask()
        except GatewayUnreachable:
            return None

    async def known(self) -> ChainFacts:
        """Return the last facts, asking only if there are none: for what never changes, as addresses."""
        return self.last or await self.ask()

    async def free(self, address: str) -> int | None:
        """Return an account's free stake in token base units, as far as it is known: as it is now, or was last.

        Raises `GatewayRefused`.
        """
        if not self.away:
            try:
                free = (await self._gateway.account(address)).free
            except GatewayUnreachable:
                pass
            else:
                self._journal.set_free_stake(address, free, at_s=self._clock.wall_s())
                self._wanted.pop(address, None)
                return free
        found = self._journal.free_stake(address)
        if found is None:
            self._want(address)
        return found

    def _want(self, address: str) -> None:
        if len(self._wanted) < _MOST_WANTED:
            self._wanted[address] = None

    def _passed_s(self, heard: _Heard) -> float:
        """Seconds since; after a restart by the wall clock, which may be wrong, but never backwards."""
        if heard.at_s is not None:
            return self._clock.monotonic_s() - heard.at_s
        return max(0.0, self._clock.wall_s() - heard.wall_s)


def _remembered(journal: Journal) -> _Heard | None:
    fact = journal.fact(_FACT)
    if fact is None:
        return None
    value: dict[str, Any] = json.loads(fact)
    facts = value["facts"]
    rules = {int(number): ParameterSet(**one) for number, one in facts["parameter_sets"].items()}
    heard = ChainFacts(**facts | {"fees": Fees(**facts["fees"]), "parameter_sets": rules})
    return _Heard(facts=heard, at_s=None, wall_s=value["wall_s"])
