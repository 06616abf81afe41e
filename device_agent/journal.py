"""What the device must not forget, in SQLite: commit first, then perform.

An event becomes a new record and the effects that are due; both are committed in one transaction before any effect
is performed, and an effect is struck off once it is done. After a crash the effects still listed are performed
again, so every effect must bear being performed twice.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.terms import terms_from_json, terms_to_json
from device_agent.encounter import Effect, Encounter, Role, Stage
from device_agent.errors import JournalFault
from device_agent.messages import Propose
from device_agent.radio import PeerId

_SCHEMA = """
CREATE TABLE IF NOT EXISTS encounters (key BLOB PRIMARY KEY, live INTEGER NOT NULL, record TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS live_encounters ON encounters (live) WHERE live;
CREATE TABLE IF NOT EXISTS effects (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, effect TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, data BLOB NOT NULL, value_wei TEXT NOT NULL,
    label TEXT NOT NULL UNIQUE, nonce INTEGER, raw BLOB, delivered INTEGER NOT NULL DEFAULT 0, error TEXT,
    relayed INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS undelivered ON operations (delivered) WHERE NOT delivered;
CREATE TABLE IF NOT EXISTS snapshots (digest BLOB PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS peers (peer TEXT PRIMARY KEY, record TEXT NOT NULL, at_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS stakes (address TEXT PRIMARY KEY, free TEXT NOT NULL, at_s REAL NOT NULL);
"""
_VERSION = 3
_REMEMBERED = 1024
"""Peers, and stakes of accounts: whoever was not heard of for longest is forgotten."""
_BEFORE_RELAYING = 2
"""A version whose operations were all transactions: it is brought up to date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A step on chain to be handed over: calldata for a contract, under a label that makes it unique.

    A transaction, whose `raw` and `nonce` are set once it is signed; it keeps them, so that sending it again sends the
    same bytes. Or, if `relayed`, a call that carries its signatures in itself, and that the gateway sends.
    """

    id: int
    target: str
    data: bytes
    value_wei: int
    label: str
    nonce: int | None
    raw: bytes | None
    relayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOperation:
    """An operation not yet in the journal. A label that is there already is not entered twice."""

    target: str
    data: bytes
    label: str
    value_wei: int = 0
    relayed: bool = False


class Journal:
    """One device's journal. Every method that writes is durable when it returns."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises `JournalFault` if that cannot be done."""
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise JournalFault(f"cannot open the journal {path}: {error}") from error
        try:
            self._prepare(path)
        except sqlite3.Error as error:
            self._db.close()
            raise JournalFault(f"cannot open the journal {path}: {error}") from error
        except JournalFault:
            self._db.close()
            raise

    def _prepare(self, path: Path) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _BEFORE_RELAYING, _VERSION):
            raise JournalFault(f"{path} is a journal of version {found}; this agent reads version {_VERSION}")
        self._db.executescript(_SCHEMA)
        if found == _BEFORE_RELAYING:
            self._db.execute("ALTER TABLE operations ADD COLUMN relayed INTEGER NOT NULL DEFAULT 0")
        self._db.execute(f"PRAGMA user_version={_VERSION}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _commit(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise JournalFault(f"the journal did not take a write: {error}") from error
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def record(
        self,
        encounter: Encounter,
        *,
        effects: tuple[Effect, ...] = (),
        snapshot: tuple[bytes, bytes] | None = None,
    ) -> list[tuple[int, Effect]]:
        """Commit an encounter with its due effects, and a (digest, data) that came with it.

        Returns the effects with the ids under which `performed` strikes them off.
        """
        with self._commit() as db:
            db.execute(
                "INSERT INTO encounters VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE"
                " SET live = excluded.live, record = excluded.record",
                (encounter.key, encounter.live, _dump(encounter)),
            )
            if snapshot is not None:
                db.execute("INSERT INTO snapshots VALUES (?, ?) ON CONFLICT DO NOTHING", snapshot)
            ids = [
                db.execute("INSERT INTO effects (key, effect) VALUES (?, ?)", (encounter.key, effect)).lastrowid
                for effect in effects
            ]
        return [(number or 0, effect) for number, effect in zip(ids, effects, strict=True)]

    def performed(self, effect_id: int, operation: NewOperation | None = None) -> None:
        """Strike off an effect, entering in the same transaction the operation it led to."""
        with self._commit() as db:
            db.execute("DELETE FROM effects WHERE id = ?", (effect_id,))
            if operation is not None:
                _enter(db, operation)

    def pending_effects(self) -> list[tuple[int, bytes, Effect]]:
        """Return (id, encounter key, effect) of everything due and not struck off, oldest first."""
        rows = self._db.execute("SELECT id, key, effect FROM effects ORDER BY id").fetchall()
        return [(number, key, Effect(effect)) for number, key, effect in rows]

    def encounter(self, key: bytes) -> Encounter | None:
        """Return one encounter."""
        row = self._db.execute("SELECT record FROM encounters WHERE key = ?", (key,)).fetchone()
        return None if row is None else _load(row[0])

    def live_encounters(self) -> list[Encounter]:
        """Return every encounter that is not over."""
        rows = self._db.execute("SELECT record FROM encounters WHERE live ORDER BY rowid").fetchall()
        return [_load(row[0]) for row in rows]

    def ended(self, stage: Stage, *, limit: int) -> list[Encounter]:
        """Return the encounters that ended in a stage, the newest first."""
        rows = self._db.execute(
            "SELECT record FROM encounters WHERE NOT live AND json_extract(record, '$.stage') = ?"
            " ORDER BY rowid DESC LIMIT ?",
            (stage, limit),
        )
        return [_load(row[0]) for row in rows]

    def enter(self, *operations: NewOperation) -> None:
        """Enter operations that belong to no encounter's effect."""
        with self._commit() as db:
            for operation in operations:
                _enter(db, operation)

    def entered(self, label: str) -> bool:
        """Return whether an operation of this label was ever entered."""
        return self._db.execute("SELECT 1 FROM operations WHERE label = ?", (label,)).fetchone() is not None

    def waits(self, label: str) -> bool:
        """Return whether an operation of this label is still to be delivered."""
        found = self._db.execute("SELECT 1 FROM operations WHERE label = ? AND NOT delivered", (label,))
        return found.fetchone() is not None

    def hand_over_again(self, nonce: int) -> int:
        """Put what was delivered with `nonce` or a later one back into the queue, signed as it is; return how many."""
        with self._commit() as db:
            return db.execute(
                "UPDATE operations SET delivered = 0 WHERE delivered AND raw IS NOT NULL AND nonce >= ?", (nonce,)
            ).rowcount

    def undelivered(self) -> list[Operation]:
        """Return the operations no gateway has taken yet, oldest first."""
        rows = self._db.execute(
            "SELECT id, target, data, value_wei, label, nonce, raw, relayed FROM operations"
            " WHERE NOT delivered ORDER BY id"
        ).fetchall()
        return [
            Operation(
                id=i,
                target=target,
                data=data,
                value_wei=int(value),
                label=label,
                nonce=nonce,
                raw=raw,
                relayed=bool(relayed),
            )
            for i, target, data, value, label, nonce, raw, relayed in rows
        ]

    def signed(self, operation_id: int, *, nonce: int, raw: bytes) -> None:
        """Keep the signed bytes of an operation before they leave the device."""
        with self._commit() as db:
            db.execute("UPDATE operations SET nonce = ?, raw = ? WHERE id = ?", (nonce, raw, operation_id))

    def delivered(self, operation_id: int) -> None:
        """A gateway has taken it."""
        with self._commit() as db:
            db.execute("UPDATE operations SET delivered = 1, error = NULL WHERE id = ?", (operation_id,))

    def refused(self, operation_id: int, error: str, *, final: bool) -> None:
        """Keep why an operation was refused; a final refusal takes it out of the queue, its nonce unused."""
        with self._commit() as db:
            db.execute(
                "UPDATE operations SET error = ?, delivered = ?, nonce = NULL, raw = NULL WHERE id = ?",
                (error, final, operation_id),
            )

    def next_nonce(self) -> int | None:
        """Return the nonce after the highest one signed and not refused, None if nothing was signed yet."""
        highest = self._db.execute("SELECT max(nonce) FROM operations").fetchone()[0]
        return None if highest is None else int(highest) + 1

    def refusals(self) -> list[tuple[str, str]]:
        """Return (label, error) of everything refused, oldest first."""
        rows = self._db.execute("SELECT label, error FROM operations WHERE error IS NOT NULL ORDER BY id")
        return [(label, error) for label, error in rows]

    def keep(self, digest: bytes, data: bytes, *, fact: tuple[str, str] | None = None) -> None:
        """Keep a snapshot, with a fact that it makes true."""
        with self._commit() as db:
            db.execute("INSERT INTO snapshots VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, data))
            if fact is not None:
                db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", fact)

    def snapshot(self, digest: bytes) -> bytes | None:
        """Return a snapshot's canonical bytes."""
        row = self._db.execute("SELECT data FROM snapshots WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else bytes(row[0])

    def discard_snapshots(self, keep: frozenset[bytes]) -> None:
        """Drop every snapshot but those in `keep`."""
        with self._commit() as db:
            for (digest,) in db.execute("SELECT digest FROM snapshots").fetchall():
                if digest not in keep:
                    db.execute("DELETE FROM snapshots WHERE digest = ?", (digest,))

    def fact(self, name: str) -> str | None:
        """Return a named fact."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        """Keep a named fact."""
        with self._commit() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def free_stake(self, address: str) -> int | None:
        """Return what an account's free stake was when it was heard of last, in token base units."""
        row = self._db.execute("SELECT free FROM stakes WHERE address = ?", (address,)).fetchone()
        return None if row is None else int(row[0])

    def set_free_stake(self, address: str, free: int, *, at_s: float) -> None:
        """Keep what an account's free stake is at `at_s` (Unix s)."""
        with self._commit() as db:
            db.execute("INSERT OR REPLACE INTO stakes VALUES (?, ?, ?)", (address, str(free), at_s))
            db.execute(
                "DELETE FROM stakes WHERE rowid IN (SELECT rowid FROM stakes ORDER BY at_s DESC LIMIT -1 OFFSET ?)",
                (_REMEMBERED,),
            )

    def peer(self, peer: PeerId) -> str | None:
        """Return what is remembered of a peer."""
        row = self._db.execute("SELECT record FROM peers WHERE peer = ?", (peer,)).fetchone()
        return None if row is None else str(row[0])

    def set_peer(self, peer: PeerId, record: str, *, at_s: float) -> None:
        """Remember a peer, with which there was something to do at `at_s` (Unix s)."""
        with self._commit() as db:
            db.execute("INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", (peer, record, at_s))
            db.execute(
                "DELETE FROM peers WHERE rowid IN (SELECT rowid FROM peers ORDER BY at_s DESC LIMIT -1 OFFSET ?)",
                (_REMEMBERED,),
            )


def _enter(db: sqlite3.Connection, operation: NewOperation) -> None:
    db.execute(
        "INSERT INTO operations (target, data, value_wei, label, relayed) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (operation.target, operation.data, str(operation.value_wei), operation.label, operation.relayed),
    )


def _dump(encounter: Encounter) -> str:
    return json.dumps(
        {
            "key": encounter.key.hex(),
            "role": encounter.role,
            "stage": encounter.stage,
            "peer": encounter.peer,
            "proposal": encounter.proposal.model_dump(),
            "salt": encounter.salt.hex(),
            "terms": None if encounter.terms is None else terms_to_json(encounter.terms),
            "peer_salt": None if encounter.peer_salt is None else encounter.peer_salt.hex(),
            "peer_signature": None if encounter.peer_signature is None else encounter.peer_signature.hex(),
            "updated": None if encounter.updated is None else encounter.updated.hex(),
            "updated_age": encounter.updated_age,
            "judged": None if encounter.judged is None else encounter.judged.hex(),
            "panel": encounter.panel,
            "verdict": encounter.verdict,
            "done": sorted(encounter.done),
            "closings": encounter.closings,
            "closing_at_s": encounter.closing_at_s,
            "reason": encounter.reason,
        }
    )


def _load(text: str) -> Encounter:
    value = json.loads(text)
    return Encounter(
        key=bytes.fromhex(value["key"]),
        role=Role(value["role"]),
        stage=Stage(value["stage"]),
        peer=PeerId(value["peer"]),
        proposal=Propose.model_validate(value["proposal"]),
        salt=bytes.fromhex(value["salt"]),
        terms=None if value["terms"] is None else terms_from_json(value["terms"]),
        peer_salt=None if value["peer_salt"] is None else bytes.fromhex(value["peer_salt"]),
        peer_signature=None if value.get("peer_signature") is None else bytes.fromhex(value["peer_signature"]),
        updated=None if value["updated"] is None else bytes.fromhex(value["updated"]),
        updated_age=value["updated_age"],
        judged=None if value["judged"] is None else bytes.fromhex(value["judged"]),
        panel=tuple(value["panel"]),
        verdict=value["verdict"],
        done=frozenset(Effect(one) for one in value["done"]),
        closings=value["closings"],
        closing_at_s=value["closing_at_s"],
        reason=value["reason"],
    )
