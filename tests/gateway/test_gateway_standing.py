"""The numbers of a gateway, from its database alone."""

from gateway_rig import ALICE, BOB, OPERATOR, PERSONS, Rig, on_both_databases
from signed_calls import act

from contracts import calls
from contracts.states import ActionKind
from gateway.standing import Standing, standing
from gateway.submission import State


def stands(rig: Rig) -> Standing:
    return standing(rig.database, rig.store, operator=OPERATOR.address, now_s=rig.now_s)


def hand_in(rig: Rig, nonce: int) -> None:
    call = act(ALICE, rig.deployment.domain, ActionKind.UNBOND, amount=1, nonce=nonce)
    answer = rig.client.post("/v1/operations", json={"call": "0x" + calls.encode(call).hex()})
    assert answer.status_code == 202


def test_an_empty_gateway(rig: Rig) -> None:
    told = stands(rig)
    assert set(told.submissions) == {state.value for state in State}
    assert set(told.submissions.values()) == {0}
    assert (told.oldest_unsettled_s, told.operations_waiting, told.oldest_operation_s) == (0.0, 0, 0.0)
    assert (told.head, told.lag_s(0), list(told.batches)) == (None, None, [])
    assert told.store_bytes > 4096


@on_both_databases
def test_ages_are_those_of_the_oldest_that_is_not_over(rig: Rig) -> None:
    rig.accepted(rig.buy(ALICE))
    rig.now_s += 10
    rig.accepted(rig.buy(BOB))
    rig.now_s += 5
    assert stands(rig).oldest_unsettled_s == 15
    rig.step()
    assert stands(rig).oldest_unsettled_s == 0
    assert stands(rig).submissions["final"] == 2
    rig.accepted(rig.buy(PERSONS[2]))
    rig.now_s -= 60  # a clock that was set back
    assert stands(rig).oldest_unsettled_s == 0


@on_both_databases
def test_operations_wait_until_a_batch_carries_them(rig: Rig) -> None:
    rig.join(ALICE)
    rig.step()
    for nonce in range(100, 103):
        hand_in(rig, nonce)
        rig.now_s += 1
    told = stands(rig)
    assert (told.operations_waiting, told.oldest_operation_s) == (3, 3.0)
    rig.worker.compose()
    told = stands(rig)
    assert told.operations_waiting == 0
    assert [(one.state, one.operations, one.gas) for one in told.batches] == [(State.ACCEPTED, 3, None)]
    rig.step()
    (batch,) = stands(rig).batches
    assert batch.state is State.FINAL
    assert batch.gas > 21_000
    assert batch.block == stands(rig).head.number


@on_both_databases
def test_the_newest_batches_come_first(rig: Rig) -> None:
    rig.join(ALICE)
    rig.step()
    for nonce in range(100, 103):
        hand_in(rig, nonce)
        rig.step()
    batches = stands(rig).batches
    assert len(batches) == 3
    assert [one.block for one in batches] == sorted((one.block for one in batches), reverse=True)


def test_the_lag_of_finality_is_chain_time(deep: Rig) -> None:
    deep.mine(deep.chain.time_s + 40)
    deep.mine(deep.chain.time_s + 2)
    deep.worker.confirm()
    told = stands(deep)
    assert [told.lag_s(told.head.number - n) for n in range(3)] == [0, 2, 42]
    assert told.lag_s(told.head.number + 1) is None


def test_of_a_block_that_is_older_than_what_it_knows_the_least_lag_is_told(rig: Rig) -> None:
    rig.worker.confirm()
    told = stands(rig)
    assert told.head is not None
    assert told.lag_s(-1) == told.head.time_s - min(told.block_times_s.values())
    assert told.lag_s(10**6) is None
