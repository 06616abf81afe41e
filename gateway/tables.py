"""The gateway's tables in SQLite (default) or PostgreSQL, and how to connect to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from copy import copy
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from gateway.cooperation import elsewhere
from gateway.errors import ConfigError, StoreUnavailable
from gateway.kept import Kept
from gateway.prepared import Prepared, as_sqlalchemy_raises, rows
from gateway.submission import FREED, LOST, State

_HOLDS_ITS_NONCE: Final = f"state NOT IN ({', '.join(repr(one.value) for one in FREED)})"

_POSTGRESQL: Final = {"connect_timeout": "5", "options": "-c synchronous_commit=on -c lock_timeout=10s"}
"""How we connect unless the URL says otherwise."""
_CACHE: Final = "cache_size=-256"
"""Kibibytes a connection of SQLite: the system has the file in memory anyway, and there are a dozen connections."""
_STATEMENTS: Final = "temp_store=MEMORY"
"""What a statement that fails half-way has to undo: SQLite would make and delete a file for each of several rows."""
_MAKING_TABLES: Final = 0x69444D4C
"""Number of the lock under which tables are made: two gateways may start at once on an empty database."""
_NO_RIGHT: Final = "42501"
"""PostgreSQL's code for a role that may not do this."""

TABLES = sa.MetaData()

