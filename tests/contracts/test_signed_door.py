"""The signed door: check-in, report, votes and payment by EIP-712 signatures that anyone sends."""

from dataclasses import replace

import pytest
from contract_field import LEARNER, NEIGHBOR, PERSONS, SALTS, STAKE, TOKEN, UPDATED, Field
from eth_hash.auto import keccak

from contracts import calls, events, panel, reverts, signing
from contracts.errors import decode_revert
from contracts.settlement import DEFAULT_PARAMETERS, settle
from contracts.states import ActionKind, EncounterState, VoteReason
from contracts.terms import TERMS_TYPE_STRING, TERMS_TYPES, Terms, typed_hash

RELAYER = PERSONS[15]
ME, PEER = PERSONS[LEARNER], PERSONS[NEIGHBOR]
OTHER = bytes([9]) * 32
BITS = {"address": 160} | {f"uint{bits}": bits for bits in (16, 24, 32, 40, 96)}


@pytest.fixture
def field(field: Field) -> Field:
    field.chain.fund([RELAYER.address], 10**20)
    return field


def opened(field: Field, **changes: object) -> Terms:
    agreed = field.signed_terms(**changes)
    field.send(RELAYER, field.open_call(agreed))
    return agreed


def report_signed(field: Field, agreed: Terms, *, learner: bool = True, updated: bytes = UPDATED) -> bytes:
    of_learner, of_neighbor = field.report_signatures(agreed, updated)
    return calls.encode(
        calls.ReportSigned(
            terms=agreed,
            updated=updated,
            learner_salt=SALTS[0],
            neighbor_salt=SALTS[1],
            signatures=(of_learner if learner else signing.MISSING) + of_neighbor,
        )
    )


def batch(field: Field, *some: bytes) -> list[events.Event]:
    return field.send(RELAYER, calls.encode(calls.Batch(calls=some)))


def why(skipped: object) -> object:
    assert isinstance(skipped, events.Skipped)
    return type(decode_revert(skipped.reason))


# Opening


def test_both_sides_are_locked_at_once_and_the_devices_pay_no_gas(field: Field) -> None:
    agreed = field.signed_terms()
    coins = [field.chain.web3.eth.get_balance(one.address) for one in (ME, PEER)]
    assert field.send(RELAYER, field.open_call(agreed)) == [events.Opened(encounter=field.id(agreed))]
    assert [field.read.account(one.address).locked for one in (ME, PEER)] == [TOKEN, TOKEN]
    assert field.read.lane(ME.address, agreed.nonce).holds(field.id(agreed))
    assert [field.chain.web3.eth.get_balance(one.address) for one in (ME, PEER)] == coins


def test_opening_twice_has_one_effect(field: Field) -> None:
    agreed = opened(field)
    assert isinstance(field.refused(RELAYER, field.open_call(agreed)), reverts.NonceUsed)
    assert field.read.account(ME.address).locked == TOKEN
    field.send(RELAYER, field.settle_call(agreed, [True] * 3))
    assert isinstance(field.refused(RELAYER, field.open_call(agreed)), reverts.NonceUsed)


def test_a_lane_takes_one_encounter_at_a_time_and_only_growing_nonces(field: Field) -> None:
    first = opened(field, nonce=16)
    assert isinstance(field.refused(RELAYER, field.open_call(field.signed_terms(nonce=24))), reverts.LaneBusy)
    assert isinstance(field.refused(RELAYER, field.open_call(field.signed_terms(nonce=8))), reverts.NonceUsed)
    other_lane = opened(field, nonce=1)
    field.send(RELAYER, field.settle_call(first, [True] * 3))
    opened(field, nonce=24)
    assert field.read.lane(ME.address, 1).holds(field.id(other_lane))


