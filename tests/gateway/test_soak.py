"""A short soak passes, tells how far it is, and ends when told; its audit would notice what it is there to notice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from soak import soak
from soak_audit import violations
from soak_progress import line

ENCOUNTERS = 20


def noticed(seen: dict[str, Any], **changes: Any) -> list[str]:
    return [*violations(**seen | changes)]


def audit(**seen: Any) -> Iterator[str]:
    """The audit, and audits of tampered books beside it."""
    yield from violations(**seen)
    book = seen["book"]
    key, played = next(iter(book.encounters.items()))
    cast = book.cast[key]

    turned = replace(played, verdicts=tuple(not valid for valid in played.verdicts))
    found = noticed(seen, book=replace(book, encounters=book.encounters | {key: turned}))
    assert any(f"{key} was settled" in words for words in found)

    other_vote = {voter: valid is (place > 0) for place, (voter, valid) in enumerate(cast.items())}
    found = noticed(seen, book=replace(book, cast=book.cast | {key: other_vote}))
    assert any("the model says" in words for words in found)

    never = "0x" + "00" * 32
    more = replace(book, encounters=book.encounters | {never: played}, cast=book.cast | {never: cast})
    assert any(f"{never} was opened 0 times" in words for words in noticed(seen, book=more))

    for key in (book.operations[0], next(iter(book.transactions))):
        for state in {"broadcast", "superseded"} - {seen["told"][key]["state"]}:
            told = seen["told"] | {key: seen["told"][key] | {"state": state}}
            assert any(key in words for words in noticed(seen, told=told))

    found = noticed(seen, operator=played.learner.address)
    assert any("the operator used" in words for words in found)


@pytest.mark.chain
def test_a_short_soak(tmp_path: Path) -> None:
    assert soak(seed=1, encounters=ENCOUNTERS, folder=tmp_path, audit=audit) == []


@pytest.mark.chain
def test_an_interrupted_soak_ends_its_children_and_tells_what_was_done(tmp_path: Path) -> None:
    script, log = Path(__file__).with_name("soak.py"), tmp_path / "soak.log"
    with log.open("wb") as output:
        run = subprocess.Popen(
            [sys.executable, str(script), "--encounters", "500"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": str(script.parents[2]), "TMPDIR": str(tmp_path)},
        )
    end_s = time.monotonic() + 60
    while not [*tmp_path.glob("idml-soak-*/gateway-1.log")] and time.monotonic() < end_s:
        time.sleep(0.1)
    time.sleep(3)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130, log.read_text()
    told = log.read_text()
    assert "encounters ended in" in told
    assert "gateway ended" in told
    assert "nothing was compared" in told
    assert not [*tmp_path.glob("idml-soak-*")]
    assert not [place for place in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in words(place)]


def words(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError:
        return b""


def test_progress_tells_how_far_and_how_long() -> None:
    assert line(begun=48, ended=0, encounters=100, faults=3, elapsed_s=15, stage="") == (
        "0:15  0 of 100 encounters ended, 48 under way, 3 faults"
    )
    assert line(begun=98, ended=50, encounters=100, faults=9, elapsed_s=100, stage="") == (
        "1:40  50 of 100 encounters ended, 48 under way, 9 faults, 0.5 a second, about 1:40 left"
    )
    assert line(begun=9, ended=9, encounters=9, faults=1, elapsed_s=61, stage="waiting").endswith("1 faults; waiting")
