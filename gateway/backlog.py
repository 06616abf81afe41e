"""How much that is not done yet the gateway keeps, for one account and for all.

Openings are signed by whoever likes to, and whether an account has the stake for one is not asked here: the stake may
come in the block before. They wait until their `open_by`, so what bounds them is this count.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from gateway.config import Limits
from gateway.errors import Code, Refusal
from gateway.submission import State
from gateway.tables import OPERATIONS, SUBMISSIONS, Database

_RETRY_AFTER_S: Final = 60
_IN_NO_BLOCK: Final[sa.ColumnElement[bool]] = SUBMISSIONS.c.state.in_((State.ACCEPTED, State.READY, State.BROADCAST))
_IN_NO_BATCH: Final[sa.ColumnElement[bool]] = sa.and_(OPERATIONS.c.batch.is_(None), OPERATIONS.c.over.is_(False))
_PERMIT: Final = "permit"


class Backlog:
    """Counts what waits in one database."""

    def __init__(self, database: Database, limits: Limits) -> None:
        """Set what may wait."""
        self._db = database
        self._limits = limits

    def check(self, account: str | None) -> None:
        """Make sure that there is room for one thing more, of an account if it has one. Raises `Refusal` 429.

        Requests at the same moment may each find the last place free: the bound is exceeded by no more than there are
        threads.
        """
        of_all, of_account = self._waiting(account)
        if of_all >= self._limits.undone_in_all:
            raise _full("this gateway has as much to do as it takes")
        if account is not None and of_account >= self._limits.undone_per_account:
            raise _full(f"{account} has {self._limits.undone_per_account} things here that are not done yet")

    def _waiting(self, account: str | None) -> tuple[int, int]:
        """How much waits in all, and of an account; in one query, since every piece of work asks."""
        # Whose a permit is only the chain can tell: nobody may fill up the account of another with false ones.
        own = sa.and_(OPERATIONS.c.account == account, OPERATIONS.c.function != _PERMIT)
        counts = (
            _count(SUBMISSIONS, _IN_NO_BLOCK),
            _count(OPERATIONS, _IN_NO_BATCH),
            _count(SUBMISSIONS, sa.and_(_IN_NO_BLOCK, SUBMISSIONS.c.sender == account)),
            _count(OPERATIONS, sa.and_(_IN_NO_BATCH, own)),
        )
        with self._db.read() as db:
            submissions, operations, own_submissions, own_operations = db.execute(sa.select(*counts)).one()
        return submissions + operations, own_submissions + own_operations


def _count(table: sa.Table, chosen: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(chosen).scalar_subquery()


def _full(why: str) -> Refusal:
    headers = {"Retry-After": str(_RETRY_AFTER_S)}
    return Refusal(429, Code.TOO_MUCH_UNDONE, f"{why}; hand it in later", retry=True, headers=headers)