def test_openings_that_are_refused(field: Field) -> None:
    agreed = field.signed_terms()
    good = calls.decode(field.open_call(agreed))
    assert isinstance(good, calls.Open)
    by_one = (
        replace(good, learner_r=good.neighbor_r, learner_vs=good.neighbor_vs),
        replace(good, neighbor_r=good.learner_r, neighbor_vs=good.learner_vs),
    )
    for call, missing in zip(by_one, (ME, PEER), strict=True):
        refused = field.refused(RELAYER, calls.encode(call))
        assert isinstance(refused, reverts.WrongSigner)
        assert refused.values["expected"] == missing.address.lower()
    for unsigned in ({"learner_r": bytes(32)}, {"neighbor_r": bytes(32)}):
        assert isinstance(field.refused(RELAYER, calls.encode(replace(good, **unsigned))), reverts.BadSignature)
    other = replace(good, terms=replace(agreed, reward=TOKEN + 1))
    assert isinstance(field.refused(RELAYER, calls.encode(other)), reverts.WrongSigner)
    direct = field.terms()
    assert isinstance(field.refused(RELAYER, field.open_call(direct)), reverts.WrongDoor)
    late = field.refused(RELAYER, field.open_call(agreed), at=agreed.open_by + 1)
    assert isinstance(late, reverts.DeadlinePassed)


@pytest.mark.parametrize("place", [place for place, kind in enumerate(TERMS_TYPES) if kind in BITS])
def test_terms_with_a_member_that_exceeds_its_type_are_refused_though_both_signed_them(
    field: Field, place: int
) -> None:
    agreed = field.signed_terms()
    good = field.open_call(agreed)
    for bit in (BITS[TERMS_TYPES[place]], 255):
        words = [good[at : at + 32] for at in range(4, 4 + 32 * len(TERMS_TYPES), 32)]
        words[place] = (int.from_bytes(words[place], "big") | 1 << bit).to_bytes(32, "big")
        digest = typed_hash(field.domain, keccak(keccak(TERMS_TYPE_STRING.encode()) + b"".join(words)))
        signatures = signing.sign(ME.key, digest) + signing.sign(PEER.key, digest)
        refused = field.refused(RELAYER, good[:4] + b"".join(words) + signatures)
        assert isinstance(refused, reverts.OutOfGas)  # without a reason, as the compiler's own check
    field.send(RELAYER, good)


# Settling


@pytest.mark.parametrize("cast", [(True,) * 3, (False,) * 3, (True, True, False), (False, True, False)])
def test_both_doors_pay_the_same_for_the_same_votes(field: Field, cast: tuple[bool, ...]) -> None:
    before = field.balances()
    direct = field.reported(reward=TOKEN + 1)
    for position, valid in enumerate(cast):
        field.vote(direct, position, valid=valid)
    voters = [field.voter(direct, position).address for position in range(3)]
    (settled,) = field.send(ME, field.finalise(direct))
    middle = field.balances()
    agreed = opened(field, reward=TOKEN + 1)
    signed_voters = [field.voter(agreed, position).address for position in range(3)]
    (signed,) = field.send(RELAYER, field.settle_call(agreed, cast))
    after = field.balances()
    assert isinstance(settled, events.Settled)
    assert signed == replace(settled, encounter=field.id(agreed))
    pay = settle(reward=TOKEN + 1, yes=sum(cast), no=3 - sum(cast), parameters=DEFAULT_PARAMETERS)
    for start, end, drawn in ((before, middle, voters), (middle, after, signed_voters)):
        expected = dict.fromkeys(start, 0)
        expected[ME.address] = pay.learner_refund - TOKEN - 1
        expected[PEER.address] = pay.neighbor_delta
        for voter, valid in zip(drawn, cast, strict=True):
            expected[voter] += pay.each_yes if valid else pay.each_no
        assert {who: end[who] - start[who] for who in start} == expected
    assert field.locked() == 0
    assert not field.read.lane(ME.address, agreed.nonce).busy
    field.check_conservation()


def test_settling_twice_has_one_effect(field: Field) -> None:
    agreed = opened(field)
    settled = field.settle_call(agreed, [True] * 3)
    field.send(RELAYER, settled)
    before = field.balances()
    assert isinstance(field.refused(RELAYER, settled), reverts.NotOpen)
    assert isinstance(field.refused(RELAYER, calls.encode_expire(agreed)), reverts.NotOpen)
    assert field.balances() == before


