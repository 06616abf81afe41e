"""What the contract costs: pinned to the unit of gas for every function and for whole encounters.

A change of the contract changes these figures: `python tests/contracts/test_gas.py` writes them anew, and the diff of
gas.json shows what it did.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from contract_field import PERSONS, SALTS, TOKEN, UPDATED, Field

from contracts import calls, signing
from contracts.abi import artifact
from contracts.gas import PAPER, Cost, measure
from contracts.localchain import open_chain
from contracts.settlement import DEFAULT_PARAMETERS
from contracts.states import ActionKind, VoteReason
from contracts.terms import Terms

PINNED = Path(__file__).with_name("gas.json")
CHAINS = ["embedded", *(pytest.param(kind, marks=pytest.mark.chain) for kind in ("anvil", "ganache"))]
LIMITS = {"gas_direct": 420_000, "gas_batched_1": 135_000, "gas_batched_50": 70_000}
VIEWS = ("view", "pure")
LEFT_TO_OPENZEPPELIN = {"transferFrom", "transferOwnership", "renounceOwnership"}


def every_function(field: Field) -> dict[str, list[int]]:
    """Gas of every function that changes something, in one fixed life of the contracts."""
    field.gas.clear()
    token = field.deployment.token
    me, peer, relayer, validator = PERSONS[0], PERSONS[1], PERSONS[2], PERSONS[3]
    owner = field.chain.deployer

    direct = field.reported()
    for position in range(3):
        field.vote(direct, position, valid=position < 2)
    field.send(me, field.finalise(direct))
    field.send(me, calls.encode_burn_fines())

    signed = field.signed_terms()
    field.send(relayer, field.open_call(signed))
    field.send(relayer, field.settle_call(signed, [True, False, True]))

    silent = field.signed_terms()
    field.send(relayer, field.open_call(silent))
    of_learner, of_neighbor = field.report_signatures(silent)
    field.send(
        relayer,
        calls.encode(
            calls.ReportSigned(
                terms=silent,
                updated=UPDATED,
                learner_salt=SALTS[0],
                neighbor_salt=SALTS[1],
                signatures=of_learner + of_neighbor,
            )
        ),
    )
    vote = field.signed_vote(silent, field.voter(silent, 0), valid=True)
    signed_vote = calls.VoteSigned(
        encounter=field.id(silent),
        updated=UPDATED,
        panel=field.panel(silent),
        position=0,
        valid=True,
        reason=VoteReason.ACCURACY,
        r=vote[:32],
        vs=vote[32:],
    )
    field.send(relayer, calls.encode(signed_vote))

    alone = field.opened()
    field.send(peer, calls.encode_report(alone, UPDATED, *SALTS))
    field.send(relayer, calls.encode_close_reporting(alone, *SALTS), at=alone.report_by + 1)
    never = field.opened()
    field.send(relayer, calls.encode_expire(never), at=never.report_by + 1)

    field.send(owner, calls.encode_add_parameter_set(1, replace(DEFAULT_PARAMETERS, sealed_votes=True)))
    sealed = field.reported(parameter_set=1)
    for position in range(3):
        _seal(field, sealed, position, signed=position > 0)
    for position in range(3):
        field.send(relayer, calls.encode(_opening(field, sealed, position)))
    field.send(owner, calls.encode_retire_parameter_set(1))

    _account_steps(field, token)
    field.send(validator, calls.encode_leave_validator())
    dismissal = calls.encode(calls.Dismiss(validator=validator.address))
    field.send(relayer, dismissal, at=field.now + field.read.unbonding_period_s())
    field.send(validator, calls.encode_register_validator())
    items = (calls.encode_expire(never), field.open_call(field.signed_terms()))
    field.send(relayer, calls.encode(calls.Batch(calls=items)))
    return dict(sorted(field.gas.items()))


def _seal(field: Field, agreed: Terms, position: int, *, signed: bool) -> None:
    voter = field.voter(agreed, position)
    commitment = signing.seal_commitment(
        field.id(agreed), voter.address, valid=True, reason=VoteReason.ACCURACY, salt=SALTS[0]
    )
    plain = calls.Seal(
        encounter=field.id(agreed),
        updated=UPDATED,
        panel=field.panel(agreed),
        position=position,
        commitment=commitment,
    )
    if not signed:
        field.send(voter, calls.encode(plain))
        return
    signature = signing.sign(voter.key, signing.seal_digest(field.id(agreed), UPDATED, commitment, field.domain))
    by_signature = calls.SealSigned(
        encounter=plain.encounter,
        updated=plain.updated,
        panel=plain.panel,
        position=position,
        commitment=commitment,
        r=signature[:32],
        vs=signature[32:],
    )
    field.send(PERSONS[2], calls.encode(by_signature))


def _opening(field: Field, agreed: Terms, position: int) -> calls.RevealVote:
    return calls.RevealVote(
        encounter=field.id(agreed),
        position=position,
        voter=field.voter(agreed, position).address,
        valid=True,
        reason=VoteReason.ACCURACY,
        salt=SALTS[0],
    )


def _account_steps(field: Field, token: str) -> None:
    me = PERSONS[0]
    field.queue(me, calls.encode_buy(1), to=token, value_wei=10 * TOKEN // 1000)
    field.mine()
    field.gas["buy"] = [field.chain.transact(to=token, data=calls.encode_buy(1), value_wei=TOKEN)["gasUsed"]]
    field.send(me, calls.encode_sell(TOKEN, 2), to=token)
    field.send(me, calls.encode_transfer(PERSONS[1].address, 1), to=token)
    field.send(me, calls.encode_burn(1), to=token)
    for number, call in enumerate((_permit(field, TOKEN, 0), _permit(field, TOKEN, 1))):
        if number == 0:
            field.send(me, calls.encode(call))
            field.send(me, calls.encode_stake(TOKEN, 1))
        else:
            staking = calls.StakeWithPermit(amount=TOKEN, nonce=2, deadline=call.deadline, v=call.v, r=call.r, s=call.s)
            field.send(me, calls.encode(staking))
    field.send(me, calls.encode_approve(field.deployment.escrow, TOKEN), to=token)
    action = calls.Action(account=me.address, kind=ActionKind.STAKE, amount=TOKEN, nonce=3, deadline=field.now + 100)
    signature = signing.sign(me.key, signing.action_digest(action, field.domain))
    field.send(PERSONS[2], calls.encode(calls.Act(action=action, r=signature[:32], vs=signature[32:])))
    field.send(me, calls.encode_unbond(TOKEN, 4))
    field.send(me, calls.encode_withdraw(), at=field.now + field.read.unbonding_period_s())


def _permit(field: Field, amount: int, nonce: int) -> calls.Permit:
    deadline = field.now + 1_000
    digest = signing.permit_digest(
        token=replace(field.domain, escrow=field.deployment.token),
        owner=PERSONS[0].address,
        spender=field.deployment.escrow,
        amount=amount,
        nonce=nonce,
        deadline=deadline,
    )
    signed = PERSONS[0].unsafe_sign_hash(digest)
    r, s = signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")
    return calls.Permit(owner=PERSONS[0].address, amount=amount, deadline=deadline, v=signed.v, r=r, s=s)


def figures(kind: str) -> dict[str, object]:
    """Everything that is pinned, as one chain measures it."""
    with open_chain(kind) as chain:
        functions = every_function(Field.build(chain))
    with open_chain(kind) as chain:
        encounters = {cost.name: dict(cost.steps) | {"all": cost.total} for cost in measure(chain)}
    return {"encounters": encounters, "functions": functions}


@pytest.mark.parametrize("kind", CHAINS)
def test_every_function_and_every_encounter_costs_what_is_pinned(kind: str) -> None:
    assert figures(kind) == json.loads(PINNED.read_text())


def test_every_function_is_pinned() -> None:
    pinned = json.loads(PINNED.read_text())["functions"]
    changing = {
        entry["name"]
        for one in ("IdmlEscrow", "IdmlToken")
        for entry in artifact(one).abi
        if entry["type"] == "function" and entry["stateMutability"] not in VIEWS
    }
    assert changing - LEFT_TO_OPENZEPPELIN == set(pinned)


def test_no_encounter_costs_more_than_it_may() -> None:
    pinned = json.loads(PINNED.read_text())["encounters"]
    assert pinned.keys() == LIMITS.keys()
    for name, limit in LIMITS.items():
        assert pinned[name]["all"] <= limit < PAPER


def test_a_cost_has_a_price() -> None:
    cost = Cost(name="x", steps=(("one", 600_000), ("two", 400_000)))
    assert cost.total == 10**6
    assert cost.price(gas_price_gwei=30, usd_per_coin=0.5) == pytest.approx((0.03, 0.015))


if __name__ == "__main__":
    PINNED.write_text(json.dumps(figures("embedded"), indent=1) + "\n")
    sys.exit(0)
