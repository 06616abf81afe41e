"""What a gateway asks its database all the time costs the same, however much of what is done it keeps."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from gateway_rig import ALICE, OPERATOR

from gateway.backlog import Backlog
from gateway.broadcaster import WAITS_NOTE
from gateway.config import Limits
from gateway.records import Block, Mined, NewEvent
from gateway.store import Store
from gateway.submission import State
from gateway.tables import ATTEMPTS, ENCOUNTERS, EVENTS, OPERATIONS, SUBMISSIONS, Database

ENCOUNTER = "0x" + "e" * 64
WHO = ALICE.address
SHOWN = {
    "mined": [Mined(hash="0x" + "a" * 64, succeeded=True, gas=1)],
    "events": [
        NewEvent(transaction="0x1", function="settle", gas=1, name="Settled", encounter=ENCOUNTER, account=WHO, args={})
    ],
    "terms": {ENCOUNTER: {}},
    "salts": {ENCOUNTER: ("0x01", "0x02")},
}


def consume(store: Store) -> None:
    head = store.head()
    number = 10 if head is None else head.number + 1
    store.consume(Block(number=number, hash=f"0x{number}", time_s=9), **SHOWN, final_block=number)


ASKED: dict[str, Callable[[Store, Database], object]] = {
    "look_up": lambda store, _: store.look_up("0x1", WHO),
    "submission": lambda store, _: store.submission("0x1"),
    "accounts_due": lambda store, _: store.accounts_due(operator=WHO, stale_s=5.0),
    "due": lambda store, _: store.due(WHO, 10_000, operator=WHO, stale_s=5.0, waits=WAITS_NOTE, most=10),
    "hold_back": lambda store, _: store.hold_back(WHO, 3, waits=WAITS_NOTE),
    "overtaken": lambda store, _: store.overtaken(WHO, 5),
    "free_nonce": lambda store, _: store.free_nonce(WHO, at_least=10_000),
    "waiting_operations": lambda store, _: store.waiting_operations(),
    "waiting_count": lambda store, _: store.waiting_count(),
    "handed_in": lambda store, _: store.handed_in("reportSigned"),
    "open_votings": lambda store, _: store.open_votings(at_s=1),
    "to_look_at": lambda store, _: store.to_look_at(at_s=1, limit=5),
    "encounter_events": lambda store, _: store.encounter_events(ENCOUNTER),
    "events_after": lambda store, _: store.events_after(0, limit=5),
    "seats": lambda store, _: store.seats(),
    "consume": lambda store, _: consume(store),
    "finalise": lambda store, _: store.finalise(5),
    "rewind": lambda store, _: store.rewind(5),
    "backlog": lambda _, database: Backlog(database, Limits()).check(WHO),
}


def done(number: int) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    """One device's transaction, one batch with an operation, and the encounter that it ended: all final long ago."""
    key, batch, encounter = (f"0x{number:060x}{letter * 4}" for letter in "abc")
    for place, one in enumerate((key, batch)):
        values = {"id": one, "sender": (WHO, OPERATOR.address)[place], "nonce": number, "function": "buy", "mined": one}
        yield SUBMISSIONS, values | {"state": State.FINAL, "accepted_at_s": 1, "block": 1, "succeeded": True, "gas": 1}
        yield ATTEMPTS, {"hash": one, "submission": one, "number": 1, "raw": b"", "sent_at_s": 1.0, "sends": 1}
    held = {"id": encounter, "function": "open", "encounter": encounter, "account": WHO, "data": b""}
    yield OPERATIONS, held | {"accepted_at_s": 1, "batch": batch, "place": 0}
    told = {"block": 1, "block_time_s": 1, "tx": batch, "function": "settle", "gas": 1, "name": "Settled"}
    yield EVENTS, told | {"encounter": encounter, "account": WHO, "args": "{}"}
    yield ENCOUNTERS, {"encounter": encounter, "block": 1, "closed_block": 1, "vote_by_s": 1, "look_at_s": 0}


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Database]]:
    """One in which little was done, and one in which a hundred times as much was."""
    opened = []
    for count in (20, 2000):
        database = Database(f"sqlite:///{tmp_path_factory.mktemp('done') / 'gateway.db'}")
        rows: dict[sa.Table, list[dict[str, Any]]] = {}
        for number in range(count):
            for table, values in done(number):
                rows.setdefault(table, []).append(values)
        with database.write() as db:
            for table, values in rows.items():
                db.execute(sa.insert(table), values)
        opened.append(database)
    yield opened
    for database in opened:
        database.close()


@pytest.mark.parametrize("question", ASKED)
def test_what_is_done_costs_nothing(databases: list[Database], question: str) -> None:
    little, much = (steps(database, ASKED[question]) for database in databases)
    assert little > 0
    assert much < 1.5 * little + 50  # of instructions of the database's own machine


def steps(database: Database, ask: Callable[[Store, Database], object]) -> int:
    """How many instructions a question takes, asked a second time."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    def watch(connection: Any, *_: object) -> None:
        connection.set_progress_handler(step, 1)

    database.close()  # what is connected anew is watched
    sa.event.listen(database._engine, "checkout", watch)
    try:
        ask(Store(database), database)
        count = 0
        ask(Store(database), database)
    finally:
        sa.event.remove(database._engine, "checkout", watch)
        database.close()
    return count
