"""The attacks A1 to A25 of THREATS.md, each tried for real. Those that need contracts of the attacker's own (A1, A13,
A17, A18, A20) are written in Solidity: contracts/test/Attacks.t.sol."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from contract_field import LEARNER, NEIGHBOR, PERSONS, SALTS, STAKE, TOKEN, UPDATED, Field
from test_signed_door import act, batch, opened, permit, report_signed, reveal, seal, sealed_encounter, why

from contracts import calls, events, panel, reverts, signing, solidity
from contracts.localchain import open_chain
from contracts.settlement import DEFAULT_PARAMETERS, ParameterSet, settle
from contracts.states import ActionKind, EncounterState, VoteReason
from contracts.terms import Domain, Terms, encounter_id

ME, PEER, RELAYER = PERSONS[LEARNER], PERSONS[NEIGHBOR], PERSONS[15]
OTHER = bytes([9]) * 32


@pytest.fixture
def field(field: Field) -> Field:
    field.chain.fund([RELAYER.address], 10**20)
    return field


@pytest.fixture(params=["embedded", *(pytest.param(kind, marks=pytest.mark.chain) for kind in ("ganache", "anvil"))])
def anywhere(request: pytest.FixtureRequest) -> Iterator[Field]:
    with open_chain(request.param) as chain:
        built = Field.build(chain, validators=6)
        chain.fund([RELAYER.address], 10**20)
        yield built


def twisted(signature: bytes) -> bytes:
    """With an s in the upper half, as far as 64 bytes have room for one: half the order up to 2^255 - 1."""
    parity = int.from_bytes(signature[32:], "big") >> 255
    return signature[:32] + ((2**255 - 1) | parity << 255).to_bytes(32, "big")


def refuses(field: Field, call: calls.Call, error: type[reverts.CustomError]) -> None:
    assert isinstance(field.refused(RELAYER, calls.encode(call)), error)


def read(field: Field, data: bytes, kind: type) -> object:
    call = calls.decode(data)
    assert isinstance(call, kind)
    return call


def test_the_list_of_attacks_is_whole_and_every_test_it_names_exists() -> None:
    lines = (solidity.ROOT / "THREATS.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| A")]
    assert [row[0] for row in rows] == [f"A{number}" for number in range(1, 26)]
    here = Path(__file__).read_text()
    in_solidity = (solidity.ROOT / "test/Attacks.t.sol").read_text()
    for number, attack, defence, tests, _ in rows:
        assert attack
        assert defence
        named = tests.split(", ")[0]
        assert named.split()[0] == f"a{int(number[1:]):02}"
        written = rf"function test_{named.split()[0]}_\w+\(" if named.endswith(" (S)") else rf"def test_{named}_\w+\("
        assert re.search(written, in_solidity if named.endswith(" (S)") else here), number
        for one in re.findall(r"test_\w+\.py", tests):
            assert Path(__file__).with_name(one).exists()


def test_a02_signature_replay(field: Field) -> None:
    first, second = opened(field, nonce=8), opened(field, nonce=1)
    elsewhere = Domain(chain_id=field.chain.chain_id + 1, escrow=field.deployment.escrow)
    other_escrow = Domain(chain_id=field.chain.chain_id, escrow=field.deployment.token)
    good = read(field, field.settle_call(first, [True] * 3), calls.Settle)
    # Another encounter: its ballots and its report are about another id.
    refuses(field, replace(good, terms=second), reverts.NotOnPanel)
    # Another chain, another contract, another type: other digests.
    voter = field.voter(first, 0)
    vote = signing.vote_digest(field.id(first), UPDATED, elsewhere, valid=True, reason=VoteReason.ACCURACY)
    for digest in (
        vote,
        signing.vote_digest(field.id(first), UPDATED, other_escrow, valid=True, reason=VoteReason.ACCURACY),
        signing.report_digest(field.id(first), UPDATED, field.domain),
    ):
        forged = good.evidence[:65] + signing.sign(voter.key, digest) + good.evidence[129:]
        refuses(field, replace(good, evidence=forged), reverts.NotOnPanel)
    # Another role: the Neighbor's check-in does not serve as the Learner's.
    third = field.signed_terms(nonce=2)
    opening = read(field, field.open_call(third), calls.Open)
    turned = replace(opening, learner_r=opening.neighbor_r, learner_vs=opening.neighbor_vs)
    refuses(field, turned, reverts.WrongSigner)
    # The verdict is part of what was signed.
    flipped = bytearray(good.evidence)
    flipped[64] = 0
    refuses(field, replace(good, evidence=bytes(flipped)), reverts.NotOnPanel)


@pytest.mark.chain
def test_a02_the_chain_id_that_counts_is_the_chains_own() -> None:
    with open_chain("anvil") as chain:
        field = Field.build(chain, validators=3)
        agreed = field.signed_terms()
        opening = read(field, field.open_call(agreed), calls.Open)
        digest = field.id(agreed)
        assert field.read.encounter_id(agreed) == digest
        foreign = signing.sign(ME.key, calls_digest(agreed, field, chain.chain_id + 1))
        refused = field.refused(ME, calls.encode(replace(opening, learner_r=foreign[:32], learner_vs=foreign[32:])))
        assert isinstance(refused, reverts.WrongSigner)
        field.send(ME, calls.encode(opening))


def calls_digest(agreed: Terms, field: Field, chain_id: int) -> bytes:
    return encounter_id(agreed, Domain(chain_id=chain_id, escrow=field.deployment.escrow))


def test_a03_malleable_zero_and_wrong_length_signatures(field: Field) -> None:
    agreed = opened(field)
    opening = read(field, field.open_call(field.signed_terms(nonce=1)), calls.Open)
    bad = twisted(opening.learner_r + opening.learner_vs)
    refuses(field, replace(opening, learner_r=bad[:32], learner_vs=bad[32:]), reverts.BadSignature)
    refuses(field, replace(opening, neighbor_r=bytes(32), neighbor_vs=bytes(32)), reverts.BadSignature)
    settling = read(field, field.settle_call(agreed, [True] * 3), calls.Settle)
    for start in (0, 65, 130, 195):
        part = settling.evidence[start : start + 64]
        for forged in (twisted(part), bytes(64)):
            evidence = settling.evidence[:start] + forged + settling.evidence[start + 64 :]
            refuses(field, replace(settling, evidence=evidence), reverts.BadSignature)
    for length in (0, 64, len(settling.evidence) - 1):
        refuses(field, replace(settling, evidence=settling.evidence[:length]), reverts.EvidenceLength)
    refuses(field, replace(settling, evidence=settling.evidence + b"\0"), reverts.EvidenceLength)
    reporting = read(field, report_signed(field, agreed), calls.ReportSigned)
    refuses(field, replace(reporting, signatures=reporting.signatures[:127]), reverts.EvidenceLength)
    refuses(field, replace(reporting, signatures=bytes(128)), reverts.TooEarly)
    refuses(field, replace(reporting, signatures=reporting.signatures[:64] + bytes(64)), reverts.BadSignature)
    field.send(RELAYER, calls.encode(reporting))
    voting = read(field, field.vote_call(agreed, 0, valid=True), calls.VoteSigned)
    bad = twisted(voting.r + voting.vs)
    refuses(field, replace(voting, r=bad[:32], vs=bad[32:]), reverts.BadSignature)
    acting = read(field, act(field, LEARNER, ActionKind.UNBOND, amount=1, nonce=9), calls.Act)
    bad = twisted(acting.r + acting.vs)
    refuses(field, replace(acting, r=bad[:32], vs=bad[32:]), reverts.BadSignature)
    assert signing.signer(bytes(32), bad) is None


def test_a04_double_vote_foreign_vote_late_vote_duplicate_seat(field: Field) -> None:
    agreed = field.reported()
    field.vote(agreed, 0, valid=True)
    assert isinstance(field.refused(field.voter(agreed, 0), field.ballot(agreed, 0, valid=True)), reverts.AlreadyVoted)
    assert isinstance(field.refused(field.voter(agreed, 0), field.ballot(agreed, 1, valid=True)), reverts.NotOnPanel)
    assert isinstance(field.refused(ME, field.ballot(agreed, 1, valid=True)), reverts.NotOnPanel)
    assert len(set(field.panel(agreed))) == len(field.panel(agreed))
    late = field.read.encounter(field.id(agreed)).deadline + 1
    refused = field.refused(field.voter(agreed, 1), field.ballot(agreed, 1, valid=True), at=late)
    assert isinstance(refused, reverts.DeadlinePassed)


def test_a05_sybil_validators_need_a_stake_each(field: Field) -> None:
    sybils = PERSONS[20:24]
    field.chain.fund([one.address for one in sybils], 10**18)
    for one in sybils:
        assert isinstance(field.refused(one, calls.encode_register_validator()), reverts.BelowMinStake)
    # One stake cannot wander from seat to seat: it unbonds for a whole period first.
    first = PERSONS[2]
    field.send(first, calls.encode_leave_validator())
    field.send(first, calls.encode_unbond(STAKE, 1))
    assert isinstance(field.refused(first, calls.encode_withdraw()), reverts.StillUnbonding)
    assert isinstance(field.refused(first, calls.encode_register_validator()), reverts.BelowMinStake)


def test_a06_nobody_chooses_the_panel(field: Field) -> None:
    agreed = opened(field)
    before = field.panel(agreed)
    # Who registers after the terms were made is never drawn, and a number is never given out twice.
    newcomer = ME
    field.send(newcomer, calls.encode_register_validator())
    assert field.read.account(newcomer.address).seat == 11
    assert field.panel(agreed) == before
    # Leaving does not take a seat out at once.
    field.send(field.voter(agreed, 0), calls.encode_leave_validator())
    assert field.panel(agreed) == before
    # Both salts are bound before either is known, and each of them moves the draw.
    for changed in ((OTHER, SALTS[1]), (SALTS[0], OTHER)):
        call = read(field, field.settle_call(agreed, [True] * 3), calls.Settle)
        refuses(field, replace(call, learner_salt=changed[0], neighbor_salt=changed[1]), reverts.SaltMismatch)
        assert panel.seed(field.id(agreed), changed) != panel.seed(field.id(agreed), SALTS)
    more = field.signed_terms(nonce=1, seats=12)
    assert isinstance(field.refused(RELAYER, field.open_call(more)), reverts.ParameterOutOfRange)


@pytest.mark.parametrize("yes", range(8))
def test_a07_a_learner_a_neighbor_and_their_validators_gain_nothing_together(yes: int) -> None:
    for no in range(8 - yes):
        for pn, q, bond in ((7_000, 3_000, 3_000), (5_000, 10_000, 7_000), (0, 0, 10_000), (10_000, 10_000, 10_000)):
            rules = ParameterSet(validators=7, pn_bps=pn, q_bps=q, bond_bps=bond, standby_delay_s=0, vote_time_s=1)
            pay = settle(reward=10**18 + 1, yes=yes, no=no, parameters=rules)
            together = pay.learner_refund - 10**18 - 1 + pay.neighbor_delta + yes * pay.each_yes + no * pay.each_no
            assert together == -pay.burned <= 0


def test_a08_a_neighbor_with_one_of_three_validators_loses(field: Field) -> None:
    agreed = field.reported()
    before = field.balances()
    for position, valid in enumerate((True, False, False)):
        field.vote(agreed, position, valid=valid)
    friend = field.voter(agreed, 0).address
    field.send(ME, field.finalise(agreed))
    after = field.balances()
    assert after[PEER.address] + after[friend] < before[PEER.address] + before[friend]


def test_a09_the_all_no_cartel_earns_no_more_than_all_yes() -> None:
    def each(rules: ParameterSet) -> tuple[int, int]:
        yes = settle(reward=TOKEN, yes=3, no=0, parameters=rules).each_yes
        return yes, settle(reward=TOKEN, yes=0, no=3, parameters=rules).each_no

    yes, no = each(DEFAULT_PARAMETERS)
    assert no <= yes
    yes, no = each(replace(DEFAULT_PARAMETERS, q_bps=10_000))
    assert no > yes


def test_a10_a_copied_sealed_vote_cannot_be_opened_by_another(field: Field) -> None:
    agreed = sealed_encounter(field)
    field.send(RELAYER, seal(field, agreed, 0, valid=True, salt=OTHER))
    original = read(field, seal(field, agreed, 0, valid=True, salt=OTHER), calls.SealSigned)
    copier = field.voter(agreed, 1)
    copied = calls.Seal(
        encounter=original.encounter,
        updated=UPDATED,
        panel=original.panel,
        position=1,
        commitment=original.commitment,
    )
    field.send(copier, calls.encode(copied))
    field.send(RELAYER, seal(field, agreed, 2, valid=False, salt=OTHER))
    opening = read(field, reveal(field, agreed, 1, valid=True, salt=OTHER), calls.RevealVote)
    # The copier opens it in its own name, and once the salt is known in the name of who sealed it first.
    refuses(field, opening, reverts.SealMismatch)
    field.send(RELAYER, reveal(field, agreed, 0, valid=True, salt=OTHER))
    refuses(field, replace(opening, voter=field.voter(agreed, 0).address), reverts.SealMismatch)
    refuses(field, opening, reverts.SealMismatch)


@pytest.mark.parametrize("escape", ["leave", "unbond", "report"])
def test_a11_front_running_a_settlement_changes_nothing(field: Field, escape: str) -> None:
    agreed = opened(field)
    settled = field.settle_call(agreed, [True, True, False])
    loser = field.voter(agreed, 2)
    before = field.balances()[loser.address]
    if escape == "leave":
        field.send(loser, calls.encode_leave_validator())
    elif escape == "unbond":
        field.send(loser, calls.encode_leave_validator())
        field.send(loser, calls.encode_unbond(STAKE, 5))
    if escape == "report":
        # The Learner forces the long way: the same votes are taken there, and pay the same.
        field.report(agreed, LEARNER, OTHER)
        assert isinstance(field.refused(RELAYER, settled), reverts.NotOpen)
        votes = [field.vote_call(agreed, place, valid=place < 2) for place in range(3)]
        field.send(RELAYER, report_signed(field, agreed))
        done = batch(field, *votes, field.finalise(agreed))
        assert isinstance(done[-1], events.Settled)
    else:
        field.send(RELAYER, settled)
    assert field.balances()[loser.address] - before == -(7 * TOKEN // 10)


@pytest.mark.parametrize(
    "stop",
    ["check-in", "open", "learner report", "neighbor report", "no votes", "signed open", "signed report", "sealed"],
)
def test_a12_every_state_has_an_exit_that_anyone_takes_and_the_money_comes_home(field: Field, stop: str) -> None:
    before = field.balances()
    end = field.now + 40_000
    if stop == "check-in":
        agreed = field.terms()
        field.check_in(agreed, NEIGHBOR)
    elif stop.startswith("signed") or stop == "sealed":
        agreed = sealed_encounter(field) if stop == "sealed" else opened(field)
        if stop == "signed report":
            field.send(RELAYER, report_signed(field, agreed))
    else:
        agreed = field.opened()
        if stop != "open":
            field.report(agreed, LEARNER if stop == "learner report" else NEIGHBOR)
        if stop == "no votes":
            field.report(agreed, LEARNER)
    if stop == "neighbor report":
        field.send(RELAYER, calls.encode_close_reporting(agreed, *SALTS), at=end)
        end += 40_000
    if field.state(agreed) is EncounterState.REPORTED:
        field.send(RELAYER, field.finalise(agreed), at=end)
    else:
        field.send(RELAYER, calls.encode_expire(agreed), at=end)
    assert field.balances() == before
    assert field.locked() == 0


def test_a14_stake_withdrawn_between_cheat_and_fine(field: Field) -> None:
    # In storage everything that can be fined is locked; by signature the fine follows into what unbonds.
    agreed = opened(field, reward=10 * TOKEN)
    assert isinstance(field.refused(PEER, calls.encode_unbond(STAKE - 9 * TOKEN, 1)), reverts.InsufficientFree)
    cheat = field.voter(agreed, 2)
    field.send(cheat, calls.encode_leave_validator())
    field.send(cheat, calls.encode_unbond(STAKE, 1))
    field.send(RELAYER, field.settle_call(agreed, [True, True, False]))
    account = field.read.account(cheat.address)
    assert (account.free, account.unbonding) == (0, STAKE - 7 * TOKEN)


def test_a15_one_stake_behind_many_encounters(field: Field) -> None:
    for nonce in range(1, 5):
        opened(field, nonce=nonce, reward=20 * TOKEN, learner=2 + nonce)
    fifth = field.signed_terms(nonce=1, reward=20 * TOKEN, learner=8)
    refused = field.refused(RELAYER, field.open_call(fifth))
    assert isinstance(refused, reverts.InsufficientFree)
    assert refused.values == {"free": 20 * TOKEN, "needed": 25 * TOKEN}


@pytest.mark.parametrize("reward", [1, 3, STAKE - 5 * TOKEN])
@pytest.mark.parametrize("cast", [(), (True,), (True, False), (True, False, False)])
def test_a16_rounding_dust_zero_votes_and_extreme_rewards(field: Field, reward: int, cast: tuple[bool, ...]) -> None:
    agreed = field.reported(reward=reward)
    for position, valid in enumerate(cast):
        field.vote(agreed, position, valid=valid)
    over = field.read.encounter(field.id(agreed)).deadline + 1
    field.send(RELAYER, field.finalise(agreed), at=over)
    assert field.locked() == 0
    field.check_conservation()


def test_a19_permit_front_run(anywhere: Field) -> None:
    field = anywhere
    field.send(ME, calls.encode_approve(field.deployment.escrow, 0), to=field.deployment.token)
    field.queue(ME, calls.encode_buy(1), to=field.deployment.token, value_wei=TOKEN // 1000)
    field.mine()
    signed = permit(field, LEARNER, TOKEN)
    field.send(RELAYER, calls.encode(signed))
    stake = calls.StakeWithPermit(amount=TOKEN, nonce=1, deadline=signed.deadline, v=signed.v, r=signed.r, s=signed.s)
    field.send(ME, calls.encode(stake))
    assert field.read.account(ME.address).free == STAKE + TOKEN


def test_a21_parameters_changed_while_an_encounter_is_under_way(field: Field) -> None:
    agreed = field.reported()
    owner = field.chain.deployer
    field.send(owner, calls.encode_add_parameter_set(1, replace(DEFAULT_PARAMETERS, pn_bps=10_000, bond_bps=10_000)))
    field.send(owner, calls.encode_retire_parameter_set(0))
    before = field.balances()
    for position in range(3):
        field.vote(agreed, position, valid=True)
    field.send(ME, field.finalise(agreed))
    pay = settle(reward=TOKEN, yes=3, no=0, parameters=DEFAULT_PARAMETERS)
    assert field.balances()[PEER.address] - before[PEER.address] == pay.neighbor_delta
    assert isinstance(field.refused(ME, calls.encode_check_in(field.terms())), reverts.RetiredParameterSet)


def test_a22_digest_equivocation(field: Field) -> None:
    # Two messages with one MD5 (published in 2004). SHA-256 tells them apart: one cannot pass as the other.
    one = bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a"
        "085125e8f7cdc99fd91dbdf280373c5bd8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
    )
    other = bytearray(one)
    for place in (19, 45, 59, 83, 109, 123):
        other[place] ^= 0x80
    md5 = [hashlib.md5(each, usedforsecurity=False).digest() for each in (one, other)]
    assert md5[0] == md5[1]
    shown, given = (hashlib.sha256(each).digest() for each in (one, other))
    assert shown != given
    agreed = field.opened()
    field.report(agreed, NEIGHBOR, given)
    refused = field.refused(ME, calls.encode_report(agreed, shown, *SALTS))
    assert isinstance(refused, reverts.DigestMismatch)
    field.report(agreed, LEARNER, given)
    ballot = field.ballot(agreed, 0, valid=True, updated=shown)
    assert isinstance(field.refused(field.voter(agreed, 0), ballot), reverts.DigestMismatch)


def test_a23_withheld_models_are_the_fault_of_who_withholds(field: Field) -> None:
    for reason, valid in (
        (VoteReason.PREVIOUS_WITHHELD, True),
        (VoteReason.UPDATED_WITHHELD, False),
        (VoteReason.UPDATED_MALFORMED, False),
    ):
        agreed = field.reported()
        before = field.balances()
        wrong = field.ballot(agreed, 0, valid=not valid, reason=reason)
        assert isinstance(field.refused(field.voter(agreed, 0), wrong), reverts.BadReason)
        for position in range(3):
            field.send(field.voter(agreed, position), field.ballot(agreed, position, valid=valid, reason=reason))
        field.send(ME, field.finalise(agreed))
        assert (field.balances()[PEER.address] > before[PEER.address]) is valid


def test_a24_an_item_cannot_starve_the_others(anywhere: Field) -> None:
    field = anywhere
    # Draws that skip and skip are cut off; nested batches and rubbish are skipped; the last item still goes through.
    narrow = field.signed_terms(nonce=1, seats=1)
    good = field.signed_terms(nonce=2)
    field.send(RELAYER, field.open_call(narrow))
    field.panels[field.id(narrow)] = (1, 1, 1)
    rubbish = field.settle_call(narrow, [True] * 3)
    nested = calls.encode(calls.Batch(calls=(rubbish, rubbish)))
    done = batch(field, rubbish, nested, bytes(400), field.open_call(good))
    assert [type(one) for one in done if not isinstance(one, events.Skipped)] == [events.Opened]
    assert why(done[0]) in (reverts.NotOnPanel, reverts.EvidenceLength)


def test_a25_every_step_executed_twice_has_one_effect(anywhere: Field) -> None:
    field = anywhere
    twice: set[str] = set()

    def send(who: object, data: bytes, *, at: int | None = None, to: str | None = None) -> None:
        """Do it, then again: the second time is refused by name and changes nothing."""
        field.send(who, data, at=at, to=to)
        before = field.accounts(), field.read.total_supply()
        assert not isinstance(field.refused(who, data, to=to), reverts.OutOfGas | reverts.UnknownRevert)
        assert (field.accounts(), field.read.total_supply()) == before
        twice.add(type(calls.decode(data)).__name__)

    token, owner = field.deployment.token, field.chain.deployer
    agreed = field.terms()
    for who in (ME, PEER):
        send(who, calls.encode_check_in(agreed))
    for who in (PEER, ME):
        send(who, calls.encode_report(agreed, UPDATED, *SALTS))
    for position in range(3):
        send(field.voter(agreed, position), field.ballot(agreed, position, valid=position < 2))
    send(ME, field.finalise(agreed))
    send(RELAYER, calls.encode_burn_fines())
    signed = field.signed_terms()
    send(RELAYER, field.open_call(signed))
    send(RELAYER, field.settle_call(signed, [True, False, True]))
    long_way = field.signed_terms()
    send(RELAYER, field.open_call(long_way))
    send(RELAYER, report_signed(field, long_way))
    send(RELAYER, field.vote_call(long_way, 0, valid=True))
    alone = field.opened()
    field.report(alone, NEIGHBOR)
    send(RELAYER, calls.encode_close_reporting(alone, *SALTS), at=alone.report_by + 1)
    never = field.opened()
    send(RELAYER, calls.encode_expire(never), at=never.report_by + 1)
    send(owner, calls.encode_add_parameter_set(1, replace(DEFAULT_PARAMETERS, sealed_votes=True)))
    sealed = field.reported(parameter_set=1)
    for position in range(3):
        send(RELAYER, seal(field, sealed, position, valid=True, salt=OTHER))
    for position in range(3):
        send(RELAYER, reveal(field, sealed, position, valid=True, salt=OTHER))
    send(owner, calls.encode_retire_parameter_set(1))
    field.queue(ME, calls.encode_buy(1), to=token, value_wei=5 * TOKEN // 1000)
    field.mine()
    field.send(ME, calls.encode_approve(field.deployment.escrow, 3 * TOKEN), to=token)
    send(ME, calls.encode_sell(TOKEN, 2), to=token)
    send(ME, calls.encode_stake(TOKEN, 1))
    send(RELAYER, act(field, LEARNER, ActionKind.STAKE, amount=TOKEN, nonce=2))
    signed_permit = permit(field, LEARNER, TOKEN)
    members = {"deadline": signed_permit.deadline, "v": signed_permit.v, "r": signed_permit.r, "s": signed_permit.s}
    send(ME, calls.encode(calls.StakeWithPermit(amount=TOKEN, nonce=3, **members)))
    send(ME, calls.encode_unbond(TOKEN, 4))
    send(ME, calls.encode_withdraw(), at=field.now + field.read.unbonding_period_s())
    send(ME, calls.encode_register_validator())
    send(ME, calls.encode_leave_validator())
    dismissal = calls.encode(calls.Dismiss(validator=ME.address))
    send(RELAYER, dismissal, at=field.now + field.read.unbonding_period_s())
    steps = {kind.__name__ for kind in calls.SELECTORS}
    # Idempotent by nature: Approve, Permit, Batch (its items are steps). Buy: below. Seal: as SealSigned.
    # Not protected, since ERC-20 says what they are: Transfer, Burn.
    assert steps - twice == {"Approve", "Permit", "Batch", "Buy", "Seal", "Transfer", "Burn"}


@pytest.mark.chain
def test_a25_a_first_transaction_that_ganache_executes_again_buys_once() -> None:
    with open_chain("ganache") as chain:
        field = Field.build(chain, validators=2)
        fresh = PERSONS[40]
        chain.fund([fresh.address], 10**18)
        data = calls.encode_buy(0)
        for _ in range(3):
            field.queue(fresh, data, to=field.deployment.token, value_wei=1000)
            field.mine()
        assert field.read.balance_of(fresh.address) == 1000 * field.read.rate()