SUBMISSIONS = sa.Table(
    "submissions",
    TABLES,
    sa.Column("id", sa.String(66), primary_key=True),
    sa.Column("sender", sa.String(42), nullable=False),
    sa.Column("nonce", sa.BigInteger, nullable=False),
    sa.Column("function", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("accepted_at_s", sa.Float, nullable=False),
    # What the node said when it was handed over the last time, a `gateway.answers.Outcome`.
    sa.Column("said", sa.String(20)),
    # The attempt that a block holds, and that block.
    sa.Column("mined", sa.String(66)),
    sa.Column("block", sa.BigInteger, index=True),
    sa.Column("succeeded", sa.Boolean),
    sa.Column("gas", sa.BigInteger),
    sa.Column("note", sa.Text),
    # At most one transaction for a nonce, whoever asks at the same moment.
    sa.Index(
        "one_holder_of_a_nonce",
        "sender",
        "nonce",
        unique=True,
        sqlite_where=sa.text(_HOLDS_ITS_NONCE),
        postgresql_where=sa.text(_HOLDS_ITS_NONCE),
    ),
    sa.Index("what_stands_where", "state", "sender", "nonce"),
)

ATTEMPTS = sa.Table(
    "attempts",
    TABLES,
    sa.Column("hash", sa.String(66), primary_key=True),
    sa.Column("submission", sa.String(66), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("sent_at_s", sa.Float),
    sa.Column("sends", sa.Integer, nullable=False, server_default="0"),
)

OPERATIONS = sa.Table(
    "operations",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(66), nullable=False, unique=True),
    sa.Column("function", sa.String(64), nullable=False),
    sa.Column("encounter", sa.String(66), index=True),
    sa.Column("account", sa.String(42)),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Column("accepted_at_s", sa.Float, nullable=False),
    # The submission that carries it, and which of its calls does; None while it waits.
    sa.Column("batch", sa.String(66), index=True),
    sa.Column("place", sa.Integer),
    sa.Column("note", sa.Text),
    # It can do nothing any more.
    sa.Column("over", sa.Boolean, nullable=False, server_default=sa.false()),
    # One word of an account about an encounter; without an encounter or an account as many as come.
    sa.Index("one_word_of_an_account", "encounter", "account", "function", unique=True),
    sa.Index("what_waits", "over", "batch"),
    sqlite_autoincrement=True,
)

EVENTS = sa.Table(
    "events",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("block", sa.BigInteger, nullable=False, index=True),
    sa.Column("block_time_s", sa.BigInteger, nullable=False),
    sa.Column("tx", sa.String(66), nullable=False),
    sa.Column("place", sa.Integer, nullable=False, server_default="0"),
    sa.Column("function", sa.String(64), nullable=False),
    sa.Column("gas", sa.BigInteger, nullable=False),
    sa.Column("name", sa.String(32), nullable=False, index=True),
    sa.Column("encounter", sa.String(66), index=True),
    sa.Column("account", sa.String(42), index=True),
    sa.Column("args", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)

TERMS = sa.Table(
    "terms",
    TABLES,
    sa.Column("encounter", sa.String(66), primary_key=True),
    sa.Column("terms", sa.Text, nullable=False),
)

SALTS = sa.Table(
    "salts",
    TABLES,
    sa.Column("encounter", sa.String(66), primary_key=True),
    sa.Column("learner", sa.String(66), nullable=False),
    sa.Column("neighbor", sa.String(66), nullable=False),
)

ENCOUNTERS = sa.Table(
    "encounters",
    TABLES,
    sa.Column("encounter", sa.String(66), primary_key=True),
    # The block that first told of it, the one that began its voting, and the one that ended it.
    sa.Column("block", sa.BigInteger, nullable=False, index=True),
    sa.Column("voting_block", sa.BigInteger, index=True),
    sa.Column("vote_by_s", sa.BigInteger),
    sa.Column("closed_block", sa.BigInteger, index=True),
    # Chain time from which the keeper is to look at it again.
    sa.Column("look_at_s", sa.BigInteger, nullable=False, index=True),
)

BLOCKS = sa.Table(
    "blocks",
    TABLES,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.String(66), nullable=False),
    sa.Column("time_s", sa.BigInteger, nullable=False),
)

LEASES = sa.Table(
    "leases",
    TABLES,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("holder", sa.String(120), nullable=False),
    sa.Column("until_s", sa.Float, nullable=False),
)

CARRIED: Final = OPERATIONS.outerjoin(SUBMISSIONS, OPERATIONS.c.batch == SUBMISSIONS.c.id)
"""Operations beside the submissions that carry them."""

_HELD = OPERATIONS.alias("held")
_LOST_BATCHES = sa.select(SUBMISSIONS.c.id).where(SUBMISSIONS.c.state.in_(LOST)).correlate(None)
WAITING: Final = OPERATIONS.c.number.in_(
    sa.union_all(
        sa.select(_HELD.c.number).where(_HELD.c.over.is_(False), _HELD.c.batch.is_(None)),
        sa.select(_HELD.c.number).where(_HELD.c.over.is_(False), _HELD.c.batch.in_(_LOST_BATCHES)),
    )
)
"""What no batch carries, or one that came to nothing, and what can still do something: found without a look at what is
done.
"""


class Database:
    """A database that several stores share. Safe to share between threads and, by URL, between processes.

    What is written in one `write` is on disk when it ends, or not at all (SQLite: WAL, synchronous=FULL; PostgreSQL:
    synchronous_commit). When a server comes back, so does this: a connection is tried before it is used.
    """

    def __init__(self, url: str) -> None:
        """Open or create it. Raises `StoreUnavailable`, or `ConfigError` if its driver is missing."""
        self._engine = _connected(url)
        self._reading = self._engine.execution_options(begins="BEGIN")
        self._check: Callable[[Connection], None] = lambda _: None
        sqlite = self._engine.dialect.name == "sqlite"
        # SQLite lets one write at a time, and who has to wait for another looks again now and then. Threads queue here.
        self._writer = Kept(self._engine.connect) if sqlite else None
        # SQLite has an answer sooner than another thread could be asked for it; a server may be slow, or gone.
        self._near = Kept(self._engine.raw_connection) if sqlite else None
        with self.write() as connection:
            if connection.dialect.name == "postgresql":  # SQLite lets one write at a time as it is
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING_TABLES)))
            TABLES.create_all(connection)
            _bring_up_to_date(connection)

    def fenced(self, check: Callable[[Connection], None]) -> Database:
        """Return the same database, in which every write begins with a check that may raise."""
        other = copy(self)
        other._check = check
        return other

    def compact(self) -> None:
        """Give back the log that SQLite writes ahead; PostgreSQL does so by itself."""
        if self._engine.dialect.name == "sqlite":
            with _faults(), self._engine.connect() as connection:
                connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections."""
        for kept in (self._writer, self._near):
            if kept is not None:
                kept.close()
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that writes; committed at the end unless something is raised."""
        with _faults(), self._to_write() as connection, connection.begin():
            self._check(connection)
            yield connection

    def _to_write(self) -> AbstractContextManager[Connection]:
        return self._engine.connect() if self._writer is None else self._writer.taken()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads: writers are not held up."""
        with _faults(), self._reading.connect() as connection:
            yield connection

    def glance(self, statement: Prepared, values: dict[str, object]) -> list[tuple[Any, ...]]:
        """Carry out one prepared statement that only reads, by itself."""
        if self._near is None:
            return elsewhere(lambda: self._glance(lambda: closing(self._engine.raw_connection()), statement, values))
        return self._glance(self._near.taken, statement, values)

    def _glance(
        self,
        connected: Callable[[], AbstractContextManager[sa.PoolProxiedConnection]],
        statement: Prepared,
        values: dict[str, object],
    ) -> list[tuple[Any, ...]]:
        dialect = self._engine.dialect
        with _faults(), as_sqlalchemy_raises(dialect, "connect"), connected() as connection:
            return statement.on(connection, dialect, values)


def _bring_up_to_date(db: Connection) -> None:
    """Change what an earlier version made: nothing handed over is lost, and what the chain tells is read anew."""
    for table in (OPERATIONS, SUBMISSIONS, EVENTS, ENCOUNTERS):
        for index in table.indexes:
            index.create(db, checkfirst=True)
    for name in ("ix_submissions_state", "ix_operations_over"):  # others do better
        db.execute(sa.text(f"DROP INDEX IF EXISTS {name}"))
    if "raw" not in _columns(db, "submissions"):
        return
    db.execute(
        sa.text(
            "INSERT INTO attempts (hash, submission, number, raw, sent_at_s, sends) "
            "SELECT id, id, 1, raw, sent_at_s, attempts FROM submissions"
        )
    )
    for column in ("raw", "sent_at_s", "attempts"):
        db.execute(sa.text(f"ALTER TABLE submissions DROP COLUMN {column}"))
    for column in ("said VARCHAR(20)", "mined VARCHAR(66)"):
        db.execute(sa.text(f"ALTER TABLE submissions ADD COLUMN {column}"))
    db.execute(sa.text("UPDATE submissions SET mined = id WHERE block IS NOT NULL"))
    db.execute(sa.text("DROP TABLE votings"))
    if "place" not in _columns(db, "events"):
        db.execute(sa.text("ALTER TABLE events ADD COLUMN place INTEGER NOT NULL DEFAULT 0"))
    for table in (EVENTS, BLOCKS):
        db.execute(sa.delete(table))


def _columns(db: Connection, table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(db).get_columns(table)}


def holds_its_nonce(name: str = SUBMISSIONS.name) -> sa.TextClause:
    """The condition of `one_holder_of_a_nonce`, in its own words, on submissions under a name: only so is it found."""
    return sa.text(f"{name}.{_HOLDS_ITS_NONCE}")


def stands_at(states: Iterable[State]) -> sa.ColumnElement[bool]:
    """The condition of a submission that stands at one of some states, which are part of its words."""
    return SUBMISSIONS.c.state.in_([sa.literal_column(repr(one.value)) for one in states])


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        ours = (sa.exc.ProgrammingError, sa.exc.IntegrityError, sa.exc.DataError, sa.exc.NotSupportedError)
        if isinstance(error, ours) and getattr(error.orig, "sqlstate", None) != _NO_RIGHT:
            raise  # our own fault, not the database's
        words = " ".join(str(error.orig).split())
        raise StoreUnavailable(f"the database did not answer or did not take a write: {words}") from error
    except sa.exc.TimeoutError as error:
        raise StoreUnavailable("the database is busy: no connection became free") from error


def _connected(url: str) -> Engine:
    try:
        place = sa.make_url(url)
        ours = _POSTGRESQL if place.get_backend_name() == "postgresql" else {}
        engine = sa.create_engine(place.set(query=ours | place.query), pool_pre_ping=bool(ours), hide_parameters=True)
    except (ImportError, sa.exc.ArgumentError) as error:  # NoSuchModuleError is an ArgumentError
        raise ConfigError(f"database_url: no driver for this kind of database: {error}") from error
    if engine.dialect.name == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def _pragmas(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # we say BEGIN ourselves
            for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", _CACHE, _STATEMENTS):
                connection.execute(f"PRAGMA {pragma}")

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # IMMEDIATE takes the write lock at once, so two writers queue instead of failing half-way.
            begins = connection.get_execution_options().get("begins", "BEGIN IMMEDIATE")
            rows(connection.connection, connection.dialect, begins, [])

    return engine
