"""Every transition of the escrow, and every call it must refuse."""

from dataclasses import replace

import pytest
from contract_field import LEARNER, NEIGHBOR, PERSONS, SALTS, STAKE, TOKEN, UPDATED, Field
from eth_account.signers.local import LocalAccount

from contracts import calls, events, panel, reverts
from contracts.settlement import DEFAULT_PARAMETERS, settle
from contracts.states import EncounterState, VoteReason

OTHER = bytes([9]) * 32
ME = PERSONS[LEARNER]
PEER = PERSONS[NEIGHBOR]
STRANGER = PERSONS[15]
SPARE = STAKE - 5 * TOKEN
"""What a validator can take out and stay one."""


def dismiss(validator: LocalAccount) -> bytes:
    return calls.encode(calls.Dismiss(validator=validator.address))


def deadline(field: Field, agreed: object) -> int:
    return field.read.encounter(field.id(agreed)).deadline


# Stake


def test_staking_moves_tokens_in_and_unbonding_moves_them_out(field: Field) -> None:
    assert field.send(ME, calls.encode_unbond(TOKEN, 1)) == [
        events.Unbonding(
            account=ME.address,
            amount=TOKEN,
            total=TOKEN,
            release_at=field.now + field.read.unbonding_period_s(),
        )
    ]
    account = field.read.account(ME.address)
    assert (account.free, account.unbonding) == (STAKE - TOKEN, TOKEN)
    too_soon = field.refused(ME, calls.encode_withdraw(), at=account.release_at - 1)
    assert isinstance(too_soon, reverts.StillUnbonding)
    out = field.send(ME, calls.encode_withdraw(), at=account.release_at)
    assert events.Withdrawn(account=ME.address, amount=TOKEN) in out
    assert field.read.balance_of(ME.address) == TOKEN
    assert isinstance(field.refused(ME, calls.encode_withdraw()), reverts.NothingUnbonding)


def test_unbonding_again_restarts_the_time_for_the_whole(field: Field) -> None:
    field.send(ME, calls.encode_unbond(TOKEN, 1))
    first = field.read.account(ME.address).release_at
    field.send(ME, calls.encode_unbond(1, 2), at=first - 10)
    assert field.read.account(ME.address).unbonding == TOKEN + 1
    assert isinstance(field.refused(ME, calls.encode_withdraw(), at=first), reverts.StillUnbonding)


def test_stakes_that_cannot_be_moved_are_refused(field: Field) -> None:
    assert isinstance(field.refused(ME, calls.encode_stake(0, 1)), reverts.ZeroAmount)
    assert isinstance(field.refused(ME, calls.encode_unbond(0, 1)), reverts.ZeroAmount)
    assert isinstance(field.refused(ME, calls.encode_unbond(STAKE + 1, 1)), reverts.InsufficientFree)
    assert isinstance(field.refused(ME, calls.encode_stake(1, 1)), reverts.ERC20InsufficientAllowance)


