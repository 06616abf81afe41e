"""What the gateway must not lose, in SQLite (default) or PostgreSQL through SQLAlchemy.

Every public method is one transaction: when it returns, its write is on disk (SQLite: WAL, synchronous=FULL).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contracts.calls import Call, decode
from gateway.answers import Outcome
from gateway.due import Due, accounts_due, mark_held_back, read_due, read_free_nonce, read_overtaken
from gateway.encounters import rewind_encounters, tell_encounter
from gateway.errors import Code, Refusal, StoreUnavailable
from gateway.fees import takes_the_place_of
from gateway.group_commit import GroupCommit
from gateway.operation import CheckedOperation
from gateway.policy import CheckedTransaction
from gateway.prepared import Prepared
from gateway.records import Block, Mined, NewEvent, Operation, Submission
from gateway.submission import TERMINAL, Happening, State, after
from gateway.submissions import (
    LOOK_UP,
    choice,
    find_holder,
    find_submission,
    insert_attempt,
    insert_submissions,
    mark_final,
    mark_mined,
    mark_reorganised,
    mark_sending,
    read_submissions,
)
from gateway.tables import (
    ATTEMPTS,
    BLOCKS,
    CARRIED,
    ENCOUNTERS,
    EVENTS,
    OPERATIONS,
    SALTS,
    SUBMISSIONS,
    TERMS,
    WAITING,
    Database,
)
from gateway.transaction import read
from gateway.views import EventRow

_KEPT_BLOCKS = 256
_TOLD = ("block", "block_time_s", "tx", "place", "function", "gas", "name", "encounter", "account", "args")
_TELL = Prepared(sa.insert(EVENTS).values({name: sa.bindparam(name) for name in _TOLD}))


class Store:
    """What the relay has been given, and what the chain has shown it."""

    def __init__(self, database: Database) -> None:
        """Keep everything in an open database."""
        self._db = database
        self._accepting = GroupCommit(self._accept)

    def accept(self, checked: CheckedTransaction, *, now_s: float) -> tuple[Submission, bool]:
        """Store a transaction; return its submission and whether anything is new.

        The same bytes again return the record there is. The same effect under the same nonce for a higher offer is a
        further attempt at the same submission, while it is in no block. Raises `Refusal` 409 if the account's nonce is
        held by anything else, and `StoreUnavailable` if nothing was written.
        """
        return self._accepting((checked, now_s))

    def _accept(self, asked: Sequence[tuple[CheckedTransaction, float]]) -> list[tuple[Submission, bool] | Exception]:
        try:
            return self._accept_together(asked)
        except sa.exc.IntegrityError:
            # PostgreSQL only: another gateway stored its row after we looked. It is there to be found now.
            return self._accept_together(asked)

    def _accept_together(
        self, asked: Sequence[tuple[CheckedTransaction, float]]
    ) -> list[tuple[Submission, bool] | Exception]:
        with self._db.write() as db:
            kept = insert_submissions(db, [checked for checked, _ in asked], now_s=max(at_s for _, at_s in asked))
            told: list[tuple[Submission, bool] | Exception] = []
            for checked, _ in asked:
                new = kept.pop(checked.id, None)  # of the same twice, one is new
                try:
                    told.append((new, True) if new is not None else _known_or_raised(db, checked))
                except Refusal as refusal:
                    told.append(refusal)
        return told

    def accept_operation(self, checked: CheckedOperation, *, now_s: float) -> tuple[Operation, bool]:
        """Store an operation; return it and whether it is new. The same bytes again return the record there is.

        Raises `Refusal` 409 if the account has handed in another one of this kind for the encounter, and
        `StoreUnavailable` if nothing was written.
        """
        try:
            return self._accept_operation(checked, now_s=now_s)
        except sa.exc.IntegrityError:
            return self._accept_operation(checked, now_s=now_s)  # PostgreSQL only, as in `accept`

    def _accept_operation(self, checked: CheckedOperation, *, now_s: float) -> tuple[Operation, bool]:
        with self._db.write() as db:
            found = _operations(db, OPERATIONS.c.id == checked.id)
            if found:
                return found[0], False
            if checked.encounter is not None and checked.account is not None:
                other = db.execute(
                    sa.select(OPERATIONS.c.id).where(
                        OPERATIONS.c.id != checked.id,  # as in `_accept`
                        OPERATIONS.c.encounter == checked.encounter,
                        OPERATIONS.c.account == checked.account,
                        OPERATIONS.c.function == checked.name,
                    )
                ).scalar()
                if other is not None:
                    words = f"{checked.account} has handed in another {checked.name} for this encounter: {other}"
                    raise Refusal(409, Code.ALREADY_HELD, words)
            db.execute(
                sa.insert(OPERATIONS).values(
                    id=checked.id,
                    function=checked.name,
                    encounter=checked.encounter,
                    account=checked.account,
                    data=checked.data,
                    accepted_at_s=now_s,
                )
            )
            return _operations(db, OPERATIONS.c.id == checked.id)[0], True

    def operation(self, key: str) -> Operation | None:
        """Return one operation by its id."""
        with self._db.read() as db:
            found = _operations(db, OPERATIONS.c.id == key)
        return found[0] if found else None

    def waiting_operations(self, encounter: str | None = None) -> list[Operation]:
        """Return what no batch carries and what can still do something, of one encounter if given, oldest first.

        What was in a batch that failed as a whole, or whose nonce another transaction took, waits again.
        """
        with self._db.read() as db:
            return _operations(db, WAITING if encounter is None else WAITING & (OPERATIONS.c.encounter == encounter))

    def waiting_count(self) -> int:
        """Return how many operations wait."""
        with self._db.read() as db:
            return int(db.execute(sa.select(sa.func.count()).select_from(CARRIED).where(WAITING)).scalar_one())

    def handed_in(self, function: str) -> list[str]:
        """Return the encounters about which an operation of one kind waits, the one waiting longest first."""
        with self._db.read() as db:
            found = db.execute(
                sa.select(OPERATIONS.c.encounter)
                .select_from(CARRIED)
                .where(WAITING, OPERATIONS.c.function == function)
                .order_by(OPERATIONS.c.number)
            ).scalars()
            return list(dict.fromkeys(found))

    def begin_batch(
        self, checked: CheckedTransaction, carried: Sequence[Sequence[int]], *, now_s: float, note: str | None = None
    ) -> bool:
        """Store a transaction of the operator's and, in the same write, which operations each of its calls carries out
        (their numbers).

        Returns false, and writes nothing, if another one holds its nonce.
        """
        with self._db.write() as db:
            if not insert_submissions(db, [checked], now_s=now_s, note=note):
                return False
            for place, numbers in enumerate(carried):
                db.execute(
                    sa.update(OPERATIONS)
                    .where(OPERATIONS.c.number.in_(numbers))
                    .values(batch=checked.id, place=place, note=None)
                )
        return True

    def remark(self, notes: dict[int, str], *, over: Sequence[int] = ()) -> None:
        """Keep why operations (by number) were not done, and which of them can do nothing any more."""
        if not notes and not over:
            return
        with self._db.write() as db:
            for number, words in notes.items():
                db.execute(sa.update(OPERATIONS).where(OPERATIONS.c.number == number).values(note=words))
            db.execute(sa.update(OPERATIONS).where(OPERATIONS.c.number.in_(over)).values(over=True))

    def under_way(self, sender: str) -> bool:
        """Return whether an account has a submission that is in no block yet."""
        return self.look_up("", sender)[1]

    def look_up(self, transaction: str, sender: str) -> tuple[Submission | None, bool]:
        """Return the submission that has this transaction among its attempts, and whether an account has any
        submission that is in no block yet: what has to be known of a transaction before it is taken.
        """
        ((key, under_way),) = self._db.glance(LOOK_UP, {"transaction": transaction, "account": sender})
        return None if key is None else self.submission(transaction), bool(under_way)

    def submission(self, key: str) -> Submission | None:
        """Return the submission that has a transaction of this hash among its attempts."""
        with self._db.read() as db:
            return find_submission(db, key)

    def submissions(self) -> list[Submission]:
        """Return all there are, by account and nonce."""
        with self._db.read() as db:
            return read_submissions(db, choice(sa.true()))

    def unsettled(self) -> list[Submission]:
        """Return everything not yet terminal, by account and nonce."""
        with self._db.read() as db:
            return read_submissions(db, choice(SUBMISSIONS.c.state.not_in(list(TERMINAL))))

    def free_nonce(self, account: str, *, at_least: int) -> int:
        """Return the lowest nonce from `at_least` on that nothing held here uses: a gap comes first."""
        with self._db.read() as db:
            return read_free_nonce(db, account, at_least)

    def accounts_due(self, *, operator: str, stale_s: float) -> list[str]:
        """Return the accounts that may have something to send: what is new, or what was sent up to `stale_s`."""
        with self._db.read() as db:
            return accounts_due(db, operator=operator, stale_s=stale_s)

    def due(self, account: str, used: int, *, operator: str, stale_s: float, waits: str, most: int) -> Due:
        """Return what an account has to send whose next nonce on the chain is `used`; see `read_due`."""
        with self._db.read() as db:
            return read_due(db, account, used, operator=operator, stale_s=stale_s, waits=waits, most=most)

    def hold_back(self, account: str, following: int, *, waits: str) -> None:
        """Say of an account's transactions that they wait for a nonce."""
        with self._db.write() as db:
            mark_held_back(db, account, following, waits)

    def overtaken(self, account: str, used: int) -> list[Submission]:
        """Return what is in no block known here though the account's nonce is beyond it."""
        with self._db.read() as db:
            return read_overtaken(db, account, used)

    def sending(self, submissions: Sequence[Submission], *, now_s: float) -> None:
        """Write down, before the fact, that the newest attempts at these are about to be handed to a node."""
        if not submissions:
            return
        with self._db.write() as db:
            mark_sending(db, submissions, now_s=now_s)

    def raise_offer(self, one: Submission, *, transaction: str, raw: bytes) -> Submission:
        """Keep a further attempt at a submission, before it is sent; return the submission with it."""
        with self._db.write() as db:
            return insert_attempt(db, one, transaction=transaction, raw=raw)

    def seen(self, submissions: Sequence[Submission], *, now_s: float) -> None:
        """Write down that the node still has these: they need not be sent again for a while."""
        if not submissions:
            return
        with self._db.write() as db:
            hashes = [one.newest.hash for one in submissions]
            db.execute(sa.update(ATTEMPTS).where(ATTEMPTS.c.hash.in_(hashes)).values(sent_at_s=now_s))

    def happened(self, one: Submission, happening: Happening, *, note: str | None = None) -> None:
        """Move one submission along its table, unless it has moved since it was read."""
        with self._db.write() as db:
            db.execute(
                sa.update(SUBMISSIONS)
                .where(SUBMISSIONS.c.id == one.id, SUBMISSIONS.c.state == one.state)
                .values(state=after(one.state, happening), note=note)
            )

    def answered(self, said: Mapping[str, tuple[Outcome, str | None]]) -> None:
        """Keep what a node said at the last send of some submissions, and in which words where that matters."""
        if not said:
            return
        with self._db.write() as db:
            for key, (outcome, note) in said.items():
                db.execute(sa.update(SUBMISSIONS).where(SUBMISSIONS.c.id == key).values(said=outcome.value, note=note))

    def head(self) -> Block | None:
        """Return the last block consumed."""
        with self._db.read() as db:
            row = db.execute(sa.select(BLOCKS).order_by(BLOCKS.c.number.desc()).limit(1)).first()
        return None if row is None else Block(number=row.number, hash=row.hash, time_s=row.time_s)

    def settled_height(self) -> int:
        """Return the highest block whose transactions of ours are final or reverted, 0 if there is none."""
        with self._db.read() as db:
            highest = db.execute(
                sa.select(sa.func.max(SUBMISSIONS.c.block)).where(
                    SUBMISSIONS.c.state.in_([State.FINAL, State.REVERTED])
                )
            ).scalar()
        return int(highest or 0)

    def block_hash(self, number: int) -> str | None:
        """Return the hash under which a recent block was consumed."""
        with self._db.read() as db:
            return db.execute(sa.select(BLOCKS.c.hash).where(BLOCKS.c.number == number)).scalar()

    def consume(
        self,
        block: Block,
        *,
        mined: Sequence[Mined],
        events: Sequence[NewEvent],
        terms: dict[str, dict[str, Any]],
        salts: dict[str, tuple[str, str]],
        final_block: int,
    ) -> list[int]:
        """Store everything one block showed, and finalise what lies at or below `final_block`.

        Returns how often each submission that the block held had been sent. Terms and salts prove themselves, by the
        encounter's id: a block that is forgotten takes none back.
        """
        with self._db.write() as db:
            carried = mark_mined(db, mined, block.number)
            for encounter, value in terms.items():
                known = db.execute(sa.select(TERMS.c.encounter).where(TERMS.c.encounter == encounter)).first()
                if known is None:
                    db.execute(sa.insert(TERMS).values(encounter=encounter, terms=json.dumps(value)))
            for encounter, (learner, neighbor) in salts.items():
                known = db.execute(sa.select(SALTS.c.encounter).where(SALTS.c.encounter == encounter)).first()
                if known is None:
                    db.execute(sa.insert(SALTS).values(encounter=encounter, learner=learner, neighbor=neighbor))
            _insert_events(db, events, block)
            for event in events:
                if event.name == "Skipped" and event.transaction in carried:
                    db.execute(
                        sa.update(OPERATIONS)
                        .where(
                            OPERATIONS.c.batch == carried[event.transaction].id,
                            OPERATIONS.c.place == event.place,
                        )
                        .values(batch=None, place=None, note=event.args["error"])
                    )
            db.execute(sa.insert(BLOCKS).values(number=block.number, hash=block.hash, time_s=block.time_s))
            oldest = min(block.number, max(final_block, 0)) - _KEPT_BLOCKS  # all that may still be reorganised is kept
            db.execute(sa.delete(BLOCKS).where(BLOCKS.c.number <= oldest))
            mark_final(db, final_block)
            return [one.sends for one in carried.values()]

    def finalise(self, final_block: int) -> None:
        """Finalise what lies at or below `final_block`."""
        with self._db.write() as db:
            mark_final(db, final_block)

    def rewind(self, last_good: int) -> None:
        """Forget every block above `last_good`: its events go, its submissions are broadcast again."""
        with self._db.write() as db:
            mark_reorganised(db, last_good)
            db.execute(sa.delete(EVENTS).where(EVENTS.c.block > last_good))
            rewind_encounters(db, last_good)
            db.execute(sa.delete(BLOCKS).where(BLOCKS.c.number > last_good))

    def terms(self, encounter: str) -> dict[str, Any] | None:
        """Return the terms of an encounter as JSON values."""
        with self._db.read() as db:
            text = db.execute(sa.select(TERMS.c.terms).where(TERMS.c.encounter == encounter)).scalar()
        return None if text is None else json.loads(text)

    def salts(self, encounter: str) -> tuple[str, str] | None:
        """Return the Learner's and the Neighbor's salt, once a report revealed them."""
        with self._db.read() as db:
            row = db.execute(sa.select(SALTS).where(SALTS.c.encounter == encounter)).first()
        return None if row is None else (row.learner, row.neighbor)

    def encounter_events(self, encounter: str) -> list[EventRow]:
        """Return an encounter's events, oldest first."""
        return self._rows(sa.select(EVENTS).where(EVENTS.c.encounter == encounter).order_by(EVENTS.c.number))

    def events_after(self, number: int, *, limit: int) -> list[EventRow]:
        """Return the feed after `number`, oldest first."""
        return self._rows(sa.select(EVENTS).where(EVENTS.c.number > number).order_by(EVENTS.c.number).limit(limit))

    def latest(self, *names: str) -> list[EventRow]:
        """Return the events of these names, oldest first."""
        return self._rows(sa.select(EVENTS).where(EVENTS.c.name.in_(names)).order_by(EVENTS.c.number))

    def seats(self) -> dict[int, str]:
        """Return who holds which seat."""
        held: dict[int, str] = {}
        for row in self.latest("ValidatorRegistered", "SeatVacated"):
            if row.name == "SeatVacated":
                held.pop(int(row.args["seat"]), None)
            else:
                held[int(row.args["seat"])] = str(row.args["validator"])
        return held

    def open_votings(self, *, at_s: int) -> list[str]:
        """Return the encounters in which a vote after chain time `at_s` can still count, oldest first."""
        with self._db.read() as db:
            return list(
                db.execute(
                    sa.select(ENCOUNTERS.c.encounter)
                    .where(ENCOUNTERS.c.closed_block.is_(None), ENCOUNTERS.c.vote_by_s > at_s)
                    .order_by(ENCOUNTERS.c.voting_block, ENCOUNTERS.c.encounter)
                ).scalars()
            )

    def to_look_at(self, *, at_s: int, limit: int) -> list[str]:
        """Return the encounters under way at which the keeper is to look at chain time `at_s`, oldest first."""
        with self._db.read() as db:
            return list(
                db.execute(
                    sa.select(ENCOUNTERS.c.encounter)
                    .where(ENCOUNTERS.c.closed_block.is_(None), ENCOUNTERS.c.look_at_s <= at_s)
                    .order_by(ENCOUNTERS.c.block, ENCOUNTERS.c.encounter)
                    .limit(limit)
                ).scalars()
            )

    def look_again(self, times: dict[str, int]) -> None:
        """Set from which chain time on the keeper is to look at encounters again."""
        if not times:
            return
        with self._db.write() as db:
            for encounter, at_s in times.items():
                db.execute(sa.update(ENCOUNTERS).where(ENCOUNTERS.c.encounter == encounter).values(look_at_s=at_s))

    def counts(self) -> dict[str, int]:
        """Return how many submissions stand in each state."""
        with self._db.read() as db:
            rows = db.execute(sa.select(SUBMISSIONS.c.state, sa.func.count()).group_by(SUBMISSIONS.c.state)).all()
        return {state.value: 0 for state in State} | {str(state): int(count) for state, count in rows}

    def _rows(self, query: sa.Select[Any]) -> list[EventRow]:
        with self._db.read() as db:
            return [
                EventRow(
                    number=row["number"],
                    block=row["block"],
                    block_time_s=row["block_time_s"],
                    transaction=row["tx"],
                    place=row["place"],
                    function=row["function"],
                    gas=row["gas"],
                    name=row["name"],
                    encounter=row["encounter"],
                    account=row["account"],
                    args=json.loads(row["args"]),
                )
                for row in db.execute(query).mappings()
            ]


