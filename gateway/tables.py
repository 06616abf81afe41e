"""The gateway's tables in SQLite (default) or PostgreSQL, and how to connect to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from gateway.errors import ConfigError, StoreUnavailable
from gateway.submission import State

FREED: Final = (State.SUPERSEDED, State.EXPIRED)
"""States in which a submission's nonce may be used by another one."""
_HOLDS_ITS_NONCE: Final = f"state NOT IN ({', '.join(repr(one.value) for one in FREED)})"

_POSTGRESQL: Final = {"connect_timeout": "5", "options": "-c synchronous_commit=on -c lock_timeout=10s"}
"""How we connect unless the URL says otherwise."""
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
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("accepted_at_s", sa.Float, nullable=False),
    sa.Column("sent_at_s", sa.Float),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
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
    sa.Column("over", sa.Boolean, nullable=False, server_default=sa.false(), index=True),
    # One word of an account about an encounter; without an encounter or an account as many as come.
    sa.Index("one_word_of_an_account", "encounter", "account", "function", unique=True),
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
    sa.Column("name", sa.String(32), nullable=False),
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

VOTINGS = sa.Table(
    "votings",
    TABLES,
    sa.Column("encounter", sa.String(66), primary_key=True),
    sa.Column("block", sa.BigInteger, nullable=False),
    sa.Column("vote_by_s", sa.BigInteger, nullable=False),
    sa.Column("closed_block", sa.BigInteger),
)

BLOCKS = sa.Table(
    "blocks",
    TABLES,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.String(66), nullable=False),
    sa.Column("time_s", sa.BigInteger, nullable=False),
)

CARRIED: Final = OPERATIONS.outerjoin(SUBMISSIONS, OPERATIONS.c.batch == SUBMISSIONS.c.id)
"""Operations beside the submissions that carry them."""

WAITING: Final = sa.and_(
    OPERATIONS.c.over.is_(False),
    sa.or_(OPERATIONS.c.batch.is_(None), SUBMISSIONS.c.state.in_((State.REVERTED, *FREED))),
)
"""What no batch carries, or one that came to nothing, and what can still do something."""


class Database:
    """A database that several stores share. Safe to share between threads and, by URL, between processes.

    What is written in one `write` is on disk when it ends, or not at all (SQLite: WAL, synchronous=FULL; PostgreSQL:
    synchronous_commit). When a server comes back, so does this: a connection is tried before it is used.
    """

    def __init__(self, url: str) -> None:
        """Open or create it. Raises `StoreUnavailable`, or `ConfigError` if its driver is missing."""
        self._engine = _connected(url)
        with self.write() as connection:
            if connection.dialect.name == "postgresql":  # SQLite lets one write at a time as it is
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING_TABLES)))
            TABLES.create_all(connection)
            _bring_up_to_date(connection)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that writes; committed at the end unless something is raised."""
        with _faults(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads: writers are not held up."""
        with _faults(), self._engine.connect() as connection:
            yield connection.execution_options(reads_only=True)


def _bring_up_to_date(db: Connection) -> None:
    """Bring a database up to date that an earlier version made."""
    if "place" not in {column["name"] for column in sa.inspect(db).get_columns("events")}:
        db.execute(sa.text("ALTER TABLE events ADD COLUMN place INTEGER NOT NULL DEFAULT 0"))
    for index in OPERATIONS.indexes:
        index.create(db, checkfirst=True)


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
        engine = sa.create_engine(place.set(query=ours | place.query), pool_pre_ping=bool(ours))
    except (ImportError, sa.exc.ArgumentError) as error:  # NoSuchModuleError is an ArgumentError
        raise ConfigError(f"database_url: no driver for this kind of database: {error}") from error
    if engine.dialect.name == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def _pragmas(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # we say BEGIN ourselves
            for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL"):
                connection.execute(f"PRAGMA {pragma}")

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # IMMEDIATE takes the write lock at once, so two writers queue instead of failing half-way.
            reads_only = connection.get_execution_options().get("reads_only", False)
            connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine
