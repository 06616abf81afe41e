from contract_field import LEARNER, NEIGHBOR, PERSONS, SALTS, STAKE, TOKEN, Field, person
from hypothesis import given
from hypothesis import strategies as st

from contracts import calls, events, panel
from contracts.localchain import LocalChain
from contracts.terms import both_salts, commitment

seeds = st.binary(min_size=32, max_size=32)


@given(seeds, st.integers(0, 400), st.sets(st.integers(1, 400)), st.sets(st.integers(0, 400), max_size=2))
def test_a_panel_holds_distinct_eligible_strangers(
    seed: bytes, count: int, eligible: set[int], excluded: set[int]
) -> None:
    drawn = panel.draw(seed=seed, seat_count=count, eligible=eligible.__contains__, excluded=excluded)
    assert len(set(drawn)) == len(drawn) <= panel.PANEL_SEATS
    assert set(drawn) <= eligible - excluded
    assert all(1 <= seat <= count for seat in drawn)
    assert panel.unpack(panel.pack(drawn)) == drawn


def test_the_contract_draws_as_the_reference_does(field: Field) -> None:
    leaving = [PERSONS[3 + number] for number in range(4)]
    for one in leaving:
        field.send(one, calls.encode_leave_validator())
    gone = field.now + field.read.unbonding_period_s()
    for round_ in range(12):
        salts = bytes([round_]) * 32, bytes([round_ + 100]) * 32
        learner, neighbor = (LEARNER, NEIGHBOR) if round_ % 2 else (2 + round_ % 5, 8)
        if round_ % 3 == 0:
            dismissed = calls.encode(calls.Dismiss(validator=leaving.pop().address))
            field.send(PERSONS[LEARNER], dismissed, at=max(gone, field.now + 1))
        agreed = field.terms(learner=learner, neighbor=neighbor, salts=both_salts(*map(commitment, salts)))
        field.check_in(agreed, learner)
        field.check_in(agreed, neighbor)
        expected = panel.draw(
            seed=panel.seed(field.id(agreed), salts),
            seat_count=10,
            eligible=field.read.is_taken,
            excluded={field.read.account(PERSONS[n].address).seat for n in (learner, neighbor)},
        )
        field.send(PERSONS[neighbor], calls.encode_report(agreed, bytes(32), *salts))
        (started,) = field.send(PERSONS[learner], calls.encode_report(agreed, bytes(32), *salts))
        assert isinstance(started, events.VotingStarted)
        assert started.panel == expected


def test_a_party_that_takes_a_seat_meanwhile_is_not_drawn(field: Field) -> None:
    agreed = field.opened()
    for who in (LEARNER, NEIGHBOR):
        field.send(PERSONS[who], calls.encode_register_validator())
    for who in (LEARNER, NEIGHBOR):
        field.report(agreed, who)
    seats = {field.read.account(PERSONS[n].address).seat for n in (LEARNER, NEIGHBOR)}
    assert seats == {11, 12}
    assert not seats & set(field.panel(agreed))


def test_more_seats_than_one_word_of_the_bitmap_holds(chain: LocalChain) -> None:
    field = Field.build(chain, validators=2)
    crowd = [person(number) for number in range(100, 380)]
    for start in range(0, len(crowd), 10):
        some = crowd[start : start + 10]
        chain.fund([one.address for one in some], 10**20)
        for one in some:
            field.queue(one, calls.encode_buy(), to=field.deployment.token, value_wei=TOKEN // 100)
            field.queue(one, calls.encode_approve(field.deployment.escrow, STAKE), to=field.deployment.token)
            field.queue(one, calls.encode_stake(5 * TOKEN))
            field.queue(one, calls.encode_register_validator())
        field.mine()
    assert field.read.seat_count() == 282
    for one in crowd[::3]:
        field.queue(one, calls.encode_leave_validator())
    field.mine()
    field.mine(field.now + field.read.unbonding_period_s())
    for one in crowd[::3]:
        field.queue(PERSONS[0], calls.encode(calls.Dismiss(validator=one.address)))
    field.mine()
    field.mine()
    taken = {seat for seat in range(1, 283) if field.read.is_taken(seat)}
    assert len(taken) == 282 - len(crowd[::3])
    drawn: set[int] = set()
    for _ in range(6):
        agreed = field.reported()
        seats = field.panel(agreed)
        assert seats == panel.draw(
            seed=panel.seed(field.id(agreed), SALTS),
            seat_count=282,
            eligible=taken.__contains__,
            excluded=(),
        )
        drawn |= set(seats)
    assert min(drawn) < 256 <= max(drawn)
