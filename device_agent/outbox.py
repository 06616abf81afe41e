"""Gets the journal's operations to a gateway: signed in order, kept before they leave, sent until taken."""

from __future__ import annotations

from device_agent.errors import GatewayRefused, GatewayUnreachable
from device_agent.gateway import ChainFacts, GatewayClient
from device_agent.identity import Fees, Identity
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
    ) -> None:
        self._extra_tip_wei = extra_tip_wei
        self._observe = observe
        self._journal = journal
        self._gateway = gateway
        self._identity = identity

    async def pump(self) -> int:
        """Hand over what is waiting, in order; return how many the gateway took.

        Stops at the first fault, which is left for the next call. A refusal for good takes the operation out of
        the queue and frees its nonce for the next one.
        """
        taken = 0
        waiting = self._journal.undelivered()
        if not waiting:
            return 0
        try:
            facts = await self._gateway.chain()
            for operation in waiting:
                raw = operation.raw or await self._sign(operation, facts)
                try:
                    await self._gateway.submit(raw)
                except GatewayRefused as refusal:
                    # A nonce that others used is signed anew; anything else will never be taken.
                    again = refusal.code == "nonce_taken"
                    self._journal.refused(operation.id, str(refusal), final=not again and not refusal.retry)
                    self._observe("refused", operation=operation.label, reason=str(refusal))
                    if again or refusal.retry:
                        break
                    continue
                self._journal.delivered(operation.id)
                taken += 1
        except GatewayUnreachable:
            pass
        return taken

    async def _sign(self, operation: Operation, facts: ChainFacts) -> bytes:
        account = await self._gateway.account(self._identity.address)
        nonce = max(account.next_nonce, self._journal.next_nonce() or 0)
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