@lru_cache(maxsize=1024)
def _decoded(data: bytes) -> Call:
    """What waits is read over and over, until it is done."""
    return decode(data)


def _operations(db: Connection, chosen: sa.ColumnElement[bool]) -> list[Operation]:
    rows = db.execute(
        sa.select(OPERATIONS, SUBMISSIONS.c.state, SUBMISSIONS.c.mined)
        .select_from(CARRIED)
        .where(chosen)
        .order_by(OPERATIONS.c.number)
    ).mappings()
    return [
        Operation(
            number=row["number"],
            id=row["id"],
            function=row["function"],
            call=_decoded(bytes(row["data"])),
            encounter=row["encounter"],
            account=row["account"],
            accepted_at_s=row["accepted_at_s"],
            batch=row["batch"],
            place=row["place"],
            note=row["note"],
            over=row["over"],
            carried=None if row["state"] is None else State(row["state"]),
            mined=row["mined"],
        )
        for row in rows
    ]


def _known_or_raised(db: Connection, checked: CheckedTransaction) -> tuple[Submission, bool]:
    """What there is of a transaction that is not new, or whose nonce is held: a higher offer is kept beside it."""
    known = find_submission(db, checked.id)
    if known is not None:
        return known, False
    holder = find_holder(db, checked.sender, checked.nonce)
    if holder is None:
        raise StoreUnavailable(f"what stood in the way of {checked.id} was forgotten at this moment")
    _check_replacement(checked, holder)
    return insert_attempt(db, holder, transaction=checked.id, raw=checked.raw), True


