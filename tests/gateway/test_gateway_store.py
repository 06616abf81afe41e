"""The database: durable before it returns, one holder of a nonce, faults of the disk told apart from ours."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from gateway_rig import ALICE, sign

from contracts import calls
from gateway.config import Limits
from gateway.errors import Code, ConfigError, Refusal, StoreUnavailable
from gateway.policy import CheckedTransaction, check
from gateway.records import Block
from gateway.store import Store
from gateway.submission import Happening, State
from gateway.tables import Database

ESCROW, TOKEN = (f"0x{digit * 40}" for digit in "12")


def checked(nonce: int = 0, amount: int = 1) -> CheckedTransaction:
    raw = sign(ALICE, calls.encode_stake(amount), to=ESCROW, nonce=nonce)
    return check(raw, chain_id=1337, token=TOKEN, escrow=ESCROW, limits=Limits())


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'gateway.sqlite'}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


def test_every_write_is_synchronous_and_ahead_of_the_log(store: Store) -> None:
    with store._db.read() as db:
        assert db.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert db.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_what_was_accepted_is_there_for_another_process(store: Store, url: str) -> None:
    accepted, new = store.accept(checked(), now_s=5.0)
    assert new
    there = Database(url)
    other = Store(there)
    assert other.submission(accepted.id) == accepted
    assert other.accept(checked(), now_s=6.0) == (accepted, False)
    there.close()


def test_the_database_itself_lets_no_two_hold_a_nonce(store: Store) -> None:
    store.accept(checked(), now_s=0)
    with pytest.raises(sa.exc.IntegrityError), store._db.write() as db:
        db.exec_driver_sql(
            "INSERT INTO submissions (id, sender, nonce, function, state, accepted_at_s) "
            "SELECT '0xother', sender, nonce, function, state, 0 FROM submissions"
        )


def test_a_superseded_nonce_is_free_again(store: Store) -> None:
    first, _ = store.accept(checked(amount=1), now_s=0)
    with pytest.raises(Refusal) as caught:
        store.accept(checked(amount=2), now_s=0)
    assert (caught.value.status, caught.value.code) == (409, Code.NONCE_TAKEN)
    store.happened(first, Happening.NONCE_TAKEN, note="why")
    assert store.accept(checked(amount=2), now_s=0)[1]
    assert store.submission(first.id).state is State.SUPERSEDED


def test_what_moved_meanwhile_is_not_moved_again(store: Store) -> None:
    stale, _ = store.accept(checked(), now_s=0)
    store.sending([stale], now_s=1.0)
    store.happened(stale, Happening.NONCE_TAKEN)
    assert store.submission(stale.id).state is State.BROADCAST


def test_the_lowest_free_nonce(store: Store) -> None:
    for nonce in (3, 4, 6):
        store.accept(checked(nonce), now_s=0)
    free = [store.free_nonce(ALICE.address, at_least=n) for n in (0, 3, 4, 5, 6, 7)]
    assert free == [0, 5, 5, 5, 7, 7]
    assert store.free_nonce(TOKEN, at_least=2) == 2


def test_a_rewind_forgets_blocks_and_keeps_the_rest(store: Store) -> None:
    for number in range(5):
        store.consume(
            Block(number=number, hash=f"0x{number}", time_s=number),
            mined=[],
            events=[],
            terms={},
            salts={},
            final_block=0,
        )
    store.rewind(2)
    assert store.head() == Block(number=2, hash="0x2", time_s=2)
    assert store.block_hash(3) is None


@pytest.mark.parametrize("content", [b"this is no database", None])
def test_a_database_that_cannot_be_opened_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "missing" / "gateway.sqlite" if content is None else tmp_path / "gateway.sqlite"
    if content:
        path.write_bytes(content * 50)
    with pytest.raises(StoreUnavailable, match="the database"):
        Database(f"sqlite:///{path}")


def test_a_busy_database_is_told(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Database(url)
    with other.write():

        @sa.event.listens_for(store._db._engine, "engine_connect")
        def _impatient(connection) -> None:
            connection.connection.dbapi_connection.execute("PRAGMA busy_timeout = 10")

        with pytest.raises(StoreUnavailable, match="locked"):
            store.accept(checked(), now_s=0)
    other.close()


@pytest.mark.parametrize("url", ["postgresql+nothing://db/idml", "nothing://db/idml"])
def test_a_missing_driver_is_told(url: str) -> None:
    with pytest.raises(ConfigError, match="no driver"):
        Database(url)
