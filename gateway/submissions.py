"""Submissions and their attempts in the database: what `gateway.store` does within its transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, RowMapping

from gateway.answers import Outcome
from gateway.policy import CheckedTransaction
from gateway.records import Attempt, Mined, Submission
from gateway.submission import TERMINAL, Happening, State, after
from gateway.tables import ATTEMPTS, SUBMISSIONS, holds_its_nonce

# What every transaction comes by is put together once: that costs more than to carry it out.

IN_NO_BLOCK: Final = (State.ACCEPTED, State.READY, State.BROADCAST)
_UNSENT: Final = (State.ACCEPTED, State.READY)
_MOST_AT_ONCE: Final = 500
"""Keys in one query."""

_LOOK_UP: Final = sa.select(
    sa.select(ATTEMPTS.c.submission).where(ATTEMPTS.c.hash == sa.bindparam("transaction")).scalar_subquery(),
    sa.exists().where(SUBMISSIONS.c.state.in_(IN_NO_BLOCK), SUBMISSIONS.c.sender == sa.bindparam("account")),
)
_INSERT: Final[dict[str, Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_KEEP_ATTEMPTS: Final = {
    dialect: insert(ATTEMPTS).on_conflict_do_nothing().returning(ATTEMPTS.c.hash) for dialect, insert in _INSERT.items()
}
_KEEP_SUBMISSIONS: Final = {
    dialect: insert(SUBMISSIONS).on_conflict_do_nothing().returning(SUBMISSIONS.c.id)
    for dialect, insert in _INSERT.items()
}
_MOVE: Final = (
    sa.update(SUBMISSIONS)
    .where(SUBMISSIONS.c.id == sa.bindparam("key"), SUBMISSIONS.c.state == sa.bindparam("old"))
    .values(state=sa.bindparam("new"))
)
_SEND: Final = (
    sa.update(ATTEMPTS)
    .where(ATTEMPTS.c.hash == sa.bindparam("key"))
    .values(sent_at_s=sa.bindparam("now_s"), sends=ATTEMPTS.c.sends + 1)
)
_WATCHED: Final = (
    sa.select(ATTEMPTS.c.hash, SUBMISSIONS.c.id, SUBMISSIONS.c.state)
    .join(SUBMISSIONS, ATTEMPTS.c.submission == SUBMISSIONS.c.id)
    .where(ATTEMPTS.c.hash.in_(sa.bindparam("transactions", expanding=True)))
)
_SHOW: Final = (
    sa.update(SUBMISSIONS)
    .where(SUBMISSIONS.c.id == sa.bindparam("key"))
    .values({name: sa.bindparam(f"new_{name}") for name in ("state", "mined", "block", "succeeded", "gas", "note")})
)

_ATTEMPTS_OF: Final = (
    sa.select(ATTEMPTS)
    .where(ATTEMPTS.c.submission.in_(sa.bindparam("keys", expanding=True)))
    .order_by(ATTEMPTS.c.submission, ATTEMPTS.c.number)
)

_EARLIER = ATTEMPTS.alias()
_LATER = ATTEMPTS.alias()
_LEFT_SINCE: Final = sa.exists().where(
    _EARLIER.c.submission == SUBMISSIONS.c.id,
    sa.or_(_EARLIER.c.sent_at_s.is_(None), _EARLIER.c.sent_at_s <= sa.bindparam("stale_s")),
    sa.not_(sa.exists().where(_LATER.c.submission == _EARLIER.c.submission, _LATER.c.number > _EARLIER.c.number)),
)
"""Its newest attempt was sent long ago, or never."""
_STALE: Final = sa.and_(
    SUBMISSIONS.c.state == State.BROADCAST,
    sa.or_(
        _LEFT_SINCE,
        sa.and_(SUBMISSIONS.c.said == Outcome.UNDERPRICED.value, SUBMISSIONS.c.sender == sa.bindparam("operator")),
    ),
)
"""To be looked after; what the operator can raise at once is not waited for."""
_ACCOUNTS_DUE: Final = sa.union(
    sa.select(SUBMISSIONS.c.sender).where(SUBMISSIONS.c.state.in_(_UNSENT)),
    sa.select(SUBMISSIONS.c.sender).where(_STALE),
)

_OF_ACCOUNT: Final = SUBMISSIONS.c.sender == sa.bindparam("account")
_NEXT_NONCE: Final = SUBMISSIONS.c.nonce + 1
_NEXT: Final = SUBMISSIONS.alias("next_one")
_ENDS_A_RUN: Final = (
    sa.select(_NEXT_NONCE)
    .where(
        _OF_ACCOUNT,
        holds_its_nonce(),
        SUBMISSIONS.c.nonce >= sa.bindparam("used"),
        sa.not_(
            sa.exists().where(
                _NEXT.c.sender == SUBMISSIONS.c.sender, _NEXT.c.nonce == _NEXT_NONCE, holds_its_nonce("next_one")
            )
        ),
    )
    .order_by(SUBMISSIONS.c.nonce)
    .limit(1)
)


_FROM_USED_ON: Final = sa.and_(_OF_ACCOUNT, SUBMISSIONS.c.nonce >= sa.bindparam("used"))
_FIRST: Final = sa.select(sa.func.min(SUBMISSIONS.c.nonce)).where(_FROM_USED_ON, holds_its_nonce())
_TO_SEND: Final = sa.and_(
    _FROM_USED_ON,
    sa.or_(
        sa.and_(SUBMISSIONS.c.state.in_(_UNSENT), SUBMISSIONS.c.nonce < sa.bindparam("following")),
        _STALE,
    ),
)
_OVERTAKEN: Final = sa.and_(
    _OF_ACCOUNT, SUBMISSIONS.c.state.in_(IN_NO_BLOCK), SUBMISSIONS.c.nonce < sa.bindparam("used")
)
_HELD_BACK: Final = sa.and_(
    _OF_ACCOUNT,
    SUBMISSIONS.c.state == State.ACCEPTED,
    SUBMISSIONS.c.nonce > sa.bindparam("following"),
    SUBMISSIONS.c.note.is_distinct_from(sa.bindparam("words")),
)
_IS_OVERTAKEN: Final = sa.select(sa.exists().where(_OVERTAKEN))
_IS_HELD_BACK: Final = sa.select(sa.exists().where(_HELD_BACK))
_HOLD_BACK: Final = sa.update(SUBMISSIONS).where(_HELD_BACK).values(note=sa.bindparam("words"))


def look_up(db: Connection, transaction: str, account: str) -> tuple[Submission | None, bool]:
    """Return the submission that has this transaction, and whether the account has any that is in no block yet."""
    key, under_way = db.execute(_LOOK_UP, {"transaction": transaction, "account": account}).one()
    return None if key is None else read_submissions(db, SUBMISSIONS.c.id == key)[0], bool(under_way)


def read_submissions(
    db: Connection,
    chosen: sa.ColumnElement[bool],
    values: Mapping[str, object] | None = None,
    *,
    most: int | None = None,
) -> list[Submission]:
    """Return the chosen ones, by account and nonce, at most so many; `values` are those of the choice's parameters."""
    picked = sa.select(SUBMISSIONS).where(chosen).order_by(SUBMISSIONS.c.sender, SUBMISSIONS.c.nonce).limit(most)
    rows = db.execute(picked, values or {}).mappings().all()
    attempts: dict[str, list[Attempt]] = {}
    for begin in range(0, len(rows), _MOST_AT_ONCE):
        keys = [row["id"] for row in rows[begin : begin + _MOST_AT_ONCE]]
        for row in db.execute(_ATTEMPTS_OF, {"keys": keys}).mappings():
            attempts.setdefault(row["submission"], []).append(_attempt(row))
    return [_submission(row, attempts[row["id"]]) for row in rows]


