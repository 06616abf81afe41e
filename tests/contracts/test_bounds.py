"""What calls take in a batch at the most: every kind at its most expensive, on a chain, against the table."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from contract_field import PERSONS, SALTS, STAKE, TOKEN, UPDATED, Field
from eth_account.signers.local import LocalAccount

from contracts import bounds, calls, events, panel, signing
from contracts.localchain import open_chain
from contracts.settlement import DEFAULT_PARAMETERS
from contracts.states import ActionKind
from contracts.terms import Domain, Terms

V = 7
RULES = replace(DEFAULT_PARAMETERS, validators=V, bond_bps=10_000)
UNSEALED, SEALED, OF_THREE = 1, 2, 3
SEATS = 60
MIN_STAKE = 5 * TOKEN
REWARD = 60 * TOKEN
"""A party's fine leaves it too little for its seat, a voter's takes all it has."""
LEARNER, NEIGHBOR = 2, 3
VOTERS = PERSONS[4:14]
"""Few enough that it may take all 64 draws to find seven of their seats; the other seats are empty."""
VOTERS_SEATS = range(3, 13)
NEWCOMER, RELAYER = PERSONS[-2:]


def each(field: Field, people: Sequence[LocalAccount], data: bytes) -> None:
    for one in people:
        field.queue(one, data)
    field.mine()


def wait(field: Field) -> None:
    field.mine(field.now + field.read.unbonding_period_s() + 1)


@pytest.fixture(scope="module")
def built() -> Iterator[Field]:
    with open_chain("embedded") as chain:
        field = Field.build(chain, validators=SEATS)
        chain.fund([RELAYER.address, NEWCOMER.address], 10**20)
        for number, rules in (
            (UNSEALED, RULES),
            (SEALED, replace(RULES, sealed_votes=True)),
            (OF_THREE, replace(RULES, validators=3)),
        ):
            field.send(chain.deployer, calls.encode_add_parameter_set(number, rules))
        gone = PERSONS[14 : 2 + SEATS]
        each(field, gone, calls.encode_leave_validator())
        each(field, VOTERS, calls.encode_unbond(STAKE - MIN_STAKE, 1))
        wait(field)
        for one in gone:
            field.queue(RELAYER, calls.encode(calls.Dismiss(validator=one.address)))
        each(field, VOTERS, calls.encode_withdraw())
        yield field


@pytest.fixture
def field(built: Field) -> Iterator[Field]:
    """Sixty seats, most of them empty; no fine was ever paid."""
    snapshot = built.chain.request("evm_snapshot")
    yield built
    assert built.chain.request("evm_revert", [snapshot])


# The most expensive of each kind


def drawn(field: Field, agreed: Terms, limit: int) -> tuple[int, ...]:
    return panel.draw(
        seed=panel.seed(field.id(agreed), SALTS),
        seat_count=SEATS,
        eligible=VOTERS_SEATS.__contains__,
        excluded=(LEARNER - 1, NEIGHBOR - 1),
        limit=limit,
    )


def terms(field: Field, **changes: object) -> Terms:
    return field.signed_terms(
        **({"learner": LEARNER, "neighbor": NEIGHBOR, "reward": REWARD, "parameter_set": UNSEALED} | changes)
    )


def far_drawn(field: Field, *, voters: int, draws: int = panel.DRAW_LIMIT, **changes: object) -> Terms:
    """Terms whose panel has so many voters only after so many draws."""
    agreed = terms(field, **changes)
    for number in range(100_000):
        found = replace(agreed, previous=hashlib.sha256(b"%d" % number).digest())
        before, after = (len(drawn(field, found, limit)) for limit in (draws - 1, panel.DRAW_LIMIT))
        if before < voters <= after:
            return found
    raise AssertionError("no such terms")


def ruined(field: Field) -> None:
    """Parties with stake in their encounter alone, voters that leave and have as good as nothing."""
    each(field, [PERSONS[LEARNER], PERSONS[NEIGHBOR]], calls.encode_unbond(STAKE - REWARD, 2))
    each(field, VOTERS, calls.encode_leave_validator())
    each(field, VOTERS, calls.encode_unbond(MIN_STAKE - 1, 2))


def opened(field: Field, agreed: Terms) -> Terms:
    field.send(RELAYER, field.open_call(agreed))
    return agreed


def opening(field: Field) -> calls.Call:
    return calls.decode(field.open_call(terms(field)))


def settlement(field: Field) -> calls.Call:
    """The larger part says that the work is invalid: the smaller one, and the Neighbor, lose all they have."""
    agreed = opened(field, far_drawn(field, voters=V))
    ruined(field)
    return calls.decode(field.settle_call(agreed, [True] * 3 + [False] * 4))


def settlement_by_three(field: Field) -> calls.Call:
    agreed = opened(field, far_drawn(field, voters=3, draws=40, parameter_set=OF_THREE))
    ruined(field)
    return calls.decode(field.settle_call(agreed, [True, False, False]))


def reporting(field: Field, **changes: object) -> calls.ReportSigned:
    agreed = opened(field, far_drawn(field, voters=V, **changes))
    learner, neighbor = field.report_signatures(agreed)
    return calls.ReportSigned(
        terms=agreed, updated=UPDATED, learner_salt=SALTS[0], neighbor_salt=SALTS[1], signatures=learner + neighbor
    )


def closing(field: Field) -> calls.Call:
    agreed = opened(field, far_drawn(field, voters=V))
    field.send(PERSONS[NEIGHBOR], calls.encode_report(agreed, UPDATED, *SALTS))
    field.mine(agreed.report_by + 1)
    return calls.CloseReporting(terms=agreed, learner_salt=SALTS[0], neighbor_salt=SALTS[1])


def reported(field: Field, **changes: object) -> Terms:
    """A voting has begun, in which each voter can pay its bond."""
    call = reporting(field, reward=MIN_STAKE, **changes)
    field.send(RELAYER, calls.encode(call))
    return call.terms


def vote(field: Field) -> calls.Call:
    agreed = reported(field)
    return calls.decode(field.vote_call(agreed, len(field.panel(agreed)) - 1, valid=True))


def finalising(field: Field) -> calls.Call:
    """Seven sealed votes that nobody opens: every bond is lost."""
    agreed = reported(field, parameter_set=SEALED)
    for position in range(V):
        sealed = calls.Seal(
            encounter=field.id(agreed),
            updated=UPDATED,
            panel=field.panel(agreed),
            position=position,
            commitment=bytes([7]) * 32,
        )
        field.send(field.voter(agreed, position), calls.encode(sealed))
    field.mine(field.now + 2 * RULES.vote_time_s + 1)
    return calls.decode(field.finalise(agreed))


def expiry(field: Field) -> calls.Call:
    """In the long form, with one report to forget."""
    agreed = opened(field, terms(field))
    field.send(PERSONS[LEARNER], calls.encode_report(agreed, UPDATED, *SALTS))
    field.mine(agreed.report_by + RULES.vote_time_s + 1)
    return calls.Expire(terms=agreed)


def expiry_of_a_lane(field: Field) -> calls.Call:
    agreed = opened(field, terms(field))
    field.mine(agreed.report_by + RULES.vote_time_s + 1)
    return calls.Expire(terms=agreed)


def act(field: Field, who: LocalAccount, kind: ActionKind, amount: int = 0) -> calls.Act:
    action = calls.Action(account=who.address, kind=kind, amount=amount, nonce=300, deadline=field.now + 100)
    signature = signing.sign(who.key, signing.action_digest(action, field.domain))
    return calls.Act(action=action, r=signature[:32], vs=signature[32:])


def newcomer(field: Field, *some: bytes) -> LocalAccount:
    """Somebody with tokens, whom the escrow does not know yet."""
    field.queue(NEWCOMER, calls.encode_buy(), to=field.deployment.token, value_wei=STAKE // 1000)
    field.queue(NEWCOMER, calls.encode_approve(field.deployment.escrow, STAKE), to=field.deployment.token)
    for data in some:
        field.queue(NEWCOMER, data)
    field.mine()
    return NEWCOMER


def staking(field: Field) -> calls.Call:
    return act(field, newcomer(field), ActionKind.STAKE, STAKE)


def registration(field: Field) -> calls.Call:
    return act(field, newcomer(field, calls.encode_stake(STAKE)), ActionKind.REGISTER)


def unbonding(field: Field) -> calls.Call:
    return act(field, PERSONS[0], ActionKind.UNBOND, 1)


def withdrawal(field: Field) -> calls.Call:
    """It takes the seat too."""
    each(field, VOTERS[:1], calls.encode_leave_validator())
    each(field, VOTERS[:1], calls.encode_unbond(MIN_STAKE, 2))
    wait(field)
    return act(field, VOTERS[0], ActionKind.WITHDRAW)


def leaving(field: Field) -> calls.Call:
    return act(field, VOTERS[0], ActionKind.LEAVE)


def permit(field: Field) -> calls.Call:
    digest = signing.permit_digest(
        token=Domain(chain_id=field.chain.chain_id, escrow=field.deployment.token),
        owner=NEWCOMER.address,
        spender=field.deployment.escrow,
        amount=STAKE,
        nonce=0,
        deadline=field.now + 1_000,
    )
    v, r, s = signing.expanded(signing.sign(NEWCOMER.key, digest))
    return calls.Permit(owner=NEWCOMER.address, amount=STAKE, deadline=field.now + 1_000, v=v, r=r, s=s)


# Against the table

ALL: dict[type[calls.Call], tuple[Callable[[Field], calls.Call], ...]] = {
    calls.Open: (opening,),
    calls.Act: (staking, registration, unbonding, withdrawal, leaving),
    calls.Permit: (permit,),
    calls.ReportSigned: (reporting,),
    calls.CloseReporting: (closing,),
    calls.VoteSigned: (vote,),
    calls.Finalise: (finalising,),
    calls.Expire: (expiry, expiry_of_a_lane),
    calls.Settle: (settlement, settlement_by_three),
}


def spent(field: Field, call: calls.Call) -> int:
    """Gas before refunds, without what the transaction itself and its calldata take."""
    data = calls.encode(call)
    found = field.chain.web3.eth.estimate_gas(
        {"from": RELAYER.address, "to": field.deployment.escrow, "data": "0x" + data.hex()}
    )
    beside = 21_000 + 4 * data.count(0) + 16 * (len(data) - data.count(0))
    return (found - 2_500) * 32 // 33 + 1 - beside  # what the embedded chain adds to what is spent


def skipped(field: Field, some: Sequence[calls.Call]) -> list[events.Event]:
    """What a batch skips that has the gas limit of the table."""
    batch = calls.encode(calls.Batch(calls=tuple(map(calls.encode, some))))
    gas = bounds.batch_gas(some)
    tx_hash = field.chain.send(to=field.deployment.escrow, data=batch, sender=RELAYER, gas=gas)
    field.mine()
    receipt = field.chain.web3.eth.get_transaction_receipt(tx_hash)
    assert receipt["status"] == 1
    found = [events.decode([bytes(one) for one in log["topics"]], bytes(log["data"])) for log in receipt["logs"]]
    return [one for one in found if isinstance(one, events.Skipped)]


@pytest.mark.parametrize(
    ("kind", "make"), [pytest.param(kind, one, id=one.__name__) for kind, some in ALL.items() for one in some]
)
def test_a_call_at_its_most_expensive_takes_no_more_than_four_fifths_of_its_bound(
    field: Field, kind: type[calls.Call], make: Callable[[Field], calls.Call]
) -> None:
    call = make(field)
    assert isinstance(call, kind)
    assert spent(field, call) * 5 <= bounds.most_gas(call) * 4
    assert not skipped(field, [call])


def test_every_kind_that_has_a_bound_is_measured() -> None:
    assert set(ALL) == set(bounds.MOST)


def test_a_batch_that_skips_every_call_has_gas_for_telling_so(field: Field) -> None:
    never = [calls.Expire(terms=terms(field, nonce=1 + number)) for number in range(100)]
    assert len(skipped(field, never)) == len(never)


def test_a_draw_among_more_seats_than_a_word_has_bits_for_is_bounded_by_its_draws(field: Field) -> None:
    of = {
        seats: bounds.most_gas(
            calls.CloseReporting(terms=terms(field, seats=seats), learner_salt=SALTS[0], neighbor_salt=SALTS[1])
        )
        for seats in (255, 256, 256 * panel.DRAW_LIMIT, 2**24 - 1)
    }
    assert of[255] == bounds.MOST[calls.CloseReporting] < of[256] < of[256 * panel.DRAW_LIMIT] == of[2**24 - 1]
    opening_of_many = calls.decode(field.open_call(terms(field, seats=256)))
    assert bounds.most_gas(opening_of_many) == bounds.MOST[calls.Open]
