"""How a gateway stands, as its database tells: numbers for `/metrics`, `/v1/status` and the dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.enrolment import counts
from gateway.records import Block
from gateway.store import Store
from gateway.submission import FREED, TERMINAL, State
from gateway.tables import BLOCKS, CARRIED, OPERATIONS, SUBMISSIONS, WAITING, Database

_RECENT_BATCHES: Final = 30
_SIZE: Final = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "postgresql": "SELECT pg_database_size(current_database())",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """One batch: its submission's id, state, block, gas, and how many operations it carries."""

    id: str
    state: State
    block: int | None
    gas: int | None
    operations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The numbers.

    Attributes:
        submissions: how many stand in each state.
        oldest_unsettled_s: age of the oldest one that is not terminal; 0 if there is none.
        operations_waiting: how many operations no batch carries.
        oldest_operation_s: age of the oldest of them; 0 if there is none.
        head: the newest block consumed.
        block_times_s: timestamps of recent blocks by number.
        store_bytes: size of the database.
        batches: the newest ones, newest first.
        devices: how many are enrolled and not revoked.
        open_tokens: how many can still be redeemed.
    """

    submissions: Mapping[str, int]
    oldest_unsettled_s: float
    operations_waiting: int
    oldest_operation_s: float
    head: Block | None
    block_times_s: Mapping[int, int]
    store_bytes: int
    batches: Sequence[BatchRow]
    devices: int
    open_tokens: int

    def lag_s(self, number: int) -> int | None:
        """Return how much chain time lies between a block and the head, at least: an older one than is known counts as
        the oldest known. None for a block that was not read yet.
        """
        known = [one for one in self.block_times_s if one >= number]
        if self.head is None or not known:
            return None
        return self.head.time_s - self.block_times_s[min(known)]


def standing(database: Database, store: Store, *, operator: str, now_s: float) -> Standing:
    """Read how the gateway stands. Raises `StoreUnavailable`.

    Args:
        database: of the gateway.
        store: over it.
        operator: whose batches are told.
        now_s: wall clock, Unix seconds.
    """
    unsettled = [state for state in State if state not in TERMINAL]
    submissions, head = store.counts(), store.head()
    with database.read() as db:
        oldest = sa.select(sa.func.min(SUBMISSIONS.c.accepted_at_s)).where(SUBMISSIONS.c.state.in_(unsettled))
        waiting = sa.select(sa.func.count(), sa.func.min(OPERATIONS.c.accepted_at_s))
        count, oldest_operation = db.execute(waiting.select_from(CARRIED).where(WAITING)).one()
        devices, open_tokens = counts(db, now_s=now_s)
        times = db.execute(sa.select(BLOCKS.c.number, BLOCKS.c.time_s)).all()
        return Standing(
            submissions=submissions,
            oldest_unsettled_s=_age_s(db.execute(oldest).scalar(), now_s),
            operations_waiting=count,
            oldest_operation_s=_age_s(oldest_operation, now_s),
            head=head,
            block_times_s={row.number: row.time_s for row in times},
            store_bytes=int(db.execute(sa.text(_SIZE[db.dialect.name])).scalar_one()),
            batches=_batches(db, operator),
            devices=devices,
            open_tokens=open_tokens,
        )


def _age_s(since_s: float | None, now_s: float) -> float:
    return 0.0 if since_s is None else max(0.0, now_s - since_s)


def _batches(db: Connection, operator: str) -> list[BatchRow]:
    newest = (
        sa.select(SUBMISSIONS)
        .where(SUBMISSIONS.c.sender == operator, SUBMISSIONS.c.function == "batch", SUBMISSIONS.c.state.not_in(FREED))
        .order_by(SUBMISSIONS.c.nonce.desc())
        .limit(_RECENT_BATCHES)
    )
    rows = db.execute(newest).mappings().all()
    carried = sa.select(OPERATIONS.c.batch, sa.func.count().label("operations")).group_by(OPERATIONS.c.batch)
    counted = db.execute(carried.where(OPERATIONS.c.batch.in_([row["id"] for row in rows]))).all()
    sizes = {row.batch: row.operations for row in counted}
    return [
        BatchRow(
            id=row["id"],
            state=State(row["state"]),
            block=row["block"],
            gas=row["gas"],
            operations=sizes.get(row["id"], 0),
        )
        for row in rows
    ]
