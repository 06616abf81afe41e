"""Statements that every transaction comes by, handed to the database's driver as they are.

To have SQLAlchemy prepare a statement, its values and what comes back costs several times what the database does with
them. Here a statement is put into words once for each kind of database; values and rows are the driver's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection


class Prepared:
    """A statement that is put into words once for each kind of database. Safe to share between threads."""

    def __init__(self, statement: sa.sql.ClauseElement) -> None:
        """Prepare a statement; all that it does not say by itself are `sa.bindparam`s."""
        self._statement = statement
        self._words: dict[str, _Words] = {}

    def __call__(self, db: Connection, values: dict[str, object]) -> list[tuple[Any, ...]]:
        """Carry it out within a transaction; return its rows."""
        return self.on(db.connection, db.dialect, values)

    def many(self, db: Connection, several: Sequence[dict[str, object]]) -> None:
        """Carry it out within a transaction for each of several sets of values."""
        if not several:
            return
        words = self._in_words(db.dialect)
        values: Any = [words.filled_in(one) for one in several]
        with as_sqlalchemy_raises(db.dialect, words.text):
            db.connection.cursor().executemany(words.text, values)

    def on(
        self, connection: sa.PoolProxiedConnection, dialect: sa.Dialect, values: dict[str, object]
    ) -> list[tuple[Any, ...]]:
        """Carry it out on a connection of a driver; return its rows. Raises as SQLAlchemy would."""
        words = self._in_words(dialect)
        return rows(connection, dialect, words.text, words.filled_in(values))

    def _in_words(self, dialect: sa.Dialect) -> _Words:
        found = self._words.get(dialect.name)
        if found is None:
            compiled: Any = self._statement.compile(dialect=dialect)
            own = {name: value for name, value in compiled.params.items() if value is not None}
            found = self._words[dialect.name] = _Words(str(compiled), compiled.positiontup, own)
        return found


@dataclass(frozen=True, slots=True)
class _Words:
    """A statement as a database reads it.

    Attributes:
        text: of the statement.
        order: of its values, where they have no names.
        own: values that it has by itself, by name.
    """

    text: str
    order: list[str] | None
    own: dict[str, object]

    def filled_in(self, values: dict[str, object]) -> dict[str, object] | list[object]:
        """The values in the way that the driver takes them."""
        if self.own:
            values = self.own | values
        return values if self.order is None else [values[name] for name in self.order]


def rows(
    connection: sa.PoolProxiedConnection, dialect: sa.Dialect, words: str, values: dict[str, object] | list[object]
) -> list[tuple[Any, ...]]:
    """Hand a driver a statement in its own words; return its rows. Raises as SQLAlchemy would."""
    with as_sqlalchemy_raises(dialect, words):
        cursor = connection.cursor()
        cursor.execute(words, values)
        return cursor.fetchall()  # type: ignore[return-value]


class as_sqlalchemy_raises:  # noqa: N801  (reads as a statement; a generator would cost as much as what it guards)
    """Turns a driver's errors into SQLAlchemy's."""

    def __init__(self, dialect: sa.Dialect, words: str) -> None:
        self._dialect = dialect
        self._words = words

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        driver: Any = self._dialect.loaded_dbapi
        if isinstance(error, driver.Error):
            raise sa.exc.DBAPIError.instance(self._words, None, error, driver.Error, dialect=self._dialect) from error
