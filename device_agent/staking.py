"""Getting in: buy tokens, stake them, take a validator seat (iDML step 0).

A device that fines have brought below the least stake can take no role, and has lost its seat for good. When it is
started the next time it gets in once more: a new round, under labels and nonces of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from contracts import calls, signing
from contracts.identity import Identity
from contracts.states import ActionKind
from contracts.terms import Domain
from device_agent.errors import GatewayRefused, GatewayUnreachable
from device_agent.gateway import AccountFacts, ChainFacts, GatewayClient
from device_agent.journal import Journal, NewOperation
from device_agent.observation import Observe
from device_agent.outbox import Outbox
from device_agent.settings import Door, Settings

_ROUNDS = "rounds of joining"
_SIGNED_FOR_S = 30 * 86_400
"""How long a signed step may be sent: longer than any gateway is away for."""


def joined_before(journal: Journal) -> bool:
    """Return whether this device got in at least once, so that it may have encounters under way."""
    return _round(journal) > 0


async def join(
    *,
    identity: Identity,
    gateway: GatewayClient,
    journal: Journal,
    outbox: Outbox,
    settings: Settings,
    observe: Observe,
) -> None:
    """Enter what the settings ask for and the chain does not show, once, and wait until it does."""
    number = _round(journal)
    while True:
        try:
            facts = await gateway.chain()
            account = await gateway.account(identity.address)
            if _lacking(facts, account, settings) == 0 and (account.seat or not settings.validator):
                if number == 0 or _entered(journal, number):
                    journal.set_fact(_ROUNDS, str(number + 1))
                observe("joined", address=identity.address, free=account.free, seat=account.seat)
                return
            steps = [
                one for one in _steps(facts, account, settings, identity, number) if not journal.entered(one.label)
            ]
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


def _steps(
    facts: ChainFacts, account: AccountFacts, settings: Settings, identity: Identity, number: int
) -> list[NewOperation]:
    """Return one round's operations. Its nonces follow from its number: no other round uses them.

    A nonce makes what is executed twice have one effect; it is written down with the operation. Tokens are bought by
    transaction in either door, since the coin comes with it.
    """
    lacking = _lacking(facts, account, settings)
    # What is locked behind encounters takes no seat: then it is waited for.
    seat = settings.validator and not account.seat and account.free + lacking >= facts.min_stake
    steps: list[tuple[str, str, calls.Call, int]] = []
    if lacking:
        price_wei = -(-lacking // facts.tokens_per_wei)
        steps.append(("buy", facts.token, calls.Buy(nonce=number), price_wei))
    batched = settings.door is Door.BATCHED
    if batched:
        taken = _by_signature(facts, account, identity, number, lacking=lacking, seat=seat)
    else:
        taken = _by_transaction(facts, number, lacking=lacking, seat=seat)
    steps += [(name, target, call, 0) for name, target, call in taken]
    return [
        NewOperation(
            target=target,
            data=calls.encode(call),
            label=_label(name, number),
            value_wei=value_wei,
            relayed=batched and name != "buy",
        )
        for name, target, call, value_wei in steps
    ]


def _by_transaction(
    facts: ChainFacts, number: int, *, lacking: int, seat: bool
) -> Iterator[tuple[str, str, calls.Call]]:
    if lacking:
        yield "approve", facts.token, calls.Approve(spender=facts.escrow, amount=lacking)
        yield "stake", facts.escrow, calls.Stake(amount=lacking, nonce=2 * number)
    if seat:
        yield "register", facts.escrow, calls.RegisterValidator()


def _by_signature(
    facts: ChainFacts, account: AccountFacts, identity: Identity, number: int, *, lacking: int, seat: bool
) -> Iterator[tuple[str, str, calls.Call]]:
    deadline = facts.chain_time_s + _SIGNED_FOR_S

    def act(kind: ActionKind, amount: int, nonce: int) -> calls.Act:
        action = calls.Action(account=identity.address, kind=kind, amount=amount, nonce=nonce, deadline=deadline)
        signature = identity.sign_digest(signing.action_digest(action, facts.domain))
        return calls.Act(action=action, r=signature[:32], vs=signature[32:])

    if lacking:
        digest = signing.permit_digest(
            token=Domain(chain_id=facts.chain_id, escrow=facts.token),
            owner=identity.address,
            spender=facts.escrow,
            amount=lacking,
            nonce=account.permit_nonce,
            deadline=deadline,
        )
        v, r, s = signing.expanded(identity.sign_digest(digest))
        permit = calls.Permit(owner=identity.address, amount=lacking, deadline=deadline, v=v, r=r, s=s)
        yield "approve", facts.escrow, permit
        yield "stake", facts.escrow, act(ActionKind.STAKE, lacking, 2 * number)
    if seat:
        yield "register", facts.escrow, act(ActionKind.REGISTER, 0, 2 * number + 1)
