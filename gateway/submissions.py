"""Submissions and their attempts in the database: what `gateway.store` does within its transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from gateway.answers import Outcome
from gateway.policy import CheckedTransaction
from gateway.records import Attempt, Mined, Submission
from gateway.submission import FREED, TERMINAL, Happening, State, after
from gateway.tables import ATTEMPTS, SUBMISSIONS


def read_submissions(db: Connection, chosen: sa.ColumnElement[bool]) -> list[Submission]:
    """Return the chosen ones, by account and nonce."""
    rows = (
        db.execute(sa.select(SUBMISSIONS).where(chosen).order_by(SUBMISSIONS.c.sender, SUBMISSIONS.c.nonce))
        .mappings()
        .all()
    )
    if not rows:
        return []
    tried = db.execute(
        sa.select(ATTEMPTS)
        .join(SUBMISSIONS, SUBMISSIONS.c.id == ATTEMPTS.c.submission)
        .where(chosen)
        .order_by(ATTEMPTS.c.submission, ATTEMPTS.c.number)
    ).mappings()
    attempts: dict[str, list[Attempt]] = {}
    for row in tried:
        attempts.setdefault(row["submission"], []).append(_attempt(row))
    return [_submission(row, attempts[row["id"]]) for row in rows]


def find_submission(db: Connection, transaction: str) -> Submission | None:
    """Return the submission that has a transaction of this hash among its attempts."""
    key = db.execute(sa.select(ATTEMPTS.c.submission).where(ATTEMPTS.c.hash == transaction)).scalar()
    return None if key is None else read_submissions(db, SUBMISSIONS.c.id == key)[0]


def find_holder(db: Connection, sender: str, nonce: int) -> Submission | None:
    """Return the submission that has taken an account's nonce."""
    held = read_submissions(
        db, sa.and_(SUBMISSIONS.c.sender == sender, SUBMISSIONS.c.nonce == nonce, SUBMISSIONS.c.state.not_in(FREED))
    )
    return held[0] if held else None


def insert_submission(
    db: Connection, checked: CheckedTransaction, *, now_s: float, note: str | None = None
) -> Submission:
    """Keep a new submission with its first attempt; return it. Raises IntegrityError if its nonce is taken."""
    db.execute(
        sa.insert(SUBMISSIONS).values(
            id=checked.id,
            sender=checked.sender,
            nonce=checked.nonce,
            function=checked.name,
            state=State.ACCEPTED,
            accepted_at_s=now_s,
            note=note,
        )
    )
    db.execute(sa.insert(ATTEMPTS).values(hash=checked.id, submission=checked.id, number=1, raw=checked.raw))
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
    for one in sent:
        state = after(one.state, Happening.NONCE_REACHED) if one.state is State.ACCEPTED else one.state
        db.execute(
            sa.update(SUBMISSIONS)
            .where(SUBMISSIONS.c.id == one.id, SUBMISSIONS.c.state == one.state)
            .values(state=after(state, Happening.SENDING))
        )
        db.execute(
            sa.update(ATTEMPTS)
            .where(ATTEMPTS.c.hash == one.newest.hash)
            .values(sent_at_s=now_s, sends=ATTEMPTS.c.sends + 1)
        )


def mark_mined(db: Connection, one: Mined, block: int) -> str | None:
    """Note that a block holds a transaction; return the id of the submission it belongs to, None if it is foreign."""
    row = db.execute(
        sa.select(SUBMISSIONS.c.id, SUBMISSIONS.c.state)
        .join(ATTEMPTS, ATTEMPTS.c.submission == SUBMISSIONS.c.id)
        .where(ATTEMPTS.c.hash == one.hash)
    ).first()
    if row is None or State(row.state) in TERMINAL:
        return None if row is None else str(row.id)
    db.execute(
        sa.update(SUBMISSIONS)
        .where(SUBMISSIONS.c.id == row.id)
        .values(
            state=after(State(row.state), Happening.MINED),
            mined=one.hash,
            block=block,
            succeeded=one.succeeded,
            gas=one.gas,
            note=one.why,
        )
    )
    return str(row.id)


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
