"""The database: durable before it returns, one holder of a nonce, faults of the disk told apart from ours."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from gateway_rig import ALICE, on_both_databases, sign
from signed_calls import act

from contracts import calls
from contracts.states import ActionKind
from contracts.terms import Domain
from gateway.config import Limits
from gateway.errors import Code, Refusal
from gateway.operation import CheckedOperation, check_operation
from gateway.policy import CheckedTransaction, check
from gateway.records import Block, Mined, NewEvent
from gateway.store import Store
from gateway.submission import Happening, State
from gateway.tables import Database

Asked = TypeVar("Asked")
Told = TypeVar("Told")

ESCROW, TOKEN = (f"0x{digit * 40}" for digit in "12")


def checked(nonce: int = 0, amount: int = 1) -> CheckedTransaction:
    raw = sign(ALICE, calls.encode_stake(amount), to=ESCROW, nonce=nonce)
    return check(raw, chain_id=1337, token=TOKEN, escrow=ESCROW, limits=Limits())


def operation(nonce: int = 0) -> CheckedOperation:
    domain = Domain(chain_id=1337, escrow=ESCROW)
    return check_operation(calls.encode(act(ALICE, domain, ActionKind.UNBOND, amount=1, nonce=nonce)), domain)


def word(number: int) -> CheckedOperation:
    """One of many different words of one account about one encounter."""
    return replace(operation(number), encounter="0x" + "e" * 64, account=ALICE.address)


def at_once(ask: Callable[[Asked], Told], asked: list[Asked]) -> list[Told | Refusal]:
    """What each was told, all asked at the same moment."""
    start = threading.Barrier(len(asked))

    def one(what: Asked) -> Told | Refusal:
        start.wait(30)
        try:
            return ask(what)
        except Refusal as refusal:
            return refusal

    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(one, asked))


def consume(store: Store, number: int, *, final: int = 0, **shown: Any) -> None:
    nothing: dict[str, Any] = {"mined": [], "events": [], "terms": {}, "salts": {}}
    store.consume(Block(number=number, hash=f"0x{number}", time_s=number), **nothing | shown, final_block=final)


def event(name: str, transaction: str, *, encounter: str = "0x" + "e" * 64, **args: Any) -> NewEvent:
    return NewEvent(
        transaction=transaction, function="settle", gas=5, name=name, encounter=encounter, account=None, args=args
    )


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


@on_both_databases
def test_what_was_accepted_is_there_for_another_process(store: Store, database_url: str) -> None:
    accepted, new = store.accept(checked(), now_s=5.0)
    assert new
    there = Database(database_url)
    other = Store(there)
    assert other.submission(accepted.id) == accepted
    assert other.accept(checked(), now_s=6.0) == (accepted, False)
    there.close()


@on_both_databases
def test_the_database_itself_lets_no_two_hold_a_nonce(store: Store) -> None:
    store.accept(checked(), now_s=0)
    with pytest.raises(sa.exc.IntegrityError), store._db.write() as db:
        db.exec_driver_sql(
            "INSERT INTO submissions (id, sender, nonce, function, state, accepted_at_s) "
            "SELECT '0xother', sender, nonce, function, state, 0 FROM submissions"
        )


@on_both_databases
def test_a_superseded_nonce_is_free_again(store: Store) -> None:
    first, _ = store.accept(checked(amount=1), now_s=0)
    with pytest.raises(Refusal) as caught:
        store.accept(checked(amount=2), now_s=0)
    assert (caught.value.status, caught.value.code) == (409, Code.NONCE_TAKEN)
    store.happened(first, Happening.NONCE_TAKEN, note="why")
    assert store.accept(checked(amount=2), now_s=0)[1]
    assert store.submission(first.id).state is State.SUPERSEDED


@on_both_databases
def test_what_moved_meanwhile_is_not_moved_again(store: Store) -> None:
    stale, _ = store.accept(checked(), now_s=0)
    store.sending([stale], now_s=1.0)
    store.happened(stale, Happening.NONCE_TAKEN)
    assert store.submission(stale.id).state is State.BROADCAST


@on_both_databases
def test_the_lowest_free_nonce(store: Store) -> None:
    for nonce in (3, 4, 6):
        store.accept(checked(nonce), now_s=0)
    free = [store.free_nonce(ALICE.address, at_least=n) for n in (0, 3, 4, 5, 6, 7)]
    assert free == [0, 5, 5, 5, 7, 7]
    assert store.free_nonce(TOKEN, at_least=2) == 2


@on_both_databases
def test_a_rewind_forgets_blocks_and_keeps_the_rest(store: Store) -> None:
    for number in range(5):
        consume(store, number)
    store.rewind(2)
    assert store.head() == Block(number=2, hash="0x2", time_s=2)
    assert store.block_hash(3) is None


@on_both_databases
def test_twenty_who_hand_in_the_same_at_once_get_one_record(store: Store) -> None:
    accepted = at_once(lambda one: store.accept(one, now_s=0), [checked()] * 20)
    assert sorted(new for _, new in accepted) == [False] * 19 + [True]
    assert len({one.id for one, _ in accepted}) == 1
    held = at_once(lambda one: store.accept_operation(one, now_s=0), [operation()] * 20)
    assert sorted(new for _, new in held) == [False] * 19 + [True]
    assert len({one.number for one, _ in held}) == 1


@on_both_databases
def test_of_twenty_words_at_once_the_first_counts(store: Store) -> None:
    told = at_once(lambda one: store.accept_operation(one, now_s=0), [word(number) for number in range(20)])
    refused = [one for one in told if isinstance(one, Refusal)]
    assert [one.code for one in refused] == [Code.ALREADY_HELD] * 19
    assert store.waiting_count() == 1


@on_both_databases
def test_of_two_batches_for_a_nonce_the_first_counts(store: Store) -> None:
    numbers = [store.accept_operation(operation(n), now_s=0)[0].number for n in range(3)]
    assert store.begin_batch(checked(amount=1), [numbers[:1], numbers[1:2]], now_s=1.0)
    assert not store.begin_batch(checked(amount=2), [numbers], now_s=1.0)
    assert [one.number for one in store.waiting_operations()] == numbers[2:]
    assert store.under_way(ALICE.address)


@on_both_databases
def test_a_skipped_call_waits_again_and_a_lost_batch_gives_all_back(store: Store) -> None:
    numbers = [store.accept_operation(operation(n), now_s=0)[0].number for n in range(2)]
    store.begin_batch(checked(), [[number] for number in numbers], now_s=1.0)
    (batch,) = store.unsettled()
    mined = Mined(hash=batch.id, succeeded=True, gas=9)
    consume(store, 1, mined=[mined], events=[replace(event("Skipped", batch.id, error="why"), place=1)])
    (waits,) = store.waiting_operations()
    assert (waits.number, waits.note) == (numbers[1], "why")
    store.rewind(0)
    consume(store, 1)
    store.happened(store.submission(batch.id), Happening.NONCE_TAKEN)
    assert [one.number for one in store.waiting_operations()] == numbers


@on_both_databases
def test_what_a_forgotten_block_showed_is_undone(store: Store) -> None:
    kept, moved = (store.accept(checked(n), now_s=0)[0] for n in range(2))
    encounter = "0x" + "e" * 64
    for number in (0, 1):
        consume(store, number)
    consume(
        store,
        2,
        mined=[Mined(hash=kept.id, succeeded=False, gas=7)],
        events=[event("VotingStarted", kept.id, vote_by=100)],
        terms={encounter: {"reward": 2**200}},
        salts={encounter: ("0x01", "0x02")},
    )
    consume(store, 3, mined=[Mined(hash=moved.id, succeeded=True, gas=8)], events=[event("Settled", moved.id)], final=2)
    assert [store.submission(one.id).state for one in (kept, moved)] == [State.REVERTED, State.INCLUDED]
    assert store.open_votings(at_s=0) == []
    store.rewind(2)
    again = store.submission(moved.id)
    assert (again.state, again.block, again.gas, again.newest.sent_at_s) == (State.BROADCAST, None, None, None)
    assert store.open_votings(at_s=0) == [encounter]
    (row,) = store.encounter_events(encounter)
    consume(store, 3, events=[event("Settled", moved.id)])
    assert store.encounter_events(encounter)[1].number > row.number + 1  # the feed uses no number twice
    assert store.terms(encounter) == {"reward": 2**200}
    assert store.salts(encounter) == ("0x01", "0x02")
    assert store.settled_height() == 2