def find_submission(db: Connection, transaction: str) -> Submission | None:
    """Return the submission that has a transaction of this hash among its attempts."""
    key = db.execute(sa.select(ATTEMPTS.c.submission).where(ATTEMPTS.c.hash == transaction)).scalar()
    return None if key is None else read_submissions(db, SUBMISSIONS.c.id == key)[0]


def find_holder(db: Connection, sender: str, nonce: int) -> Submission | None:
    """Return the submission that has taken an account's nonce."""
    held = read_submissions(
        db, sa.and_(SUBMISSIONS.c.sender == sender, SUBMISSIONS.c.nonce == nonce, holds_its_nonce())
    )
    return held[0] if held else None


def insert_submissions(
    db: Connection, checked: Sequence[CheckedTransaction], *, now_s: float, note: str | None = None
) -> dict[str, Submission]:
    """Keep each with its first attempt, unless its nonce is held or it is known; return those kept, by id."""
    wanted = {one.id: one for one in checked}
    dialect = db.dialect.name
    attempts = [{"hash": key, "submission": key, "number": 1, "raw": one.raw} for key, one in wanted.items()]
    unknown = set(db.execute(_KEEP_ATTEMPTS[dialect], attempts).scalars())
    if not unknown:
        return {}
    rows = [
        {
            "id": key,
            "sender": one.sender,
            "nonce": one.nonce,
            "function": one.name,
            "state": State.ACCEPTED,
            "accepted_at_s": now_s,
            "note": note,
        }
        for key, one in wanted.items()
        if key in unknown
    ]
    kept = set(db.execute(_KEEP_SUBMISSIONS[dialect], rows).scalars())
    if kept != unknown:
        db.execute(sa.delete(ATTEMPTS).where(ATTEMPTS.c.hash.in_(unknown - kept)))
    return {key: _accepted(wanted[key], note) for key in kept}


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


