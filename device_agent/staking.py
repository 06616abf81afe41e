"""Getting in: buy tokens, stake them, take a validator seat (iDML step 0)."""

from __future__ import annotations

import asyncio

from contracts import calls
from device_agent.errors import GatewayRefused, GatewayUnreachable
from device_agent.gateway import ChainFacts, GatewayClient
from device_agent.journal import Journal, NewOperation
from device_agent.observation import Observe
from device_agent.outbox import Outbox
from device_agent.settings import Settings


async def join(
    *, address: str, gateway: GatewayClient, journal: Journal, outbox: Outbox, settings: Settings, observe: Observe
) -> None:
    """Enter what the settings ask for, once, and wait until the chain shows it."""
    while True:
        try:
            facts = await gateway.chain()
            account = await gateway.account(address)
            if account.free + account.locked > 0 and (account.seat or not settings.validator):
                observe("joined", address=address, free=account.free, seat=account.seat)
                return
            journal.enter(*_steps(facts, settings))
            await outbox.pump()
        except (GatewayUnreachable, GatewayRefused) as fault:
            observe("waiting", reason=str(fault))
        await asyncio.sleep(settings.poll_s)


def _steps(facts: ChainFacts, settings: Settings) -> list[NewOperation]:
    stake = settings.stake
    price_wei = -(-stake // facts.tokens_per_wei)
    steps: list[tuple[str, str, calls.Call, int]] = [
        ("buy", facts.token, calls.Buy(), price_wei),
        ("approve", facts.token, calls.Approve(spender=facts.escrow, amount=stake), 0),
        ("stake", facts.escrow, calls.Stake(amount=stake), 0),
    ]
    if settings.validator:
        steps.append(("register", facts.escrow, calls.RegisterValidator(), 0))
    return [
        NewOperation(target=target, data=calls.encode(call), label=f"join:{name}", value_wei=value_wei)
        for name, target, call, value_wei in steps
    ]
