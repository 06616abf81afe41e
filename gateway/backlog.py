"""How much that is not done yet the gateway keeps, for one account and for all.

Openings are signed by whoever likes to, and whether an account has the stake for one is not asked here: the stake may
come in the block before. They wait until their `open_by`, so what bounds them is this count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from gateway.config import Limits
from gateway.cooperation import elsewhere
from gateway.errors import Code, Refusal
from gateway.submissions import IN_NO_BLOCK
from gateway.tables import OPERATIONS, SUBMISSIONS, Database

_RETRY_AFTER_S: Final = 60
_BELIEVED_S: Final = 1.0
_IN_NO_BLOCK: Final[sa.ColumnElement[bool]] = SUBMISSIONS.c.state.in_(IN_NO_BLOCK)
_IN_NO_BATCH: Final[sa.ColumnElement[bool]] = sa.and_(OPERATIONS.c.batch.is_(None), OPERATIONS.c.over.is_(False))
_PERMIT: Final = "permit"


def _count(table: sa.Table, chosen: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(chosen).scalar_subquery()


# Whose a permit is only the chain can tell: nobody may fill up the account of another with false ones.
_OWN: Final = sa.and_(OPERATIONS.c.account == sa.bindparam("account"), OPERATIONS.c.function != _PERMIT)
_WAITING: Final = sa.select(
    _count(SUBMISSIONS, _IN_NO_BLOCK),
    _count(OPERATIONS, _IN_NO_BATCH),
    _count(SUBMISSIONS, sa.and_(_IN_NO_BLOCK, SUBMISSIONS.c.sender == sa.bindparam("account"))),
    _count(OPERATIONS, sa.and_(_IN_NO_BATCH, _OWN)),
)


class Backlog:
    """Counts what waits in one database.

    To count for each piece of work would cost more than to take it. So what was counted, and what was let in since,
    is taken for what waits while that is not yet too much, and counted anew before anything is refused. Others write
    to the same database too, so no count is believed for longer than a second.
    """

    def __init__(self, database: Database, limits: Limits, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Set what may wait; `clock_s` is any clock in seconds."""
        self._db = database
        self._limits = limits
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._forget()

    def check(self, account: str | None) -> None:
        """Make sure that there is room for one thing more, of an account if it has one. Raises `Refusal` 429.

        Requests at the same moment may each find the last place free: the bound is exceeded by no more than there are
        requests at work, and by what other gateways on the same database take in a second.
        """
        if self._fits(account):
            return
        of_all, of_account = elsewhere(lambda: self._waiting(account))
        with self._lock:
            if self._clock_s() - self._counted_at_s >= _BELIEVED_S:
                self._forget()
            self._of_all, self._of[account] = of_all, of_account
        if of_all >= self._limits.undone_in_all:
            raise _full("this gateway has as much to do as it takes")
        if account is not None and of_account >= self._limits.undone_per_account:
            raise _full(f"{account} has {self._limits.undone_per_account} things here that are not done yet")
        self._fits(account)

    def _forget(self) -> None:
        self._counted_at_s = self._clock_s()
        self._of_all = 0
        self._of: dict[str | None, int] = {}

    def _fits(self, account: str | None) -> bool:
        """Whether there is room for one thing more, as far as is known; if so it is counted."""
        with self._lock:
            of_account = self._of.get(account)
            if of_account is None or self._clock_s() - self._counted_at_s >= _BELIEVED_S:
                return False
            if self._of_all >= self._limits.undone_in_all:
                return False
            if account is not None and of_account >= self._limits.undone_per_account:
                return False
            self._of_all += 1
            self._of[account] = of_account + 1
            return True

    def _waiting(self, account: str | None) -> tuple[int, int]:
        """How much waits in all, and of an account; in one query."""
        with self._db.read() as db:
            submissions, operations, own_submissions, own_operations = db.execute(_WAITING, {"account": account}).one()
        return submissions + operations, own_submissions + own_operations


def _full(why: str) -> Refusal:
    headers = {"Retry-After": str(_RETRY_AFTER_S)}
    return Refusal(429, Code.TOO_MUCH_UNDONE, f"{why}; hand it in later", retry=True, headers=headers)