def _check_replacement(checked: CheckedTransaction, holder: Submission) -> None:
    """Refuse another transaction for a nonce, unless it can take the place of the one that has it."""
    words = f"nonce {checked.nonce} of {checked.sender} is taken by {holder.id}"
    new, old = read(checked.raw), read(holder.newest.raw)
    if holder.state in (State.INCLUDED, *TERMINAL) or new.effect != old.effect:
        raise Refusal(409, Code.NONCE_TAKEN, words)
    if not takes_the_place_of(new.fees, old.fees):
        words += ": to take its place, both tip and fee cap have to be higher by a tenth"
        raise Refusal(409, Code.NONCE_TAKEN, words)


def _insert_events(db: Connection, events: Sequence[NewEvent], block: Block) -> None:
    if not events:
        return
    rows: list[dict[str, object]] = [
        {
            "block": block.number,
            "block_time_s": block.time_s,
            "tx": event.transaction,
            "place": event.place,
            "function": event.function,
            "gas": event.gas,
            "name": event.name,
            "encounter": event.encounter,
            "account": event.account,
            "args": json.dumps(event.args),
        }
        for event in events
    ]
    _TELL.many(db, rows)
    for event in events:
        if event.encounter is not None and event.name != "Skipped":
            tell_encounter(db, event, block)