def test_terms_that_were_never_opened_cannot_take_the_place_of_others(field: Field) -> None:
    agreed = opened(field)
    forged = replace(agreed, reward=50 * TOKEN)
    assert isinstance(field.refused(RELAYER, field.settle_call(forged, [True] * 3)), reverts.NotOpen)
    assert isinstance(field.refused(RELAYER, calls.encode_expire(forged)), reverts.NotOpen)
    assert isinstance(field.refused(RELAYER, report_signed(field, forged)), reverts.NotOpen)


def test_only_the_first_seats_of_the_panel_settle(field: Field) -> None:
    agreed = opened(field)
    drawn = field.panel(agreed)
    field.panels[field.id(agreed)] = (drawn[0], drawn[1], drawn[3])
    assert isinstance(field.refused(RELAYER, field.settle_call(agreed, [True] * 3)), reverts.NotOnPanel)
    field.panels[field.id(agreed)] = (drawn[1], drawn[0], drawn[2])
    assert isinstance(field.refused(RELAYER, field.settle_call(agreed, [True] * 3)), reverts.NotOnPanel)
    field.panels[field.id(agreed)] = (drawn[0], drawn[0], drawn[1])
    assert isinstance(field.refused(RELAYER, field.settle_call(agreed, [True] * 3)), reverts.NotOnPanel)
    field.panels[field.id(agreed)] = drawn
    assert isinstance(field.refused(RELAYER, field.settle_call(agreed, [True] * 2)), reverts.EvidenceLength)
    assert isinstance(field.refused(RELAYER, field.settle_call(agreed, [True] * 4)), reverts.EvidenceLength)
    field.send(RELAYER, field.settle_call(agreed, [True] * 3))


def test_a_panel_smaller_than_v_settles_with_all_of_it(field: Field) -> None:
    agreed = opened(field, seats=2)
    assert len(field.panel(agreed)) == 2
    (settled,) = field.send(RELAYER, field.settle_call(agreed, [True, True]))
    assert isinstance(settled, events.Settled)
    assert (settled.yes, settled.no) == (2, 0)
    empty = opened(field, seats=0)
    assert isinstance(field.refused(RELAYER, field.settle_call(empty, [])), reverts.VotesMissing)


def test_a_draw_among_no_seats_gives_nobody_the_first(field: Field) -> None:
    rules = replace(DEFAULT_PARAMETERS, validators=1)
    field.send(field.chain.deployer, calls.encode_add_parameter_set(1, rules))
    agreed = opened(field, seats=0, parameter_set=1)
    field.panels[field.id(agreed)] = (1,)
    assert isinstance(field.refused(RELAYER, field.settle_call(agreed, [True])), reverts.VotesMissing)


def test_settlements_that_are_refused(field: Field) -> None:
    agreed = opened(field)
    good = calls.decode(field.settle_call(agreed, [True] * 3))
    assert isinstance(good, calls.Settle)

    def refusal(**changes: object) -> object:
        return field.refused(RELAYER, calls.encode(replace(good, **changes)))

    assert isinstance(refusal(learner_salt=SALTS[1]), reverts.SaltMismatch)
    assert isinstance(refusal(updated=OTHER), reverts.NotOnPanel)
    of_neighbor = field.report_signatures(agreed)[1]
    assert isinstance(refusal(evidence=of_neighbor + good.evidence[64:]), reverts.TooEarly)
    assert isinstance(refusal(evidence=bytes(64) + good.evidence[64:]), reverts.BadSignature)
    of_stranger = signing.sign(RELAYER.key, signing.report_digest(field.id(agreed), UPDATED, field.domain))
    assert isinstance(refusal(evidence=of_stranger + good.evidence[64:]), reverts.WrongSigner)
    turned = bytearray(good.evidence)
    turned[64] ^= 1
    assert isinstance(refusal(evidence=bytes(turned)), reverts.NotOnPanel)
    turned[64] = 1 | VoteReason.UPDATED_WITHHELD << 1
    assert isinstance(refusal(evidence=bytes(turned)), reverts.BadReason)
    turned[64] = 255
    assert isinstance(refusal(evidence=bytes(turned)), reverts.BadReason)
    end = agreed.report_by + DEFAULT_PARAMETERS.vote_time_s
    assert isinstance(field.refused(RELAYER, calls.encode(good), at=end + 1), reverts.DeadlinePassed)


