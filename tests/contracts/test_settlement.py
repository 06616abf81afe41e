from dataclasses import replace

import pytest
from contract_field import LEARNER, NEIGHBOR, PERSONS, TOKEN, Field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import calls, events
from contracts.settlement import DEFAULT_PARAMETERS, ParameterSet, Payoff, bond, settle


@st.composite
def parameter_sets(draw: st.DrawFn) -> ParameterSet:
    pn = draw(st.integers(0, 10_000))
    return ParameterSet(
        validators=draw(st.integers(1, 7)),
        pn_bps=pn,
        q_bps=draw(st.integers(0, 10_000)),
        bond_bps=draw(st.integers(10_000 - pn, 10_000)),
        standby_delay_s=60,
        vote_time_s=600,
    )


rewards = st.one_of(st.integers(1, 100), st.integers(1, 2**96 - 1))
votes = st.integers(0, 7)


@given(rewards, votes, votes, parameter_sets())
def test_all_movements_sum_to_zero_and_none_exceeds_its_lock(
    reward: int, yes: int, no: int, parameters: ParameterSet
) -> None:
    pay = settle(reward=reward, yes=yes, no=no, parameters=parameters)
    moved = pay.learner_refund - reward + pay.neighbor_delta + yes * pay.each_yes + no * pay.each_no
    assert moved + pay.burned == 0
    assert 0 <= pay.learner_refund <= reward
    assert pay.neighbor_delta >= -reward
    lost = bond(reward=reward, parameters=parameters)
    assert min(pay.each_yes, pay.each_no) >= -lost
    assert lost <= reward
    assert pay.burned >= 0


@given(rewards, st.integers(1, 7))
def test_with_the_defaults_yes_and_no_pay_alike(reward: int, voters: int) -> None:
    accepted = settle(reward=reward, yes=voters, no=0, parameters=DEFAULT_PARAMETERS)
    rejected = settle(reward=reward, yes=0, no=voters, parameters=DEFAULT_PARAMETERS)
    assert accepted.each_yes == rejected.each_no


@pytest.mark.parametrize(
    ("yes", "no", "expected"),
    [
        (3, 0, Payoff(case=1, learner_refund=0, neighbor_delta=700, each_yes=100, each_no=0, burned=0)),
        (
            0,
            3,
            Payoff(case=2, learner_refund=1000, neighbor_delta=-1000, each_yes=0, each_no=100, burned=700),
        ),
        (
            2,
            1,
            Payoff(case=3, learner_refund=233, neighbor_delta=466, each_yes=150, each_no=-300, burned=301),
        ),
        (
            1,
            2,
            Payoff(case=4, learner_refund=1000, neighbor_delta=-667, each_yes=-300, each_no=100, burned=767),
        ),
        (1, 1, Payoff(case=5, learner_refund=1000, neighbor_delta=0, each_yes=0, each_no=0, burned=0)),
        (0, 0, Payoff(case=5, learner_refund=1000, neighbor_delta=0, each_yes=0, each_no=0, burned=0)),
    ],
)
def test_the_table_of_the_design(yes: int, no: int, expected: Payoff) -> None:
    starting = replace(DEFAULT_PARAMETERS, pn_bps=7_000, q_bps=3_000, bond_bps=3_000)
    assert settle(reward=1000, yes=yes, no=no, parameters=starting) == expected


def test_dust_returns_where_all_agree_that_the_work_is_valid_and_is_burned_elsewhere() -> None:
    pay = settle(reward=1, yes=3, no=0, parameters=DEFAULT_PARAMETERS)
    assert (pay.learner_refund, pay.neighbor_delta, pay.each_yes, pay.burned) == (1, 0, 0, 0)
    pay = settle(reward=1, yes=0, no=3, parameters=DEFAULT_PARAMETERS)
    assert (pay.learner_refund, pay.neighbor_delta, pay.each_no, pay.burned) == (1, -1, 0, 1)


