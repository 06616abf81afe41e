"""What has to be sent, in the database: per account in the order of nonces, however much waits behind it.

The nonces of an account that something here holds, from the one on that the chain expects next, are a run with gaps.
Up to the first gap all may be sent; what lies behind it waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.answers import Outcome
from gateway.prepared import Prepared
from gateway.records import Submission
from gateway.submission import State
from gateway.submissions import IN_NO_BLOCK, choice, read_submissions
from gateway.tables import ATTEMPTS, SUBMISSIONS, holds_its_nonce, stands_at

_UNSENT: Final = (State.ACCEPTED, State.READY)

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
_ACCOUNTS_DUE: Final = Prepared(
    sa.union(
        sa.select(SUBMISSIONS.c.sender).where(stands_at(_UNSENT)),
        sa.select(SUBMISSIONS.c.sender).where(_STALE),
    )
)

_OF_ACCOUNT: Final = SUBMISSIONS.c.sender == sa.bindparam("account")
_NEXT_NONCE: Final = SUBMISSIONS.c.nonce + 1
_NEXT: Final = SUBMISSIONS.alias("next_one")
_ENDS_A_RUN: Final = Prepared(
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
_FIRST: Final = Prepared(sa.select(sa.func.min(SUBMISSIONS.c.nonce)).where(_FROM_USED_ON, holds_its_nonce()))
_TO_SEND: Final = choice(
    sa.and_(
        _FROM_USED_ON,
        sa.or_(
            sa.and_(stands_at(_UNSENT), SUBMISSIONS.c.nonce < sa.bindparam("following")),
            _STALE,
        ),
    ),
    most=sa.bindparam("most", type_=sa.Integer),
)
_OVERTAKEN: Final = sa.and_(_OF_ACCOUNT, stands_at(IN_NO_BLOCK), SUBMISSIONS.c.nonce < sa.bindparam("used"))
_HELD_BACK: Final = sa.and_(
    _OF_ACCOUNT,
    SUBMISSIONS.c.state == State.ACCEPTED,
    SUBMISSIONS.c.nonce > sa.bindparam("following"),
    SUBMISSIONS.c.note.is_distinct_from(sa.bindparam("words")),
)
_IS_OVERTAKEN: Final = Prepared(sa.select(sa.exists().where(_OVERTAKEN)))
_IS_HELD_BACK: Final = Prepared(sa.select(sa.exists().where(_HELD_BACK)))
_HOLD_BACK: Final = sa.update(SUBMISSIONS).where(_HELD_BACK).values(note=sa.bindparam("words"))


def accounts_due(db: Connection, *, operator: str, stale_s: float) -> list[str]:
    """Return the accounts that have something to send; what was sent up to `stale_s` is looked after."""
    return sorted(account for (account,) in _ACCOUNTS_DUE(db, {"operator": operator, "stale_s": stale_s}))


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
        to_send=read_submissions(db, _TO_SEND, values | {"most": most}),
        overtaken=bool(_IS_OVERTAKEN(db, values)[0][0]),
        held_back=bool(_IS_HELD_BACK(db, values)[0][0]),
    )


def read_free_nonce(db: Connection, account: str, at_least: int) -> int:
    """Return the lowest nonce from `at_least` on that nothing here holds."""
    return _run_of_nonces(db, {"account": account, "used": at_least})[1]


def _run_of_nonces(db: Connection, values: dict[str, Any]) -> tuple[int | None, int]:
    """The lowest nonce from the used one on that something here holds, and the lowest that nothing holds."""
    ((first,),) = _FIRST(db, values)
    used = int(values["used"])
    after_run = _ENDS_A_RUN(db, values) if first == used else []
    return first, int(after_run[0][0]) if after_run else used  # PostgreSQL: freed since we looked


def read_overtaken(db: Connection, account: str, used: int) -> list[Submission]:
    """Return what is in no block known here though the account's nonce is beyond it."""
    return read_submissions(db, choice(_OVERTAKEN), {"account": account, "used": used})


def mark_held_back(db: Connection, account: str, following: int, waits: str) -> None:
    """Say of what waits for a nonce that it does."""
    db.execute(_HOLD_BACK, {"account": account, "following": following, "words": waits.format(following)})
