"""Getting in: buy tokens, stake them, take a validator seat (iDML step 0).

A device that fines have brought below the least stake can take no role, and has lost its seat for good. When it is
started the next time it gets in once more: a new round, under labels and nonces of its own.
"""

from __future__ import annotations

import asyncio

from contracts import calls
from device_agent.errors import GatewayRefused, GatewayUnreachable
from device_agent.gateway import AccountFacts, ChainFacts, GatewayClient
from device_agent.journal import Journal, NewOperation
from device_agent.observation import Observe
from device_agent.outbox import Outbox
from device_agent.settings import Settings

_ROUNDS = "rounds of joining"


def joined_before(journal: Journal) -> bool:
    """Return whether this device got in at least once, so that it may have encounters under way."""
    return _round(journal) > 0


async def join(
    *, address: str, gateway: GatewayClient, journal: Journal, outbox: Outbox, settings: Settings, observe: Observe
) -> None:
    """Enter what the settings ask for and the chain does not show, once, and wait until it does."""
    number = _round(journal)
    while True:
        try:
            facts = await gateway.chain()
            account = await gateway.account(address)
            if _lacking(facts, account, settings) == 0 and (account.seat or not settings.validator):
                if number == 0 or _entered(journal, number):
                    journal.set_fact(_ROUNDS, str(number + 1))
                observe("joined", address=address, free=account.free, seat=account.seat)
                return
            steps = [one for one in _steps(facts, account, settings, number) if not journal.entered(one.label)]
            missing_wei = sum(one.value_wei for one in steps) - account.native_wei
            if missing_wei > 0:
                # A purchase that cannot be paid for would block everything behind it.
                observe("waiting", reason=f"{missing_wei} wei are missing to buy the stake")
            else:
                journal.enter(*steps)
            await outbox.pump()
        except (GatewayUnreachable, GatewayRefused) as fault:
            observe("waiting", reason=str(fault))
        await asyncio.sleep(settings.poll_s)


def _round(journal: Journal) -> int:
    return int(journal.fact(_ROUNDS) or 0)


def _label(name: str, number: int) -> str:
    return f"join:{name}:{number}" if number else f"join:{name}"


def _entered(journal: Journal, number: int) -> bool:
    return any(journal.entered(_label(name, number)) for name in ("stake", "register"))


def _lacking(facts: ChainFacts, account: AccountFacts, settings: Settings) -> int:
    """Return what is to be staked, in token base units: nothing while a role can be taken."""
    held = account.free + account.locked
    return 0 if held >= min(facts.min_stake, settings.stake) else settings.stake - held


def _steps(facts: ChainFacts, account: AccountFacts, settings: Settings, number: int) -> list[NewOperation]:
    """Return one round's operations. Its number is its nonce, at the token and in the escrow: used by no other round.

    A nonce makes a transaction that is executed twice have one effect; it is written down with the operation.
    """
    lacking = _lacking(facts, account, settings)
    steps: list[tuple[str, str, calls.Call, int]] = []
    if lacking:
        price_wei = -(-lacking // facts.tokens_per_wei)
        steps = [
            ("buy", facts.token, calls.Buy(nonce=number), price_wei),
            ("approve", facts.token, calls.Approve(spender=facts.escrow, amount=lacking), 0),
            ("stake", facts.escrow, calls.Stake(amount=lacking, nonce=number), 0),
        ]
    # What is locked behind encounters takes no seat: then it is waited for.
    if settings.validator and not account.seat and account.free + lacking >= facts.min_stake:
        steps.append(("register", facts.escrow, calls.RegisterValidator(), 0))
    return [
        NewOperation(target=target, data=calls.encode(call), label=_label(name, number), value_wei=value_wei)
        for name, target, call, value_wei in steps
    ]