@pytest.mark.parametrize(("reward", "yes", "no"), [(0, 1, 0), (1, -1, 0), (1, 0, -1)])
def test_impossible_votes_are_refused(reward: int, yes: int, no: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        settle(reward=reward, yes=yes, no=no, parameters=DEFAULT_PARAMETERS)


@pytest.mark.parametrize(
    "changes",
    [{"validators": 0}, {"validators": 8}, {"pn_bps": 10_001}, {"bond_bps": 2_999}, {"vote_time_s": 0}],
)
def test_parameters_the_contract_refuses_are_refused(changes: dict[str, int]) -> None:
    good = {
        "validators": 3,
        "pn_bps": 7_000,
        "q_bps": 3_000,
        "bond_bps": 3_000,
        "standby_delay_s": 0,
        "vote_time_s": 1,
    }
    with pytest.raises(ValueError, match="must be from"):
        ParameterSet(**(good | changes))


@settings(
    max_examples=settings.default.max_examples // 10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    reward=st.one_of(st.just(1), st.integers(1, 50), st.integers(1, 40 * TOKEN)),
    parameters=parameter_sets(),
    data=st.data(),
)
def test_the_signed_door_pays_what_the_reference_says(
    field: Field, reward: int, parameters: ParameterSet, data: st.DataObject
) -> None:
    snapshot = field.chain.request("evm_snapshot")
    size = parameters.validators
    cast = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    number = field.read.parameter_set_count()
    field.send(field.chain.deployer, calls.encode_add_parameter_set(number, parameters))
    agreed = field.signed_terms(reward=reward, parameter_set=number)
    field.send(PERSONS[LEARNER], field.open_call(agreed))
    before, fines = field.balances(), field.read.pending_fines()
    voters = [field.voter(agreed, position).address for position in range(size)]
    settled = field.send(PERSONS[NEIGHBOR], field.settle_call(agreed, cast))
    yes = sum(cast)
    pay = settle(reward=reward, yes=yes, no=size - yes, parameters=parameters)
    assert settled == [events.Settled(encounter=field.id(agreed), yes=yes, no=size - yes, burned=pay.burned)]
    expected = dict.fromkeys(before, 0)
    expected[PERSONS[LEARNER].address] = pay.learner_refund - reward
    expected[PERSONS[NEIGHBOR].address] = pay.neighbor_delta
    for address, valid in zip(voters, cast, strict=True):
        expected[address] += pay.each_yes if valid else pay.each_no
    after = field.balances()
    assert {who: after[who] - before[who] for who in before} == expected
    assert field.read.pending_fines() - fines == pay.burned
    assert field.locked() == 0
    field.check_conservation()
    assert field.chain.request("evm_revert", [snapshot])


@settings(
    max_examples=settings.default.max_examples // 8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    reward=st.one_of(st.just(1), st.integers(1, 50), st.integers(1, 40 * TOKEN)),
    parameters=parameter_sets(),
    data=st.data(),
)
def test_the_contract_pays_what_the_reference_says(
    field: Field, reward: int, parameters: ParameterSet, data: st.DataObject
) -> None:
    snapshot = field.chain.request("evm_snapshot")
    cast = data.draw(st.lists(st.booleans(), max_size=parameters.validators))
    number = field.read.parameter_set_count()
    field.send(field.chain.deployer, calls.encode_add_parameter_set(number, parameters))
    agreed = field.reported(reward=reward, parameter_set=number)
    before = field.balances()
    fines = field.read.pending_fines()
    voters = []
    for position, valid in enumerate(cast):
        voters.append((field.voter(agreed, position).address, valid))
        field.vote(agreed, position, valid=valid)
    over = field.read.encounter(field.id(agreed)).deadline + 1
    settled = field.send(PERSONS[LEARNER], field.finalise(agreed), at=over)
    yes, no = sum(cast), len(cast) - sum(cast)
    pay = settle(reward=reward, yes=yes, no=no, parameters=parameters)
    assert settled == [events.Settled(encounter=field.id(agreed), yes=yes, no=no, burned=pay.burned)]
    expected = dict.fromkeys(before, 0)
    expected[PERSONS[LEARNER].address] = pay.learner_refund - reward
    expected[PERSONS[NEIGHBOR].address] = pay.neighbor_delta
    for address, valid in voters:
        expected[address] += pay.each_yes if valid else pay.each_no
    after = field.balances()
    assert {who: after[who] - before[who] for who in before} == expected
    assert field.read.pending_fines() - fines == pay.burned
    assert field.locked() == 0
    field.check_conservation()
    assert field.chain.request("evm_revert", [snapshot])