def test_nobody_is_fined_for_a_report_it_did_not_sign(field: Field) -> None:
    agreed = opened(field)
    good = calls.decode(field.settle_call(agreed, [False, False, True]))
    assert isinstance(good, calls.Settle)
    of_learner = calls.encode(replace(good, evidence=field.report_signatures(agreed)[0] + good.evidence[64:]))
    refused = field.refused(RELAYER, of_learner, at=agreed.report_by + 1)
    assert isinstance(refused, reverts.WrongSigner)
    assert refused.values["expected"] == PEER.address.lower()
    field.send(RELAYER, calls.encode(good))


def test_parties_that_are_validators_are_not_on_their_panel(field: Field) -> None:
    for place in range(4):
        agreed = opened(field, learner=2 + place, neighbor=7 + place, nonce=8)
        parties = {field.read.account(one).seat for one in (agreed.learner, agreed.neighbor)}
        assert not parties & set(field.panel(agreed))
        field.send(RELAYER, field.settle_call(agreed, [True] * 3))


def test_a_draw_that_never_ends_is_cut_off(field: Field) -> None:
    # Of three seats two are the parties' own: a draw for a second vote would go on for ever.
    agreed = opened(field, learner=2, neighbor=3, seats=3)
    assert len(field.panel(agreed)) == 1
    field.panels[field.id(agreed)] = field.panel(agreed) * 3
    refused = field.refused(RELAYER, field.settle_call(agreed, [True] * 3))
    assert isinstance(refused, reverts.NotOnPanel)
    del field.panels[field.id(agreed)]
    field.send(RELAYER, field.settle_call(agreed, [True]))


def test_the_neighbor_alone_is_enough_after_the_learners_time(field: Field) -> None:
    agreed = opened(field)
    full = calls.decode(field.settle_call(agreed, [True] * 3))
    assert isinstance(full, calls.Settle)
    alone = calls.encode(replace(full, evidence=field.report_signatures(agreed)[1] + full.evidence[64:]))
    assert isinstance(field.refused(RELAYER, alone, at=agreed.report_by), reverts.TooEarly)
    field.send(RELAYER, alone)


@pytest.mark.parametrize("wrong", [True, False])
@pytest.mark.parametrize("place", range(3))
def test_a_bond_is_taken_from_what_is_free_and_then_from_what_unbonds(field: Field, wrong: bool, place: int) -> None:
    agreed = opened(field, reward=10 * TOKEN)
    voter = field.voter(agreed, place)
    field.send(voter, calls.encode_leave_validator())
    field.send(voter, calls.encode_unbond(STAKE - TOKEN, 1))
    settled = field.settle_call(agreed, [wrong is (position == place) for position in range(3)])
    field.send(RELAYER, settled)
    account = field.read.account(voter.address)
    assert (account.free, account.unbonding) == (0, STAKE - 7 * TOKEN)
    assert account.seat
    field.check_conservation()


