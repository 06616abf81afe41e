"""Connecting to a database: durable writes, its faults told apart from ours, and how it is found again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from gateway_rig import ALICE, Rig, on_both_databases
from postgresql_server import PostgresqlServer

from gateway.errors import ConfigError, StoreUnavailable
from gateway.store import Store
from gateway.tables import EVENTS, OPERATIONS, SUBMISSIONS, TABLES, Database

on_postgresql = pytest.mark.parametrize(
    "database_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


def shown(database: Database, question: str) -> object:
    with database.read() as db:
        return db.exec_driver_sql(question).scalar()


def write(database: Database) -> None:
    with database.write() as db:
        db.execute(sa.insert(OPERATIONS).values(id="0x", function="act", data=b"", accepted_at_s=0))


# -- what is on disk --------------------------------------------------------------------------------------------------


def test_sqlite_writes_through_and_ahead_of_the_log(database: Database) -> None:
    assert shown(database, "PRAGMA journal_mode") == "wal"
    assert shown(database, "PRAGMA synchronous") == 2


@on_postgresql
def test_postgresql_writes_through_whatever_the_role_is_set_to(database_url: str, postgresql: PostgresqlServer) -> None:
    postgresql.run("ALTER ROLE gateway SET synchronous_commit = off")
    database = Database(database_url)
    assert shown(database, "SHOW synchronous_commit") == "on"
    database.close()
    postgresql.run("ALTER ROLE gateway RESET synchronous_commit")


@on_both_databases
def test_many_may_begin_on_an_empty_database_at_once(database_url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        for one in pool.map(Database, [database_url] * 8):
            assert shown(one, "SELECT count(*) FROM submissions") == 0
            one.close()


@on_both_databases
def test_a_database_of_an_earlier_version_is_brought_up_to_date(database: Database, database_url: str) -> None:
    blob, raw = ("BYTEA", "'raw'") if database_url.startswith("postgresql") else ("BLOB", "X'726177'")
    with database.write() as db:
        for statement in (
            "DROP INDEX one_word_of_an_account",
            "ALTER TABLE events DROP COLUMN place",
            f"ALTER TABLE submissions ADD COLUMN raw {blob}",
            "ALTER TABLE submissions ADD COLUMN sent_at_s FLOAT",
            "ALTER TABLE submissions ADD COLUMN attempts INTEGER",
            "ALTER TABLE submissions DROP COLUMN said",
            "ALTER TABLE submissions DROP COLUMN mined",
            "CREATE TABLE votings (encounter VARCHAR(66))",
            "INSERT INTO blocks (number, hash, time_s) VALUES (7, '0x07', 7)",
            "INSERT INTO submissions (id, sender, nonce, function, state, block, accepted_at_s, raw, sent_at_s, "
            "attempts)"
            f" VALUES ('0xaa', 'A', 3, 'buy', 'included', 7, 1, {raw}, 2, 4)",
        ):
            db.exec_driver_sql(statement)
    again = Database(database_url)
    with again.read() as db:
        inspected = sa.inspect(db)
        assert "one_word_of_an_account" in {index["name"] for index in inspected.get_indexes("operations")}
        assert "votings" not in inspected.get_table_names()
        for table in (SUBMISSIONS, EVENTS):
            assert {one["name"] for one in inspected.get_columns(table.name)} == set(table.columns.keys())
    store = Store(again)
    one = store.submission("0xaa")
    assert one is not None
    assert (one.mined, one.newest.sends, one.newest.raw, one.newest.sent_at_s) == ("0xaa", 4, b"raw", 2)
    assert store.head() is None  # what the chain tells is read anew
    again.close()


@on_both_databases
def test_every_table_and_column_is_made_as_it_is_written_down(database: Database) -> None:
    with database.read() as db:
        inspected = sa.inspect(db)
        for table in TABLES.sorted_tables:
            assert {one["name"] for one in inspected.get_columns(table.name)} == set(table.columns.keys())
            assert {one.name for one in table.indexes} <= {one["name"] for one in inspected.get_indexes(table.name)}


# -- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"this is no database", None])
def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "missing" / "gateway.sqlite" if content is None else tmp_path / "gateway.sqlite"
    if content:
        path.write_bytes(content * 50)
    with pytest.raises(StoreUnavailable, match="the database"):
        Database(f"sqlite:///{path}")


def test_a_busy_database_is_told(database: Database, database_url: str) -> None:
    other = Database(database_url)
    with other.write():

        @sa.event.listens_for(database._engine, "engine_connect")
        def _impatient(connection: sa.Connection) -> None:
            connection.connection.dbapi_connection.execute("PRAGMA busy_timeout = 10")

        with pytest.raises(StoreUnavailable, match="locked"):
            write(database)
    other.close()


@pytest.mark.parametrize("url", ["postgresql+nothing://db/idml", "nothing://db/idml"])
def test_a_missing_driver_is_told(url: str) -> None:
    with pytest.raises(ConfigError, match="no driver"):
        Database(url)


@pytest.mark.postgresql
def test_a_server_that_cannot_be_entered_is_told_without_the_password(postgresql: PostgresqlServer) -> None:
    good = postgresql.new_database()
    password = good.split(":")[2].split("@")[0]
    for url in (good.replace(password, "wrong"), good + "_missing"):
        with pytest.raises(StoreUnavailable) as caught:
            Database(url)
        assert password not in str(caught.value)


@on_postgresql
def test_a_statement_that_is_wrong_is_our_own_fault(database: Database) -> None:
    with pytest.raises(sa.exc.ProgrammingError):
        shown(database, "SELECT nothing FROM nowhere")


@on_both_databases
def test_a_row_that_is_there_already_is_our_own_fault(database: Database) -> None:
    write(database)
    with pytest.raises(sa.exc.IntegrityError):
        write(database)


# -- a server's faults, and after them --------------------------------------------------------------------------------


CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gateway'"
"""Ends every connection of the gateway."""


def refused(rig: Rig, nonce: int) -> None:
    """Nothing is acknowledged, and the device is told to send it again."""
    response = rig.post(rig.buy(ALICE, nonce=nonce))
    assert (response.status_code, response.json["error"]["code"]) == (503, "store_unavailable")
    assert response.json["error"]["retry"] is True


def goes_on(rig: Rig, nonce: int) -> None:
    """What was refused is taken, without a restart of the gateway, and nothing else was stored."""
    rig.accepted(rig.buy(ALICE, nonce=nonce))
    assert [one.nonce for one in rig.store.unsettled()] == [*range(nonce + 1)]


@on_postgresql
def test_a_server_that_stops_and_comes_back(rig: Rig, postgresql: PostgresqlServer) -> None:
    rig.accepted(rig.buy(ALICE))
    postgresql.stop()
    refused(rig, 1)
    with pytest.raises(StoreUnavailable):
        rig.worker.broadcast()
    postgresql.start()
    goes_on(rig, 1)
    postgresql.stop()  # with connections in the pool that nobody has tried since
    postgresql.start()
    goes_on(rig, 2)
    assert rig.worker.broadcast() == 3


@on_postgresql
def test_a_connection_that_is_cut_in_a_write_stores_nothing(database: Database, postgresql: PostgresqlServer) -> None:
    with pytest.raises(StoreUnavailable), database.write() as db:  # noqa: PT012  (it is the commit that fails)
        db.execute(sa.insert(OPERATIONS).values(id="0x", function="act", data=b"", accepted_at_s=0))
        postgresql.run(CUT)
    assert shown(database, "SELECT count(*) FROM operations") == 0
    write(database)


@on_postgresql
@pytest.mark.parametrize(
    ("breaks", "mends"),
    [
        (
            "ALTER ROLE gateway IN DATABASE {} SET default_transaction_read_only = on",
            "ALTER ROLE gateway IN DATABASE {} RESET ALL",
        ),
        ("REVOKE INSERT ON submissions FROM gateway", "GRANT INSERT ON submissions TO gateway"),
    ],
)
def test_a_database_that_takes_no_writes(
    rig: Rig, database_url: str, postgresql: PostgresqlServer, breaks: str, mends: str
) -> None:
    name = database_url.rpartition("/")[2]
    rig.accepted(rig.buy(ALICE))
    postgresql.run(breaks.format(name), CUT, database=name)
    refused(rig, 1)
    assert len(rig.store.unsettled()) == 1  # reading goes on
    postgresql.run(mends.format(name), CUT, database=name)
    goes_on(rig, 1)


@on_postgresql
def test_a_row_that_somebody_keeps_locked(database_url: str, postgresql: PostgresqlServer) -> None:
    write(database := Database(database_url))
    hasty = Database(database_url + "?options=-c%20lock_timeout%3D50ms")  # the URL's own settings win
    with database.write() as db:
        db.execute(sa.update(OPERATIONS).values(note="mine"))
        with pytest.raises(StoreUnavailable, match="lock timeout"), hasty.write() as other:
            other.execute(sa.update(OPERATIONS).values(note="theirs"))
    assert shown(hasty, "SELECT note FROM operations") == "mine"
    for one in (database, hasty):
        one.close()