def accounts_due(db: Connection, *, operator: str, stale_s: float) -> list[str]:
    """Return the accounts that have something to send; what was sent up to `stale_s` is looked after."""
    return sorted(db.execute(_ACCOUNTS_DUE, {"operator": operator, "stale_s": stale_s}).scalars())


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What an account has to send, from its next nonce on.

    Attributes:
        following: the lowest nonce that nothing here holds.
        first: the lowest nonce that something here holds, None if there is none.
        to_send: the oldest of what comes next, and of what is in no block since long ago, by nonce.
        overtaken: whether something in no block that is known here has a nonce that is used.
        held_back: whether something waits for `following`, and does not say so yet.
    """

    following: int
    first: int | None
    to_send: list[Submission]
    overtaken: bool
    held_back: bool


def read_due(db: Connection, account: str, used: int, *, operator: str, stale_s: float, waits: str, most: int) -> Due:
    """Read what an account has to send whose next nonce on the chain is `used`.

    Args:
        db: where.
        account: checksum address.
        used: its next nonce as the chain has it.
        operator: the account whose offers can be raised.
        stale_s: what was sent up to then is looked after.
        waits: what is said, with the nonce put in by `format`, of what waits for another one.
        most: how many to read.
    """
    values: dict[str, object] = {"account": account, "used": used, "operator": operator, "stale_s": stale_s}
    first, following = _run_of_nonces(db, values)
    values |= {"following": following, "words": waits.format(following)}
    return Due(
        following=following,
        first=first,
        to_send=read_submissions(db, _TO_SEND, values, most=most),
        overtaken=bool(db.execute(_IS_OVERTAKEN, values).scalar()),
        held_back=bool(db.execute(_IS_HELD_BACK, values).scalar()),
    )


def read_free_nonce(db: Connection, account: str, at_least: int) -> int:
    """Return the lowest nonce from `at_least` on that nothing here holds."""
    return _run_of_nonces(db, {"account": account, "used": at_least})[1]


def _run_of_nonces(db: Connection, values: Mapping[str, Any]) -> tuple[int | None, int]:
    """The lowest nonce from the used one on that something here holds, and the lowest that nothing holds."""
    first = db.execute(_FIRST, values).scalar()
    used = int(values["used"])
    return first, int(db.execute(_ENDS_A_RUN, values).scalar_one()) if first == used else used


def read_overtaken(db: Connection, account: str, used: int) -> list[Submission]:
    """Return what is in no block known here though the account's nonce is beyond it."""
    return read_submissions(db, _OVERTAKEN, {"account": account, "used": used})


def mark_held_back(db: Connection, account: str, following: int, waits: str) -> None:
    """Say of what waits for a nonce that it does."""
    db.execute(_HOLD_BACK, {"account": account, "following": following, "words": waits.format(following)})


def mark_sending(db: Connection, sent: Sequence[Submission], *, now_s: float) -> None:
    """Move submissions to where they stand while their newest attempt is handed to a node."""
    moved = []
    for one in sent:
        state = after(one.state, Happening.NONCE_REACHED) if one.state is State.ACCEPTED else one.state
        moved.append({"key": one.id, "old": one.state, "new": after(state, Happening.SENDING)})
    db.execute(_MOVE, moved)
    db.execute(_SEND, [{"key": one.newest.hash, "now_s": now_s} for one in sent])


def mark_mined(db: Connection, shown: Sequence[Mined], block: int) -> dict[str, str]:
    """Note that a block holds transactions; return, by hash, to which submission each belongs that is not foreign."""
    owners: dict[str, str] = {}
    moved = []
    for some in _some(shown):
        by_hash = {one.hash: one for one in some}
        for row in db.execute(_WATCHED, {"transactions": list(by_hash)}):
            owners[row.hash] = row.id
            if State(row.state) in TERMINAL:
                continue
            one = by_hash[row.hash]
            moved.append(
                {
                    "key": row.id,
                    "new_state": after(State(row.state), Happening.MINED),
                    "new_mined": one.hash,
                    "new_block": block,
                    "new_succeeded": one.succeeded,
                    "new_gas": one.gas,
                    "new_note": one.why,
                }
            )
    if moved:
        db.execute(_SHOW, moved)
    return owners


def _some(shown: Sequence[Mined]) -> Iterator[Sequence[Mined]]:
    for begin in range(0, len(shown), _MOST_AT_ONCE):
        yield shown[begin : begin + _MOST_AT_ONCE]


def sends_of(db: Connection, ids: Sequence[str]) -> list[int]:
    """Return how often each of these was handed to a node."""
    if not ids:
        return []
    sends = sa.select(sa.func.sum(ATTEMPTS.c.sends)).where(ATTEMPTS.c.submission.in_(ids))
    return [int(one) for one in db.execute(sends.group_by(ATTEMPTS.c.submission)).scalars()]


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


def _attempt(row: RowMapping) -> Attempt:
    return Attempt(hash=row["hash"], raw=bytes(row["raw"]), sent_at_s=row["sent_at_s"], sends=row["sends"])


def _submission(row: RowMapping, attempts: Sequence[Attempt]) -> Submission:
    return Submission(
        id=row["id"],
        sender=row["sender"],
        nonce=row["nonce"],
        function=row["function"],
        state=State(row["state"]),
        attempts=tuple(attempts),
        said=None if row["said"] is None else Outcome(row["said"]),
        mined=row["mined"],
        block=row["block"],
        succeeded=row["succeeded"],
        gas=row["gas"],
        note=row["note"],
    )