@pytest.mark.parametrize("wrong", [True, False])
def test_a_bond_that_is_not_there_is_not_burned_and_costs_the_seat(field: Field, wrong: bool) -> None:
    agreed = opened(field, reward=10 * TOKEN)
    voter = field.voter(agreed, 0)
    seat = field.read.account(voter.address).seat
    busy = field.terms(learner=PERSONS.index(voter), reward=STAKE - 5 * TOKEN)
    field.check_in(busy, PERSONS.index(voter))
    field.send(voter, calls.encode_unbond(4 * TOKEN, 1))
    cast = [wrong, not wrong, not wrong]
    vacated, settled = field.send(RELAYER, field.settle_call(agreed, cast))
    assert vacated == events.SeatVacated(validator=voter.address, seat=seat)
    pay = settle(reward=10 * TOKEN, yes=sum(cast), no=3 - sum(cast), parameters=DEFAULT_PARAMETERS)
    assert isinstance(settled, events.Settled)
    assert settled.burned == pay.burned - 2 * TOKEN == field.read.pending_fines()
    account = field.read.account(voter.address)
    assert (account.free, account.locked, account.unbonding, account.seat) == (0, STAKE - 5 * TOKEN, 0, 0)
    assert not field.read.is_taken(seat)
    assert isinstance(field.refused(voter, calls.encode_withdraw()), reverts.NothingUnbonding)
    field.check_conservation()


def test_a_voter_that_a_fine_leaves_below_the_minimum_loses_its_seat(field: Field) -> None:
    agreed = opened(field, reward=10 * TOKEN)
    voter = field.voter(agreed, 0)
    seat = field.read.account(voter.address).seat
    field.send(voter, calls.encode_unbond(STAKE - 8 * TOKEN, 1))
    vacated, _ = field.send(RELAYER, field.settle_call(agreed, [False, True, True]))
    assert vacated == events.SeatVacated(validator=voter.address, seat=seat)
    assert field.read.account(voter.address).free == TOKEN
    assert not field.read.is_taken(seat)


def test_seven_votes_settle_where_both_parties_are_validators(field: Field) -> None:
    rules = replace(DEFAULT_PARAMETERS, validators=7)
    field.send(field.chain.deployer, calls.encode_add_parameter_set(1, rules))
    cast = [True, False, True, False, False, True, False]
    pay = settle(reward=TOKEN, yes=3, no=4, parameters=rules)
    for learner in range(2, 8):
        agreed = opened(field, learner=learner, neighbor=learner + 1, nonce=8, parameter_set=1)
        voters = [field.voter(agreed, position).address for position in range(7)]
        before = field.balances()
        field.send(RELAYER, field.settle_call(agreed, cast))
        changes = {who: after - before[who] for who, after in field.balances().items()}
        assert [changes[who] for who in voters] == [pay.each_yes if valid else pay.each_no for valid in cast]
        assert changes[agreed.neighbor] == pay.neighbor_delta


def test_the_same_reasons_are_told_as_often_as_they_occur(field: Field) -> None:
    late = field.signed_terms(nonce=1, open_by=field.now - 1, report_by=field.now + 1)
    poor = field.signed_terms(nonce=2, reward=10**6 * TOKEN)
    calls_ = [field.open_call(late), b"", field.open_call(poor), field.settle_call(poor, [True] * 3)] * 5
    told = [why(one) for one in batch(field, *calls_)]
    assert told == [reverts.DeadlinePassed, reverts.OutOfGas, reverts.InsufficientFree, reverts.NotOpen] * 5


# Step by step


def test_standby_seats_vote_in_storage_when_a_validator_is_absent(field: Field) -> None:
    agreed = opened(field)
    (started,) = field.send(RELAYER, report_signed(field, agreed))
    assert isinstance(started, events.VotingStarted)
    assert started.panel == panel.draw(
        seed=panel.seed(field.id(agreed), SALTS),
        seat_count=10,
        eligible=field.read.is_taken,
        excluded=(),
    )
    assert isinstance(field.refused(RELAYER, field.settle_call(agreed, [True] * 3)), reverts.NotOpen)
    batch(field, *(field.vote_call(agreed, position, valid=True) for position in (0, 2)))
    early = batch(field, field.vote_call(agreed, 3, valid=True))
    assert why(early[0]) is reverts.TooEarly
    field.mine(field.now + DEFAULT_PARAMETERS.standby_delay_s)
    late = batch(field, field.vote_call(agreed, 3, valid=True), field.finalise(agreed))
    assert [type(one) for one in late] == [events.VoteCast, events.Settled]
    assert field.state(agreed) is EncounterState.SETTLED
    assert field.locked() == 0


