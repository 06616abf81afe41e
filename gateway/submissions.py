"""Submissions and their attempts in the database: what `gateway.store` does within its transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, groupby
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from gateway.answers import Outcome
from gateway.policy import CheckedTransaction
from gateway.prepared import Prepared
from gateway.records import Attempt, Mined, Submission
from gateway.submission import TERMINAL, Happening, State, after
from gateway.tables import ATTEMPTS, SUBMISSIONS, holds_its_nonce, stands_at

# What every transaction comes by is put together once: that costs more than to carry it out.

IN_NO_BLOCK: Final = (State.ACCEPTED, State.READY, State.BROADCAST)
_MOST_AT_ONCE: Final = 512
"""Keys in one query."""

LOOK_UP: Final = Prepared(
    sa.select(
        sa.select(ATTEMPTS.c.submission).where(ATTEMPTS.c.hash == sa.bindparam("transaction")).scalar_subquery(),
        sa.exists().where(
            stands_at(IN_NO_BLOCK),
            SUBMISSIONS.c.sender == sa.bindparam("account"),
        ),
    )
)
"""The submission that has a `transaction`, and whether an `account` has any submission that is in no block yet."""
_INSERT: Final[dict[str, Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_ATTEMPT: Final = ("hash", "submission", "number", "raw")
_SUBMISSION: Final = ("id", "sender", "nonce", "function", "state", "accepted_at_s", "note")
_MOVE: Final = Prepared(
    sa.update(SUBMISSIONS)
    .where(SUBMISSIONS.c.id == sa.bindparam("key"), SUBMISSIONS.c.state == sa.bindparam("old"))
    .values(state=sa.bindparam("new"))
)
_SEND: Final = Prepared(
    sa.update(ATTEMPTS)
    .where(ATTEMPTS.c.hash == sa.bindparam("key"))
    .values(sent_at_s=sa.bindparam("now_s"), sends=ATTEMPTS.c.sends + sa.literal_column("1"))
)
_OF_THE_SAME: Final = ATTEMPTS.alias()
_SENDS: Final = sa.select(sa.func.sum(_OF_THE_SAME.c.sends)).where(_OF_THE_SAME.c.submission == SUBMISSIONS.c.id)
_WATCHED: Final = (
    sa.select(ATTEMPTS.c.hash, SUBMISSIONS.c.id, SUBMISSIONS.c.state, _SENDS.scalar_subquery().label("sends"))
    .join(SUBMISSIONS, ATTEMPTS.c.submission == SUBMISSIONS.c.id)
    .where(ATTEMPTS.c.hash.in_(sa.bindparam("transactions", expanding=True)))
)
_SHOW: Final = Prepared(
    sa.update(SUBMISSIONS)
    .where(SUBMISSIONS.c.id == sa.bindparam("key"))
    .values({name: sa.bindparam(f"new_{name}") for name in ("state", "mined", "block", "succeeded", "gas", "note")})
)
_OF_ATTEMPT: Final = (ATTEMPTS.c.hash, ATTEMPTS.c.raw, ATTEMPTS.c.sent_at_s, ATTEMPTS.c.sends)


def choice(chosen: sa.ColumnElement[bool], *, most: sa.BindParameter[int] | None = None) -> sa.Select[tuple[Any, ...]]:
    """Return the query for the chosen ones with their attempts, by account and nonce, at most so many."""
    order = (SUBMISSIONS.c.sender, SUBMISSIONS.c.nonce, SUBMISSIONS.c.id)
    picked = sa.select(SUBMISSIONS).where(chosen).order_by(*order).limit(most).subquery()
    return (
        sa.select(picked, *_OF_ATTEMPT)
        .join(ATTEMPTS, ATTEMPTS.c.submission == picked.c.id)
        .order_by(picked.c.sender, picked.c.nonce, picked.c.id, ATTEMPTS.c.number)
    )


def read_submissions(
    db: Connection, wanted: sa.Select[tuple[Any, ...]], values: Mapping[str, object] | None = None
) -> list[Submission]:
    """Return those of a `choice`; `values` are those of its parameters."""
    rows = db.execute(wanted, values or {})
    return [_submission(list(several)) for _, several in groupby(rows, key=lambda row: row.id)]


def find_submission(db: Connection, transaction: str) -> Submission | None:
    """Return the submission that has a transaction of this hash among its attempts."""
    key = db.execute(sa.select(ATTEMPTS.c.submission).where(ATTEMPTS.c.hash == transaction)).scalar()
    found = [] if key is None else read_submissions(db, choice(SUBMISSIONS.c.id == key))
    return found[0] if found else None


def find_holder(db: Connection, sender: str, nonce: int) -> Submission | None:
    """Return the submission that has taken an account's nonce."""
    held = read_submissions(
        db, choice(sa.and_(SUBMISSIONS.c.sender == sender, SUBMISSIONS.c.nonce == nonce, holds_its_nonce()))
    )
    return held[0] if held else None


