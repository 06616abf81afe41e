"""Forgets what nobody asks for any more, so that a gateway that runs for years stays of one size.

What became of a submission can be asked for a long time (`KEEP_S`): a device may have been gone for weeks. Nothing is
forgotten that is not over. And what can never be sent, since the nonce before it is not filled, is given up some day.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.submission import TERMINAL, Happening, State, after
from gateway.tables import ATTEMPTS, BLOCKS, ENCOUNTERS, EVENTS, OPERATIONS, SALTS, SUBMISSIONS, TERMS, Database

_DAY_S: Final = 86_400.0
KEEP_S: Final = 90 * _DAY_S
"""How long it can be asked what became of something."""
UNSENT_S: Final = 7 * _DAY_S
"""How long a transaction waits for the nonces before it."""
UNSENT_NOTE: Final = "never sent: the nonces before it were not filled"

_EVERY_S: Final = 3600.0
_AT_ONCE: Final = 500
_KEPT: Final = ("ParameterSetAdded", "ParameterSetRetired", "ValidatorRegistered", "SeatVacated")
"""Events that say how things stand now, however old they are."""


class Reaper:
    """Goes through one database, once an hour or while there is more."""

    def __init__(
        self,
        database: Database,
        *,
        keep_s: float = KEEP_S,
        unsent_s: float = UNSENT_S,
    ) -> None:
        """Set how long things are kept, in seconds."""
        self._db = database
        self._keep_s = keep_s
        self._unsent_s = unsent_s
        self._next_s: float | None = None

    def reap(self, *, now_s: float) -> int:
        """Forget some of what is too old, if it is time; return how many rows."""
        if self._next_s is not None and now_s < self._next_s:
            return 0
        with self._db.write() as db:
            gone = self._submissions(db, now_s) + self._operations(db, now_s) + self._encounters(db) + self._events(db)
            self._give_up(db, now_s)
        if gone < _AT_ONCE:  # else there is more
            self._next_s = now_s + _EVERY_S
            self._db.compact()
        return gone

    def _submissions(self, db: Connection, now_s: float) -> int:
        old = sa.and_(SUBMISSIONS.c.state.in_(list(TERMINAL)), SUBMISSIONS.c.accepted_at_s < now_s - self._keep_s)
        ids = list(db.execute(sa.select(SUBMISSIONS.c.id).where(old).limit(_AT_ONCE)).scalars())
        db.execute(sa.delete(OPERATIONS).where(OPERATIONS.c.batch.in_(ids)))  # they came before their batch
        db.execute(sa.delete(ATTEMPTS).where(ATTEMPTS.c.submission.in_(ids)))
        db.execute(sa.delete(SUBMISSIONS).where(SUBMISSIONS.c.id.in_(ids)))
        return len(ids)

    def _operations(self, db: Connection, now_s: float) -> int:
        old = sa.and_(OPERATIONS.c.over.is_(True), OPERATIONS.c.accepted_at_s < now_s - self._keep_s)
        numbers = list(db.execute(sa.select(OPERATIONS.c.number).where(old).limit(_AT_ONCE)).scalars())
        db.execute(sa.delete(OPERATIONS).where(OPERATIONS.c.number.in_(numbers)))
        return len(numbers)

    def _encounters(self, db: Connection) -> int:
        """Encounters that ended long ago, in chain time."""
        old_block = self._old_block(db)
        ended = ENCOUNTERS.c.closed_block <= old_block
        keys = list(db.execute(sa.select(ENCOUNTERS.c.encounter).where(ended).limit(_AT_ONCE)).scalars())
        for table in (EVENTS, TERMS, SALTS, ENCOUNTERS):
            db.execute(sa.delete(table).where(table.c.encounter.in_(keys)))
        return len(keys)

    def _events(self, db: Connection) -> int:
        """Old events about accounts."""
        old = sa.and_(EVENTS.c.encounter.is_(None), EVENTS.c.block <= self._old_block(db), EVENTS.c.name.not_in(_KEPT))
        numbers = list(db.execute(sa.select(EVENTS.c.number).where(old).limit(_AT_ONCE)).scalars())
        db.execute(sa.delete(EVENTS).where(EVENTS.c.number.in_(numbers)))
        return len(numbers)

    def _old_block(self, db: Connection) -> int:
        """The newest block of an event that is too old, -1 if there is none."""
        head_s = db.execute(sa.select(sa.func.max(BLOCKS.c.time_s))).scalar() or 0
        found = db.execute(
            sa.select(sa.func.max(EVENTS.c.block)).where(EVENTS.c.block_time_s < head_s - self._keep_s)
        ).scalar()
        return -1 if found is None else int(found)

    def _give_up(self, db: Connection, now_s: float) -> None:
        db.execute(
            sa.update(SUBMISSIONS)
            .where(SUBMISSIONS.c.state == State.ACCEPTED, SUBMISSIONS.c.accepted_at_s < now_s - self._unsent_s)
            .values(state=after(State.ACCEPTED, Happening.TOO_LATE), note=UNSENT_NOTE)
        )