def test_a_learner_that_reports_something_else_cannot_shut_the_neighbor_out(field: Field) -> None:
    agreed = opened(field)
    field.report(agreed, LEARNER, OTHER)
    expire = calls.encode_expire(agreed)
    assert isinstance(field.refused(RELAYER, expire, at=agreed.report_by + 1), reverts.TooEarly)
    (started,) = field.send(RELAYER, report_signed(field, agreed, learner=False))
    assert isinstance(started, events.VotingStarted)
    assert started.updated == UPDATED


@pytest.mark.parametrize("learner", [True, False])
def test_a_signed_report_is_taken_until_the_time_for_votes_after_the_report_is_over(
    field: Field, learner: bool
) -> None:
    end = DEFAULT_PARAMETERS.vote_time_s
    agreed, other = opened(field), opened(field, nonce=1)
    last = max(agreed.report_by, other.report_by) + end
    field.send(RELAYER, report_signed(field, other, learner=learner), at=other.report_by + end)
    assert field.state(other) is EncounterState.REPORTED
    late = field.refused(RELAYER, report_signed(field, agreed, learner=learner), at=last + 1)
    assert isinstance(late, reverts.DeadlinePassed)
    assert late.values["deadline"] == agreed.report_by + end


def test_an_encounter_opened_by_signatures_goes_on_through_the_direct_door(field: Field) -> None:
    agreed = opened(field)
    field.report(agreed, NEIGHBOR)
    field.report(agreed, LEARNER)
    for position in range(3):
        field.vote(agreed, position, valid=True)
    field.send(ME, field.finalise(agreed))
    assert field.locked() == 0
    field.check_conservation()


def test_what_was_never_reported_expires(field: Field) -> None:
    agreed = opened(field)
    before = field.balances()
    end = agreed.report_by + DEFAULT_PARAMETERS.vote_time_s
    expire = calls.encode_expire(agreed)
    assert isinstance(field.refused(RELAYER, expire, at=end), reverts.TooEarly)
    assert field.send(RELAYER, expire) == [events.Expired(encounter=field.id(agreed), state=EncounterState.OPEN)]
    assert isinstance(field.refused(RELAYER, expire), reverts.NotOpen)
    assert field.locked() == 0
    assert field.balances() == before


# Batches


def test_a_bad_item_is_skipped_and_says_why(field: Field) -> None:
    good, bad = field.signed_terms(), field.signed_terms(nonce=1, reward=10**6 * TOKEN)
    done = batch(field, field.open_call(bad), field.open_call(good), b"\x12\x34", field.open_call(good))
    assert [type(one) for one in done] == [events.Skipped, events.Opened, events.Skipped, events.Skipped]
    assert why(done[0]) is reverts.InsufficientFree
    assert why(done[2]) is reverts.OutOfGas
    assert why(done[3]) is reverts.NonceUsed
    assert [one.index for one in done if isinstance(one, events.Skipped)] == [0, 2, 3]


def test_a_batch_settles_the_last_encounter_and_opens_the_next(field: Field) -> None:
    first = opened(field)
    second = field.signed_terms()
    done = batch(field, field.settle_call(first, [True] * 3), field.open_call(second))
    assert [type(one) for one in done] == [events.Settled, events.Opened]


# Sealed votes


def seal(field: Field, agreed: Terms, position: int, *, valid: bool, salt: bytes) -> bytes:
    voter = field.voter(agreed, position)
    commitment = signing.seal_commitment(
        field.id(agreed), voter.address, valid=valid, reason=VoteReason.ACCURACY, salt=salt
    )
    signature = signing.sign(voter.key, signing.seal_digest(field.id(agreed), UPDATED, commitment, field.domain))
    return calls.encode(
        calls.SealSigned(
            encounter=field.id(agreed),
            updated=UPDATED,
            panel=field.panel(agreed),
            position=position,
            commitment=commitment,
            r=signature[:32],
            vs=signature[32:],
        )
    )


