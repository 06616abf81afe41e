"""Gets the journal's operations to a gateway: signed in order, kept before they leave, sent until taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from contracts.identity import Fees, Identity
from device_agent.errors import GatewayRefused, GatewayUnreachable
from device_agent.gateway import ChainFacts, GatewayClient
from device_agent.journal import Journal, Operation
from device_agent.observation import Observe

GAS_LIMIT = 500_000
"""Above every step of the contract; unused gas is not paid for."""


class Outbox:
    """The one place where this device's nonces are given out."""

    def __init__(
        self,
        journal: Journal,
        gateway: GatewayClient,
        identity: Identity,
        *,
        extra_tip_wei: int,
        observe: Observe,
        refused: Callable[[str, str], None] = lambda _label, _reason: None,
    ) -> None:
        """Set where operations come from and go to; `refused` is told (label, reason) of each one given up."""
        self._refused = refused
        self._pumping = asyncio.Lock()
        self._handed_over_from: int | None = None
        self._extra_tip_wei = extra_tip_wei
        self._observe = observe
        self._journal = journal
        self._gateway = gateway
        self._identity = identity

    async def pump(self) -> int:
        """Hand over what is waiting, in order; return how many the gateway took.

        Stops at the first fault, which is left for the next call; what is relayed has no nonce, and holds up nothing
        when it is refused for now. A refusal for good takes the operation out of the queue and frees its nonce for the
        next one. One call at a time: two would sign the same operation twice.
        """
        async with self._pumping:
            return await self._pump()

    async def _pump(self) -> int:
        taken = 0
        waiting = self._journal.undelivered()
        if not waiting:
            return 0
        try:
            facts = await self._gateway.chain()
            for operation in waiting:
                raw = operation.data if operation.relayed else operation.raw or await self._sign(operation, facts)
                if raw is None:
                    break
                try:
                    await (self._gateway.relay(raw) if operation.relayed else self._gateway.submit(raw))
                except GatewayRefused as refusal:
                    # A nonce that others used is signed anew; anything else will never be taken.
                    again = refusal.code == "nonce_taken"
                    final = not again and not refusal.retry
                    self._journal.refused(operation.id, str(refusal), final=final)
                    self._observe("refused", operation=operation.label, reason=str(refusal))
                    if final:
                        self._refused(operation.label, str(refusal))
                    elif not operation.relayed:
                        break
                    continue
                self._journal.delivered(operation.id)
                taken += 1
        except GatewayUnreachable:
            pass
        return taken

    async def _sign(self, operation: Operation, facts: ChainFacts) -> bytes | None:
        """Sign with the next nonce, and keep the bytes; None if older ones must be handed over again first."""
        account = await self._gateway.account(self._identity.address)
        nonce = account.next_nonce
        if nonce < (self._journal.next_nonce() or 0) and nonce != self._handed_over_from:
            # This gateway lacks what was given to another, or before it lost its memory. If having it again does not
            # help, the gap is filled with something new: nothing behind a gap is ever mined.
            self._handed_over_from = nonce
            if self._journal.hand_over_again(nonce):
                return None
        raw, _ = self._identity.sign(
            chain_id=facts.chain_id,
            nonce=nonce,
            target=operation.target,
            data=operation.data,
            value_wei=operation.value_wei,
            gas=GAS_LIMIT,
            fees=Fees(
                tip_wei=facts.fees.tip_wei + self._extra_tip_wei,
                max_fee_wei=facts.fees.max_fee_wei + self._extra_tip_wei,
            ),
        )
        self._journal.signed(operation.id, nonce=nonce, raw=raw)
        return raw