def insert_submissions(
    db: Connection, checked: Sequence[CheckedTransaction], *, now_s: float, note: str | None = None
) -> dict[str, Submission]:
    """Keep each with its first attempt, unless its nonce is held or it is known; return those kept, by id."""
    wanted = {one.id: one for one in checked}
    unknown = _kept(db, ATTEMPTS, _ATTEMPT, [(key, key, 1, one.raw) for key, one in wanted.items()])
    if not unknown:
        return {}
    rows = [
        (key, one.sender, one.nonce, one.name, State.ACCEPTED.value, now_s, note)
        for key, one in wanted.items()
        if key in unknown
    ]
    kept = _kept(db, SUBMISSIONS, _SUBMISSION, rows)
    if kept != unknown:
        db.execute(sa.delete(ATTEMPTS).where(ATTEMPTS.c.hash.in_(unknown - kept)))
    return {key: _accepted(wanted[key], note) for key in kept}


def _kept(db: Connection, table: sa.Table, columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> set[str]:
    """Insert rows, whose key comes first, unless something stands in their way; return the keys of those inserted."""
    names = (f"{column}_{place}" for place in range(len(rows)) for column in columns)
    values = dict(zip(names, chain.from_iterable(rows), strict=True))
    if db.dialect.name == "sqlite":  # where a statement that fails undoes itself alone
        with suppress(sa.exc.IntegrityError):
            _insert_all(table, columns, len(rows))(db, values)
            return {str(key) for key, *_ in rows}
    return {key for (key,) in _insert_some(db.dialect.name, table, columns, len(rows))(db, values)}


@lru_cache(maxsize=128)
def _insert_all(table: sa.Table, columns: tuple[str, ...], rows: int) -> Prepared:
    """Tells nothing back: each row that did would be waited for, and Python's lock with it."""
    return Prepared(sa.insert(table).values(_places(columns, rows)))


@lru_cache(maxsize=128)
def _insert_some(dialect: str, table: sa.Table, columns: tuple[str, ...], rows: int) -> Prepared:
    statement = _INSERT[dialect](table).values(_places(columns, rows)).on_conflict_do_nothing()
    return Prepared(statement.returning(*table.primary_key))


def _places(columns: tuple[str, ...], rows: int) -> list[dict[str, sa.BindParameter[Any]]]:
    return [{column: sa.bindparam(f"{column}_{place}") for column in columns} for place in range(rows)]


def _accepted(checked: CheckedTransaction, note: str | None) -> Submission:
    return Submission(
        id=checked.id,
        sender=checked.sender,
        nonce=checked.nonce,
        function=checked.name,
        state=State.ACCEPTED,
        attempts=(Attempt(hash=checked.id, raw=checked.raw, sent_at_s=None, sends=0),),
        said=None,
        mined=None,
        block=None,
        succeeded=None,
        gas=None,
        note=note,
    )


def insert_attempt(db: Connection, one: Submission, *, transaction: str, raw: bytes) -> Submission:
    """Keep a further attempt at a submission; return it with that."""
    number = len(one.attempts) + 1
    db.execute(sa.insert(ATTEMPTS).values(hash=transaction, submission=one.id, number=number, raw=raw))
    db.execute(sa.update(SUBMISSIONS).where(SUBMISSIONS.c.id == one.id).values(said=None, note=None))
    attempt = Attempt(hash=transaction, raw=raw, sent_at_s=None, sends=0)
    return replace(one, attempts=(*one.attempts, attempt), said=None, note=None)


def mark_sending(db: Connection, sent: Sequence[Submission], *, now_s: float) -> None:
    """Move submissions to where they stand while their newest attempt is handed to a node."""
    moved: list[dict[str, object]] = []
    for one in sent:
        state = after(one.state, Happening.NONCE_REACHED) if one.state is State.ACCEPTED else one.state
        moved.append({"key": one.id, "old": one.state.value, "new": after(state, Happening.SENDING).value})
    _MOVE.many(db, moved)
    _SEND.many(db, [{"key": one.newest.hash, "now_s": now_s} for one in sent])


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A submission that a block holds: its id, and how often it was handed to a node."""

    id: str
    sends: int


def mark_mined(db: Connection, shown: Sequence[Mined], block: int) -> dict[str, Carried]:
    """Note that a block holds transactions; return, by hash, the submission of each that is not foreign."""
    owners: dict[str, Carried] = {}
    moved: list[dict[str, object]] = []
    for some in _some(shown):
        by_hash = {one.hash: one for one in some}
        for row in db.execute(_WATCHED, {"transactions": _padded(list(by_hash))}):
            owners[row.hash] = Carried(id=row.id, sends=int(row.sends))
            if State(row.state) in TERMINAL:
                continue
            one = by_hash[row.hash]
            moved.append(
                {
                    "key": row.id,
                    "new_state": after(State(row.state), Happening.MINED).value,
                    "new_mined": one.hash,
                    "new_block": block,
                    "new_succeeded": one.succeeded,
                    "new_gas": one.gas,
                    "new_note": one.why,
                }
            )
    _SHOW.many(db, moved)
    return owners


def _some(shown: Sequence[Mined]) -> Iterator[Sequence[Mined]]:
    for begin in range(0, len(shown), _MOST_AT_ONCE):
        yield shown[begin : begin + _MOST_AT_ONCE]


def _padded(keys: list[str]) -> list[str]:
    """Repeat the last one until there are a power of two.

    A statement with hundreds of places is large, and a connection to SQLite keeps those it has seen lately.
    """
    return keys + keys[-1:] * ((1 << (len(keys) - 1).bit_length()) - len(keys))


def mark_final(db: Connection, final_block: int) -> None:
    """Finalise what lies at or below a block."""
    for succeeded, happening in ((True, Happening.FINALISED), (False, Happening.FINALISED_REVERTED)):
        db.execute(
            sa.update(SUBMISSIONS)
            .where(
                SUBMISSIONS.c.state == State.INCLUDED,
                SUBMISSIONS.c.block <= final_block,
                SUBMISSIONS.c.succeeded.is_(succeeded),
            )
            .values(state=after(State.INCLUDED, happening))
        )


def mark_reorganised(db: Connection, last_good: int) -> None:
    """Take back what blocks above `last_good` held: it is due again at once."""
    dropped = sa.and_(SUBMISSIONS.c.block > last_good, SUBMISSIONS.c.state == State.INCLUDED)
    ids = list(db.execute(sa.select(SUBMISSIONS.c.id).where(dropped)).scalars())
    db.execute(sa.update(ATTEMPTS).where(ATTEMPTS.c.submission.in_(ids)).values(sent_at_s=None))
    db.execute(
        sa.update(SUBMISSIONS)
        .where(SUBMISSIONS.c.id.in_(ids))
        .values(
            state=after(State.INCLUDED, Happening.REORGED),
            said=None,
            mined=None,
            block=None,
            succeeded=None,
            gas=None,
            note=None,
        )
    )


def _submission(rows: Sequence[sa.Row[Any]]) -> Submission:
    """A submission, of which a row tells with each of its attempts."""
    row = rows[0]
    return Submission(
        id=row.id,
        sender=row.sender,
        nonce=row.nonce,
        function=row.function,
        state=State(row.state),
        attempts=tuple(
            Attempt(hash=one.hash, raw=bytes(one.raw), sent_at_s=one.sent_at_s, sends=one.sends) for one in rows
        ),
        said=None if row.said is None else Outcome(row.said),
        mined=row.mined,
        block=row.block,
        succeeded=row.succeeded,
        gas=row.gas,
        note=row.note,
    )