def reveal(field: Field, agreed: Terms, position: int, *, valid: bool, salt: bytes) -> bytes:
    return calls.encode(
        calls.RevealVote(
            encounter=field.id(agreed),
            position=position,
            voter=field.voter(agreed, position).address,
            valid=valid,
            reason=VoteReason.ACCURACY,
            salt=salt,
        )
    )


def sealed_encounter(field: Field) -> Terms:
    added = replace(DEFAULT_PARAMETERS, sealed_votes=True)
    field.send(field.chain.deployer, calls.encode_add_parameter_set(1, added))
    agreed = opened(field, parameter_set=1)
    assert isinstance(field.refused(RELAYER, field.settle_call(agreed, [True] * 3)), reverts.VotesAreSealed)
    field.send(RELAYER, report_signed(field, agreed))
    return agreed


def test_sealed_votes_are_opened_when_all_are_in_and_pay_like_others(field: Field) -> None:
    agreed = sealed_encounter(field)
    plain = field.refused(field.voter(agreed, 0), field.ballot(agreed, 0, valid=True))
    assert isinstance(plain, reverts.VotesAreSealed)
    cast = (True, False, True)
    before = field.balances()
    batch(field, *(seal(field, agreed, place, valid=valid, salt=OTHER) for place, valid in enumerate(cast[:2])))
    first = reveal(field, agreed, 0, valid=True, salt=OTHER)
    assert isinstance(field.refused(RELAYER, first), reverts.TooEarly)
    field.send(RELAYER, seal(field, agreed, 2, valid=True, salt=OTHER))
    assert isinstance(field.refused(RELAYER, seal(field, agreed, 1, valid=True, salt=SALTS[0])), reverts.AlreadyVoted)
    wrong = reveal(field, agreed, 1, valid=True, salt=OTHER)
    assert isinstance(field.refused(RELAYER, wrong), reverts.SealMismatch)
    assert isinstance(field.refused(RELAYER, field.finalise(agreed)), reverts.VotesMissing)
    batch(field, *(reveal(field, agreed, place, valid=valid, salt=OTHER) for place, valid in enumerate(cast)))
    assert isinstance(field.refused(RELAYER, first), reverts.NotSealed)
    (settled,) = field.send(RELAYER, field.finalise(agreed))
    assert isinstance(settled, events.Settled)
    assert (settled.yes, settled.no) == (2, 1)
    pay = settle(reward=TOKEN, yes=2, no=1, parameters=DEFAULT_PARAMETERS)
    after = field.balances()
    assert after[field.voter(agreed, 1).address] - before[field.voter(agreed, 1).address] == pay.each_no
    assert field.locked() == 0
    field.check_conservation()


def test_a_sealed_vote_that_is_never_opened_does_not_count_and_loses_its_bond(field: Field) -> None:
    agreed = sealed_encounter(field)
    before = field.balances()
    batch(field, *(seal(field, agreed, place, valid=True, salt=OTHER) for place in range(3)))
    batch(field, *(reveal(field, agreed, place, valid=True, salt=OTHER) for place in range(2)))
    end = field.read.encounter(field.id(agreed)).deadline + DEFAULT_PARAMETERS.vote_time_s
    assert isinstance(field.refused(RELAYER, field.finalise(agreed), at=end), reverts.VotesMissing)
    late = reveal(field, agreed, 2, valid=True, salt=OTHER)
    assert isinstance(field.refused(RELAYER, late), reverts.DeadlinePassed)
    (settled,) = field.send(RELAYER, field.finalise(agreed))
    assert isinstance(settled, events.Settled)
    assert (settled.yes, settled.no) == (2, 0)
    silent = field.voter(agreed, 2).address
    assert field.balances()[silent] - before[silent] == -7 * TOKEN // 10
    assert field.locked() == 0
    field.check_conservation()


