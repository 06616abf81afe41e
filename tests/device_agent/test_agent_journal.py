"""The journal: what was committed is there after a crash, and nothing by half."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_values import NEIGHBOR

from device_agent.encounter import Effect, Encounter, Role, Stage
from device_agent.errors import JournalFault
from device_agent.journal import Journal, NewOperation

Begun = Callable[..., Encounter]

OPERATION = NewOperation(target=NEIGHBOR, data=b"\x01", label="check in:1", value_wei=10**20)


def test_an_encounter_comes_back_with_every_member(journal: Journal, begun: Begun) -> None:
    full = begun(
        Role.LEARNER,
        stage=Stage.FETCHING,
        peer_salt=b"s" * 32,
        peer_signature=b"g" * 64,
        updated=b"u" * 32,
        updated_age=7,
        judged=b"j" * 32,
        panel=(7, 1, 1 << 20),
        verdict=False,
        done=frozenset({Effect.REVEAL, Effect.CHECK_IN}),
        reason="because",
    )
    for one in (full, begun(Role.NEIGHBOR), begun(Role.LEARNER, terms=None)):
        journal.record(one)
        assert journal.encounter(one.key) == one
    assert journal.encounter(b"?" * 32) is None


def test_only_what_is_not_over_is_live(journal: Journal, begun: Begun) -> None:
    for number, stage in enumerate(Stage):
        journal.record(begun(Role.LEARNER, key=bytes([number]) * 32, stage=stage))
    assert {one.stage for one in journal.live_encounters()} == {
        stage for stage in Stage if begun(Role.LEARNER, stage=stage).live
    }


def test_an_effect_is_pending_until_it_is_struck_off(journal: Journal, begun: Begun) -> None:
    one = begun(Role.NEIGHBOR)
    due = journal.record(one, effects=(Effect.ACCEPT, Effect.CHECK_IN), snapshot=(b"d" * 32, b"data"))
    assert [effect for _, effect in due] == [Effect.ACCEPT, Effect.CHECK_IN]
    assert journal.pending_effects() == [(number, one.key, effect) for number, effect in due]
    assert journal.snapshot(b"d" * 32) == b"data"
    journal.performed(due[1][0], OPERATION)
    assert journal.pending_effects() == [(due[0][0], one.key, Effect.ACCEPT)]
    assert journal.entered(OPERATION.label)


def test_an_operation_goes_from_entered_to_delivered_with_the_same_bytes(journal: Journal) -> None:
    journal.enter(OPERATION, OPERATION)
    journal.enter(OPERATION)
    (one,) = journal.undelivered()
    assert (one.target, one.data, one.value_wei, one.label) == (NEIGHBOR, b"\x01", 10**20, OPERATION.label)
    assert (one.nonce, one.raw, journal.next_nonce()) == (None, None, None)
    journal.signed(one.id, nonce=4, raw=b"raw")
    (one,) = journal.undelivered()
    assert (one.nonce, one.raw, journal.next_nonce()) == (4, b"raw", 5)
    journal.delivered(one.id)
    assert journal.undelivered() == []
    assert journal.entered(OPERATION.label)
    assert journal.next_nonce() == 5


@pytest.mark.parametrize("final", [True, False])
def test_a_refusal_frees_the_nonce_and_is_kept(journal: Journal, final: bool) -> None:
    journal.enter(OPERATION)
    (one,) = journal.undelivered()
    journal.signed(one.id, nonce=4, raw=b"raw")
    journal.refused(one.id, "too poor", final=final)
    assert journal.next_nonce() is None
    assert journal.refusals() == [(OPERATION.label, "too poor")]
    assert [left.raw for left in journal.undelivered()] == ([] if final else [None])


def test_snapshots_and_facts(journal: Journal) -> None:
    journal.keep(b"a" * 32, b"A", fact=("model", "a"))
    journal.keep(b"b" * 32, b"B")
    journal.discard_snapshots(frozenset({b"a" * 32}))
    assert (journal.snapshot(b"a" * 32), journal.snapshot(b"b" * 32)) == (b"A", None)
    journal.set_fact("model", "b")
    assert (journal.fact("model"), journal.fact("none")) == ("b", None)


def test_a_failed_write_leaves_nothing_by_half(journal: Journal, begun: Begun) -> None:
    with pytest.raises(JournalFault, match="did not take a write"):
        journal.record(begun(Role.NEIGHBOR), effects=(Effect.ACCEPT,), snapshot=(b"d" * 32, None))  # type: ignore[arg-type]
    assert journal.live_encounters() == []
    assert journal.pending_effects() == []
    journal.record(begun(Role.NEIGHBOR))  # the journal is usable afterwards


_CRASHES = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from agent_values import NEIGHBOR, NEIGHBOR_SALT, proposal
from device_agent.encounter import Effect, Encounter, Role, Stage
from device_agent.journal import Journal, NewOperation

journal = Journal(Path(sys.argv[1]))
one = Encounter(
    key=b"k" * 32, role=Role.NEIGHBOR, stage=Stage.CHECKING_IN, peer="peer", proposal=proposal(), salt=NEIGHBOR_SALT
)
(accept, _), (check_in, _) = journal.record(one, effects=(Effect.ACCEPT, Effect.CHECK_IN))
journal.performed(accept)
if sys.argv[3] == "inside a commit":
    with journal._commit() as db:
        db.execute("DELETE FROM effects")
        db.execute("UPDATE encounters SET live = 0")
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[3] == "after performed":
    journal.performed(check_in, NewOperation(target=NEIGHBOR, data=b"1", label="check in"))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["before performed", "inside a commit", "after performed"])
def test_a_kill_loses_nothing_that_was_committed(tmp_path: Path, when: str) -> None:
    path = tmp_path / "journal.sqlite"
    ended = subprocess.run(
        [sys.executable, "-c", _CRASHES, str(path), str(Path(__file__).parent), when], timeout=30, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    journal = Journal(path)
    try:
        performed = when == "after performed"
        assert [effect for *_, effect in journal.pending_effects()] == ([] if performed else [Effect.CHECK_IN])
        assert journal.entered("check in") is performed
        assert [one.stage for one in journal.live_encounters()] == [Stage.CHECKING_IN]
    finally:
        journal.close()


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("this is no database, however long it is" * 50)
    newer = tmp_path / "newer"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    for path, said in ((text, "not a database"), (newer, "version 99"), (tmp_path / "no" / "folder", "cannot open")):
        with pytest.raises(JournalFault, match=said):
            Journal(path)


def test_a_read_only_journal_says_so(tmp_path: Path, journal: Journal, begun: Begun) -> None:
    journal._db.execute("PRAGMA query_only=1")
    with pytest.raises(JournalFault, match="readonly"):
        journal.record(begun(Role.LEARNER))