def test_staking_and_unbonding_executed_twice_have_one_effect(field: Field) -> None:
    field.send(ME, calls.encode_approve(field.deployment.escrow, 2 * TOKEN), to=field.deployment.token)
    field.queue(ME, calls.encode_buy(1), to=field.deployment.token, value_wei=2 * TOKEN // 1000)
    field.send(ME, calls.encode_stake(TOKEN, 1))
    assert isinstance(field.refused(ME, calls.encode_stake(TOKEN, 1)), reverts.NonceUsed)
    assert isinstance(field.refused(ME, calls.encode_unbond(TOKEN, 1)), reverts.NonceUsed)
    field.send(ME, calls.encode_unbond(TOKEN, 2))
    assert isinstance(field.refused(ME, calls.encode_unbond(TOKEN, 2)), reverts.NonceUsed)
    account = field.read.account(ME.address)
    assert (account.free, account.unbonding) == (STAKE, TOKEN)
    assert field.read.is_used(ME.address, 2)
    assert not field.read.is_used(ME.address, 3)


def test_locked_stake_cannot_be_unbonded(field: Field) -> None:
    agreed = field.opened(reward=60 * TOKEN)
    refused = field.refused(PEER, calls.encode_unbond(50 * TOKEN, 1))
    assert isinstance(refused, reverts.InsufficientFree)
    assert refused.values == {"free": 40 * TOKEN, "needed": 50 * TOKEN}
    assert field.state(agreed) is EncounterState.OPEN


# Validators


def test_a_validator_that_leaves_is_drawn_for_one_more_unbonding_period(field: Field) -> None:
    validator = PERSONS[2]
    seat = field.read.account(validator.address).seat
    assert isinstance(field.refused(validator, calls.encode_register_validator()), reverts.AlreadyValidator)
    assert isinstance(field.refused(ME, dismiss(validator)), reverts.NotLeaving)
    assert field.send(validator, calls.encode_leave_validator()) == [
        events.ValidatorLeft(validator=validator.address, seat=seat)
    ]
    left = field.now
    assert field.read.is_taken(seat)
    assert isinstance(field.refused(validator, calls.encode_leave_validator()), reverts.NotValidator)
    early = left + field.read.unbonding_period_s() - 1
    assert isinstance(field.refused(ME, dismiss(validator), at=early), reverts.TooEarly)
    assert field.send(ME, dismiss(validator)) == [events.SeatVacated(validator=validator.address, seat=seat)]
    assert not field.read.is_taken(seat)
    assert isinstance(field.refused(ME, dismiss(validator)), reverts.NotLeaving)


def test_a_validator_that_comes_back_takes_a_new_seat(field: Field) -> None:
    validator = PERSONS[2]
    field.send(validator, calls.encode_leave_validator())
    field.send(ME, dismiss(validator), at=field.now + field.read.unbonding_period_s())
    assert field.send(validator, calls.encode_register_validator()) == [
        events.ValidatorRegistered(validator=validator.address, seat=11)
    ]
    assert field.read.seat_count() == 11
    assert field.read.seat_owner(11) == validator.address


def test_a_validator_can_take_its_leave_back(field: Field) -> None:
    validator = PERSONS[2]
    seat = field.read.account(validator.address).seat
    field.send(validator, calls.encode_leave_validator())
    assert field.send(validator, calls.encode_register_validator()) == [
        events.ValidatorRegistered(validator=validator.address, seat=seat)
    ]
    assert field.read.account(validator.address).active


def test_a_validator_that_stays_keeps_the_minimum_stake(field: Field) -> None:
    validator = PERSONS[2]
    field.send(validator, calls.encode_unbond(SPARE, 1))
    refused = field.refused(validator, calls.encode_unbond(1, 2))
    assert isinstance(refused, reverts.BelowMinStake)
    field.send(validator, calls.encode_leave_validator())
    field.send(validator, calls.encode_unbond(5 * TOKEN, 2))
    field.check_conservation()


def test_who_withdraws_its_stake_loses_its_seat(field: Field) -> None:
    validator = PERSONS[2]
    seat = field.read.account(validator.address).seat
    field.send(validator, calls.encode_leave_validator())
    field.send(validator, calls.encode_unbond(STAKE, 1))
    out = field.send(validator, calls.encode_withdraw(), at=field.now + field.read.unbonding_period_s())
    assert events.SeatVacated(validator=validator.address, seat=seat) in out
    assert not field.read.is_taken(seat)
    field.check_conservation()


def test_without_stake_nobody_becomes_a_validator(field: Field) -> None:
    field.chain.fund([STRANGER.address], 10**18)
    refused = field.refused(STRANGER, calls.encode_register_validator())
    assert isinstance(refused, reverts.BelowMinStake)


# Checking in


@pytest.mark.parametrize("first", [LEARNER, NEIGHBOR])
def test_both_sides_check_in_in_either_order(field: Field, first: int) -> None:
    agreed = field.terms()
    second = NEIGHBOR if first == LEARNER else LEARNER
    encounter = field.id(agreed)
    assert field.read.encounter_id(agreed) == encounter
    assert field.check_in(agreed, first) == [events.CheckedIn(encounter=encounter, by=PERSONS[first].address)]
    half = EncounterState.LEARNER_CHECKED_IN if first == LEARNER else EncounterState.NEIGHBOR_CHECKED_IN
    assert field.state(agreed) is half
    assert field.check_in(agreed, second) == [events.Opened(encounter=encounter)]
    assert field.state(agreed) is EncounterState.OPEN
    assert field.read.account(ME.address).locked == agreed.reward
    assert field.read.account(PEER.address).locked == agreed.reward
    assert deadline(field, agreed) == agreed.report_by


def test_a_check_in_executed_twice_has_one_effect(field: Field) -> None:
    agreed = field.terms()
    field.check_in(agreed, LEARNER)
    refused = field.refused(ME, calls.encode_check_in(agreed))
    assert isinstance(refused, reverts.WrongState)
    assert field.read.account(ME.address).locked == agreed.reward


def test_terms_the_contract_does_not_accept(field: Field) -> None:
    def why(**changes: object) -> object:
        return field.refused(ME, calls.encode_check_in(field.terms(**changes)))

    assert isinstance(why(report_by=field.now + field.read.max_life_s() + 10), reverts.LifeTooLong)
    assert isinstance(why(parameter_set=7), reverts.UnknownParameterSet)
    assert isinstance(why(parameter_set=300), reverts.UnknownParameterSet)
    assert isinstance(why(seats=11), reverts.ParameterOutOfRange)
    assert isinstance(why(nonce=8), reverts.WrongDoor)
    assert isinstance(why(reward=STAKE), reverts.InsufficientFree)
    late = field.terms()
    assert isinstance(field.refused(ME, calls.encode_check_in(late), at=late.open_by + 1), reverts.DeadlinePassed)
    field.chain.fund([STRANGER.address], 10**18)
    assert isinstance(field.refused(STRANGER, calls.encode_check_in(field.terms())), reverts.NotParty)


def test_the_second_side_cannot_open_too_late(field: Field) -> None:
    agreed = field.terms()
    field.check_in(agreed, NEIGHBOR)
    refused = field.refused(ME, calls.encode_check_in(agreed), at=agreed.open_by + 1)
    assert isinstance(refused, reverts.DeadlinePassed)


def test_the_minimum_stake_stays_free(field: Field) -> None:
    field.send(PEER, calls.encode_unbond(SPARE - TOKEN + 1, 1))
    refused = field.refused(PEER, calls.encode_check_in(field.terms()))
    assert isinstance(refused, reverts.InsufficientFree)
    assert refused.values == {"free": 6 * TOKEN - 1, "needed": 6 * TOKEN}
    field.check_in(field.terms(reward=TOKEN - 1), NEIGHBOR)
    assert field.read.account(PEER.address).free == 5 * TOKEN


def test_a_retired_parameter_set_takes_no_new_encounters_but_keeps_its_own(field: Field) -> None:
    agreed = field.opened()
    owner = field.chain.deployer
    assert field.send(owner, calls.encode_retire_parameter_set(0)) == [events.ParameterSetRetired(number=0)]
    refused = field.refused(ME, calls.encode_check_in(field.terms()))
    assert isinstance(refused, reverts.RetiredParameterSet)
    field.report(agreed, NEIGHBOR)
    assert isinstance(field.refused(owner, calls.encode_retire_parameter_set(0)), reverts.RetiredParameterSet)


def test_only_the_owner_adds_parameter_sets_and_only_sound_ones(field: Field) -> None:
    owner = field.chain.deployer
    added = replace(DEFAULT_PARAMETERS, validators=1)
    assert field.send(owner, calls.encode_add_parameter_set(1, added)) == [
        events.ParameterSetAdded(number=1, parameters=added)
    ]
    assert field.read.parameter_set(1) == added
    assert field.read.parameter_set_count() == 2
    again = field.refused(owner, calls.encode_add_parameter_set(1, added))
    assert isinstance(again, reverts.ParameterOutOfRange)
    unsound = replace(DEFAULT_PARAMETERS, vote_time_s=2 * 86_400)
    assert isinstance(field.refused(owner, calls.encode_add_parameter_set(2, unsound)), reverts.ParameterOutOfRange)
    assert isinstance(field.refused(ME, calls.encode_add_parameter_set(1, added)), reverts.OwnableUnauthorizedAccount)


# Reporting


@pytest.mark.parametrize("first", [LEARNER, NEIGHBOR])
def test_equal_digests_start_the_voting(field: Field, first: int) -> None:
    agreed = field.opened()
    second = NEIGHBOR if first == LEARNER else LEARNER
    encounter = field.id(agreed)
    assert field.report(agreed, first) == [
        events.Reported(encounter=encounter, by=PERSONS[first].address, updated=UPDATED)
    ]
    assert field.read.encounter(encounter).record == UPDATED
    drawn = field.panel(agreed)
    assert field.report(agreed, second) == [
        events.VotingStarted(
            encounter=encounter, updated=UPDATED, panel=drawn, vote_by=field.now + DEFAULT_PARAMETERS.vote_time_s
        )
    ]
    assert field.read.encounter(encounter).record == panel.record(UPDATED, drawn)
    assert field.state(agreed) is EncounterState.REPORTED
    again = field.refused(PERSONS[second], calls.encode_report(agreed, UPDATED, *SALTS))
    assert isinstance(again, reverts.WrongState)


def test_the_learner_cannot_report_another_digest_than_the_neighbors(field: Field) -> None:
    agreed = field.opened()
    field.report(agreed, NEIGHBOR)
    refused = field.refused(ME, calls.encode_report(agreed, OTHER, *SALTS))
    assert isinstance(refused, reverts.DigestMismatch)
    assert refused.values == {"reported": UPDATED, "given": OTHER}


def test_the_neighbors_digest_voids_the_learners(field: Field) -> None:
    agreed = field.opened()
    encounter = field.id(agreed)
    field.report(agreed, LEARNER, OTHER)
    assert field.report(agreed, NEIGHBOR) == [
        events.ReportVoided(encounter=encounter, updated=OTHER),
        events.Reported(encounter=encounter, by=PEER.address, updated=UPDATED),
    ]
    assert field.state(agreed) is EncounterState.NEIGHBOR_REPORTED
    field.report(agreed, LEARNER)
    assert field.state(agreed) is EncounterState.REPORTED


def test_reports_that_are_refused(field: Field) -> None:
    agreed = field.opened()
    early = field.terms()
    assert isinstance(field.refused(ME, calls.encode_report(early, UPDATED, *SALTS)), reverts.WrongState)
    salted = field.refused(ME, calls.encode_report(agreed, UPDATED, SALTS[1], SALTS[0]))
    assert isinstance(salted, reverts.SaltMismatch)
    assert isinstance(field.refused(PERSONS[5], calls.encode_report(agreed, UPDATED, *SALTS)), reverts.NotParty)
    field.report(agreed, LEARNER)
    assert isinstance(field.refused(ME, calls.encode_report(agreed, UPDATED, *SALTS)), reverts.WrongState)
    late = field.refused(PEER, calls.encode_report(agreed, UPDATED, *SALTS), at=agreed.report_by + 1)
    assert isinstance(late, reverts.DeadlinePassed)


def test_the_neighbor_alone_is_enough_after_the_learners_time(field: Field) -> None:
    agreed = field.opened()
    close = calls.encode_close_reporting(agreed, *SALTS)
    assert isinstance(field.refused(PERSONS[4], close), reverts.WrongState)
    field.report(agreed, NEIGHBOR)
    assert isinstance(field.refused(PERSONS[4], close, at=agreed.report_by), reverts.TooEarly)
    other = calls.encode_close_reporting(agreed, SALTS[1], SALTS[0])
    assert isinstance(field.refused(PERSONS[4], other), reverts.SaltMismatch)
    (started,) = field.send(PERSONS[4], close)
    assert isinstance(started, events.VotingStarted)
    assert isinstance(field.refused(PERSONS[4], close), reverts.WrongState)


# Voting


def test_a_vote_locks_the_bond_once(field: Field) -> None:
    agreed = field.reported()
    voter = field.voter(agreed, 0)
    assert field.vote(agreed, 0, valid=True) == [
        events.VoteCast(encounter=field.id(agreed), voter=voter.address, valid=True, reason=VoteReason.ACCURACY)
    ]
    assert field.read.account(voter.address).locked == 7 * TOKEN // 10
    again = field.refused(voter, field.ballot(agreed, 0, valid=False))
    assert isinstance(again, reverts.AlreadyVoted)
    assert field.read.account(voter.address).locked == 7 * TOKEN // 10
    assert field.read.encounter(field.id(agreed)).votes == 1


@pytest.mark.parametrize("reason", list(VoteReason))
@pytest.mark.parametrize("valid", [True, False])
def test_verdict_and_reason_must_agree(field: Field, reason: VoteReason, valid: bool) -> None:
    agreed = field.reported()
    ballot = field.ballot(agreed, 0, valid=valid, reason=reason)
    if reason.allows(valid=valid):
        field.send(field.voter(agreed, 0), ballot)
    else:
        assert isinstance(field.refused(field.voter(agreed, 0), ballot), reverts.BadReason)


def test_votes_that_are_refused(field: Field) -> None:
    agreed = field.opened()
    field.report(agreed, NEIGHBOR)
    voter = field.voter(agreed, 0)
    assert isinstance(field.refused(voter, field.ballot(agreed, 0, valid=True)), reverts.WrongState)
    field.report(agreed, LEARNER)
    assert isinstance(field.refused(voter, field.ballot(agreed, 1, valid=True)), reverts.NotOnPanel)
    assert isinstance(field.refused(voter, field.ballot(agreed, 200, valid=True)), reverts.NotOnPanel)
    assert isinstance(field.refused(ME, field.ballot(agreed, 0, valid=True)), reverts.NotOnPanel)
    wrong = field.ballot(agreed, 0, valid=True, updated=OTHER)
    assert isinstance(field.refused(voter, wrong), reverts.DigestMismatch)
    late = deadline(field, agreed) + 1
    assert isinstance(field.refused(voter, field.ballot(agreed, 0, valid=True), at=late), reverts.DeadlinePassed)


def test_a_voter_must_cover_its_bond(field: Field) -> None:
    agreed = field.reported(reward=90 * TOKEN)
    voter = field.voter(agreed, 0)
    field.send(voter, calls.encode_unbond(90 * TOKEN, 1))
    refused = field.refused(voter, field.ballot(agreed, 0, valid=True))
    assert isinstance(refused, reverts.InsufficientFree)


def test_standby_seats_come_in_one_by_one_and_the_first_votes_decide(field: Field) -> None:
    agreed = field.reported()
    started = field.now
    standby = field.voter(agreed, 3), field.voter(agreed, 4)
    delay = DEFAULT_PARAMETERS.standby_delay_s
    soon = field.refused(standby[0], field.ballot(agreed, 3, valid=True), at=started + delay - 1)
    assert isinstance(soon, reverts.TooEarly)
    assert soon.values["notBefore"] == started + delay
    field.vote(agreed, 3, valid=True, at=started + delay)
    assert isinstance(field.refused(standby[1], field.ballot(agreed, 4, valid=True)), reverts.TooEarly)
    field.vote(agreed, 4, valid=True, at=started + 2 * delay)
    field.vote(agreed, 0, valid=False)
    full = field.refused(field.voter(agreed, 1), field.ballot(agreed, 1, valid=True))
    assert isinstance(full, reverts.VotesComplete)
    (settled,) = field.send(ME, field.finalise(agreed))
    assert isinstance(settled, events.Settled)
    assert (settled.yes, settled.no) == (2, 1)


def test_a_validator_that_left_may_still_vote_where_it_was_drawn(field: Field) -> None:
    agreed = field.reported()
    field.send(field.voter(agreed, 0), calls.encode_leave_validator())
    field.vote(agreed, 0, valid=True)


# Ends


def test_finalising_needs_all_votes_or_the_end_of_time(field: Field) -> None:
    agreed = field.reported()
    finalise = field.finalise(agreed)
    field.vote(agreed, 0, valid=True)
    missing = field.refused(PERSONS[9], finalise, at=deadline(field, agreed))
    assert isinstance(missing, reverts.VotesMissing)
    assert missing.values["votes"] == 1
    (settled,) = field.send(PERSONS[9], finalise)
    assert isinstance(settled, events.Settled)
    assert field.state(agreed) is EncounterState.SETTLED
    assert isinstance(field.refused(PERSONS[9], finalise), reverts.WrongState)
    assert field.read.encounter(field.id(agreed)).record == bytes(32)


def test_finalising_needs_the_panel_and_the_digest_that_were_reported(field: Field) -> None:
    agreed = field.reported()
    for position in range(3):
        field.vote(agreed, position, valid=True)
    drawn = field.panel(agreed)
    swapped = calls.encode_finalise(agreed, UPDATED, (drawn[1], drawn[0], *drawn[2:]))
    assert isinstance(field.refused(ME, swapped), reverts.DigestMismatch)
    assert isinstance(field.refused(ME, calls.encode_finalise(agreed, OTHER, drawn)), reverts.DigestMismatch)
    field.send(ME, field.finalise(agreed))


def test_no_votes_return_everything(field: Field) -> None:
    agreed = field.reported()
    before = field.balances()
    field.send(ME, field.finalise(agreed), at=deadline(field, agreed) + 1)
    assert field.balances() == before
    assert field.locked() == 0


def test_an_empty_panel_settles_at_once_without_a_verdict(field: Field) -> None:
    agreed = field.reported(seats=0)
    assert field.panel(agreed) == ()
    field.send(ME, field.finalise(agreed))
    assert field.locked() == 0


@pytest.mark.parametrize(
    "state",
    [
        EncounterState.LEARNER_CHECKED_IN,
        EncounterState.NEIGHBOR_CHECKED_IN,
        EncounterState.OPEN,
        EncounterState.LEARNER_REPORTED,
    ],
)
def test_missed_deadlines_return_all_locks(field: Field, state: EncounterState) -> None:
    agreed = field.terms()
    before = field.balances()
    if state is EncounterState.NEIGHBOR_CHECKED_IN:
        field.check_in(agreed, NEIGHBOR)
    else:
        field.check_in(agreed, LEARNER)
    if state in (EncounterState.OPEN, EncounterState.LEARNER_REPORTED):
        field.check_in(agreed, NEIGHBOR)
    if state is EncounterState.LEARNER_REPORTED:
        field.report(agreed, LEARNER)
    assert field.state(agreed) is state
    expire = calls.encode_expire(agreed)
    assert isinstance(field.refused(PERSONS[7], expire, at=deadline(field, agreed)), reverts.TooEarly)
    assert field.send(PERSONS[7], expire) == [events.Expired(encounter=field.id(agreed), state=state)]
    assert field.balances() == before
    assert field.locked() == 0
    assert field.state(agreed) is EncounterState.EXPIRED
    for data in (expire, calls.encode_check_in(agreed), field.finalise(agreed)):
        assert isinstance(field.refused(ME, data), reverts.WrongState)


def test_what_is_owed_to_the_neighbor_does_not_expire(field: Field) -> None:
    agreed = field.opened()
    expire = calls.encode_expire(agreed)
    field.report(agreed, NEIGHBOR)
    assert isinstance(field.refused(ME, expire, at=agreed.report_by + 1), reverts.WrongState)
    field.send(ME, calls.encode_close_reporting(agreed, *SALTS))
    assert isinstance(field.refused(ME, expire), reverts.WrongState)


def test_fines_are_destroyed_at_the_token(field: Field) -> None:
    agreed = field.reported()
    for position in range(3):
        field.vote(agreed, position, valid=False)
    field.send(ME, field.finalise(agreed))
    fines = field.read.pending_fines()
    assert fines == settle(reward=TOKEN, yes=0, no=3, parameters=DEFAULT_PARAMETERS).burned
    supply = field.read.total_supply()
    burned = field.send(PERSONS[8], calls.encode_burn_fines())
    assert events.FinesBurned(amount=fines) in burned
    assert field.read.total_supply() == supply - fines
    assert isinstance(field.refused(ME, calls.encode_burn_fines()), reverts.NothingToBurn)


def test_a_cheat_falls_below_the_minimum_and_is_out(field: Field) -> None:
    cheat = 2
    seat = field.read.account(PERSONS[cheat].address).seat
    field.send(PERSONS[cheat], calls.encode_unbond(SPARE - TOKEN, 1))
    agreed = field.opened(neighbor=cheat)
    field.send(PERSONS[cheat], calls.encode_unbond(TOKEN, 2))
    for who in (cheat, LEARNER):
        field.report(agreed, who)
    for position in range(3):
        field.vote(agreed, position, valid=False)
    ended = field.send(ME, field.finalise(agreed))
    assert events.SeatVacated(validator=PERSONS[cheat].address, seat=seat) in ended
    assert field.read.account(PERSONS[cheat].address).free == 4 * TOKEN
    assert not field.read.is_taken(seat)
    assert isinstance(field.refused(PERSONS[cheat], calls.encode_register_validator()), reverts.BelowMinStake)
    refused = field.refused(PERSONS[cheat], calls.encode_check_in(field.terms(neighbor=cheat)))
    assert isinstance(refused, reverts.InsufficientFree)


# Token


def test_tokens_are_bought_and_sold_at_one_rate(field: Field) -> None:
    token = field.deployment.token
    queued = field.queue(ME, calls.encode_buy(1), to=token, value_wei=7)
    field.mine()
    assert field.chain.web3.eth.get_transaction_receipt(queued)["status"] == 1
    assert field.read.balance_of(ME.address) == 7_000
    field.send(ME, calls.encode_sell(3_000, 2), to=token)
    assert isinstance(field.refused(ME, calls.encode_sell(3_000, 2), to=token), reverts.NonceUsed)
    assert field.read.is_used(ME.address, 2, at_token=True)
    field.send(ME, calls.encode_burn(500), to=token)
    assert field.read.balance_of(ME.address) == 3_500
    assert isinstance(field.refused(ME, calls.encode_sell(1, 3), to=token), reverts.NotRedeemable)
    assert isinstance(field.refused(ME, calls.encode_sell(0, 3), to=token), reverts.NotRedeemable)
    assert isinstance(field.refused(ME, calls.encode_buy(3), to=token), reverts.ZeroAmount)
    assert isinstance(field.refused(ME, calls.encode_sell(9_000, 3), to=token), reverts.ERC20InsufficientBalance)
    held = field.chain.web3.eth.get_balance(token)
    assert held * field.read.rate() >= field.read.total_supply()