# Steps of an account


def act(field: Field, who: int, kind: ActionKind, *, amount: int = 0, nonce: int, deadline: int | None = None) -> bytes:
    action = calls.Action(
        account=PERSONS[who].address,
        kind=kind,
        amount=amount,
        nonce=nonce,
        deadline=field.now + 100 if deadline is None else deadline,
    )
    signature = signing.sign(PERSONS[who].key, signing.action_digest(action, field.domain))
    return calls.encode(calls.Act(action=action, r=signature[:32], vs=signature[32:]))


def permit(field: Field, who: int, amount: int, *, nonce: int = 0) -> calls.Permit:
    owner = PERSONS[who]
    digest = signing.permit_digest(
        token=replace(field.domain, escrow=field.deployment.token),
        owner=owner.address,
        spender=field.deployment.escrow,
        amount=amount,
        nonce=nonce,
        deadline=field.now + 1_000,
    )
    signed = owner.unsafe_sign_hash(digest)
    r, s = signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")
    return calls.Permit(owner=owner.address, amount=amount, deadline=field.now + 1_000, v=signed.v, r=r, s=s)


def test_a_device_without_gas_stakes_takes_a_seat_and_leaves(field: Field) -> None:
    newcomer = 30
    given = calls.encode_transfer(PERSONS[newcomer].address, 10 * TOKEN)
    field.chain.transact(to=field.deployment.token, data=calls.encode_buy(), value_wei=TOKEN // 100)
    field.chain.transact(to=field.deployment.token, data=given)
    done = batch(
        field,
        calls.encode(permit(field, newcomer, 10 * TOKEN)),
        act(field, newcomer, ActionKind.STAKE, amount=10 * TOKEN, nonce=1),
        act(field, newcomer, ActionKind.REGISTER, nonce=2),
        act(field, newcomer, ActionKind.REGISTER, nonce=2),
        act(field, newcomer, ActionKind.LEAVE, nonce=3),
        act(field, newcomer, ActionKind.UNBOND, amount=10 * TOKEN, nonce=4),
    )
    assert [why(one) for one in done if isinstance(one, events.Skipped)] == [reverts.NonceUsed]
    account = field.read.account(PERSONS[newcomer].address)
    assert (account.free, account.unbonding, account.seat) == (0, 10 * TOKEN, 11)
    late = act(field, newcomer, ActionKind.WITHDRAW, nonce=5, deadline=account.release_at + 10)
    field.send(RELAYER, late, at=account.release_at)
    assert field.read.balance_of(PERSONS[newcomer].address) == 10 * TOKEN
    assert not field.read.is_taken(11)


def test_an_action_is_only_what_was_signed(field: Field) -> None:
    good = calls.decode(act(field, LEARNER, ActionKind.UNBOND, amount=TOKEN, nonce=1))
    assert isinstance(good, calls.Act)
    more = calls.encode(replace(good, action=replace(good.action, amount=2 * TOKEN)))
    assert isinstance(field.refused(RELAYER, more), reverts.WrongSigner)
    late = field.refused(RELAYER, calls.encode(good), at=good.action.deadline + 1)
    assert isinstance(late, reverts.DeadlinePassed)


def test_a_permit_that_somebody_else_sent_first_does_no_harm(field: Field) -> None:
    field.send(ME, calls.encode_approve(field.deployment.escrow, 0), to=field.deployment.token)
    field.queue(ME, calls.encode_buy(1), to=field.deployment.token, value_wei=TOKEN // 1000)
    field.mine()
    signed = permit(field, LEARNER, TOKEN)
    stake = calls.StakeWithPermit(amount=TOKEN, nonce=1, deadline=signed.deadline, v=signed.v, r=signed.r, s=signed.s)
    field.send(RELAYER, calls.encode(signed))
    field.send(ME, calls.encode(stake))
    assert field.read.account(ME.address).free == STAKE + TOKEN
    assert isinstance(field.refused(ME, calls.encode(stake)), reverts.PermitFailed)
