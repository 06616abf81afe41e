from contract_field import LEARNER, NEIGHBOR, PERSONS, SALTS, STAKE, TOKEN, Field, person
from hypothesis import given
from hypothesis import strategies as st

from contracts import calls, panel
from contracts.localchain import LocalChain
from contracts.terms import commitment

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
    for round_ in range(12):
        salts = bytes([round_]) * 32, bytes([round_ + 100]) * 32
        learner, neighbor = (LEARNER, NEIGHBOR) if round_ % 2 else (2 + round_ % 5, 8)
        agreed = field.terms(
            learner=learner,
            neighbor=neighbor,
            learner_commitment=commitment(salts[0]),
            neighbor_commitment=commitment(salts[1]),
        )
        field.check_in(agreed, learner)
        field.check_in(agreed, neighbor)
        if round_ % 3 == 0:
            field.send(PERSONS[3 + round_ // 3], calls.encode_leave_validator())
        field.send(PERSONS[neighbor], calls.encode_report(agreed, bytes(32), *salts))
        expected = panel.draw(
            seed=panel.seed(field.id(agreed), salts),
            seat_count=10,
            eligible=field.read.is_eligible,
            excluded={field.read.account(PERSONS[n].address).seat for n in (learner, neighbor)},
        )
        assert field.read.panel(field.id(agreed)) == expected


def test_a_party_that_takes_a_seat_meanwhile_is_not_drawn(field: Field) -> None:
    agreed = field.terms()
    field.check_in(agreed, LEARNER)
    field.send(PERSONS[LEARNER], calls.encode_register_validator())
    field.check_in(agreed, NEIGHBOR)
    field.send(PERSONS[NEIGHBOR], calls.encode_register_validator())
    field.send(PERSONS[NEIGHBOR], calls.encode_report(agreed, bytes(32), *SALTS))
    seats = {field.read.account(PERSONS[n].address).seat for n in (LEARNER, NEIGHBOR)}
    assert not seats & set(field.read.panel(field.id(agreed)))


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
        field.queue(one, calls.encode_unbond(1))
    field.mine()
    field.mine()
    eligible = {seat for seat in range(1, 283) if field.read.is_eligible(seat)}
    assert len(eligible) == 282 - len(crowd[::3])
    drawn: set[int] = set()
    for _ in range(6):
        agreed = field.opened()
        field.report(agreed, NEIGHBOR)
        seats = field.read.panel(field.id(agreed))
        assert seats == panel.draw(
            seed=panel.seed(field.id(agreed), SALTS),
            seat_count=282,
            eligible=eligible.__contains__,
            excluded=(),
        )
        drawn |= set(seats)
    assert min(drawn) < 256 <= max(drawn)
