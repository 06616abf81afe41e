"""The folder of a run: never taken over by mistake, and never taken for finished when it is not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from run_values import made_up_run

from device_agent.errors import RunExists, RunUnusable
from device_agent.loopback.rundir import RESULTS, RunFolder, read_run
from device_agent.loopback.scenario import read_scenario


def finished(path: Path) -> None:
    """Make a finished run with everything a run leaves."""
    summary, record = made_up_run()
    with RunFolder.claim(path, overwrite=False) as folder:
        folder.keep_scenario(read_scenario("demo-oppcl"))
        (path / "devices" / "device-00").mkdir(parents=True)
        (path / "devices" / "device-00" / "journal.sqlite").write_text("x")
        (path / "models" / "ab").mkdir(parents=True)
        (path / "gateway.sqlite").write_text("x")
        (path / "events.jsonl").write_text("{}\n")
        folder.finish(summary=summary, record=record, report="<html>")


def names(path: Path) -> set[str]:
    return {one.name for one in path.iterdir()}


def test_a_folder_is_marked_while_a_run_is_under_way_and_complete_after(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with RunFolder.claim(path, overwrite=False):
        assert names(path) == {"RUNNING"}
        with pytest.raises(RunUnusable, match="under way, or broke off"):
            read_run(path)
    assert names(path) == {"RUNNING"}
    with pytest.raises(RunUnusable, match="under way, or broke off"):
        read_run(path)
    with pytest.raises(RunExists, match=r"under way or broke off.*--overwrite"):
        RunFolder.claim(path, overwrite=False)
    with RunFolder.claim(path, overwrite=True):
        pass


def test_a_finished_run_can_be_read_and_is_not_lost_by_mistake(tmp_path: Path) -> None:
    finished(tmp_path)
    assert set(RESULTS) | {"devices", "models", "gateway.sqlite"} == names(tmp_path)
    assert read_run(tmp_path) == made_up_run()
    before = names(tmp_path)
    with pytest.raises(RunExists, match=r"holds a run: choose another folder with --out, or say --overwrite"):
        RunFolder.claim(tmp_path, overwrite=False)
    assert names(tmp_path) == before
    with RunFolder.claim(tmp_path, overwrite=True):
        assert names(tmp_path) == {"RUNNING"}


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("foreign", ["thesis.doc", "summary.json", "devices", "events.jsonl"])
def test_what_is_no_run_is_never_deleted(tmp_path: Path, foreign: str, overwrite: bool) -> None:
    (tmp_path / foreign).write_text("years of work")
    with pytest.raises(RunExists, match=f"holds {foreign}, which is no part of a run"):
        RunFolder.claim(tmp_path, overwrite=overwrite)
    assert (tmp_path / foreign).read_text() == "years of work"
    assert names(tmp_path) == {foreign}


def test_a_run_with_something_foreign_in_it_is_never_deleted(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunExists, match=r"holds notes\.txt"):
        RunFolder.claim(tmp_path, overwrite=True)
    assert (tmp_path / "summary.json").exists()


def test_a_link_in_a_run_is_never_followed(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (tmp_path / "run" / "models" / "ab").rmdir()
    (tmp_path / "run" / "models").rmdir()
    (tmp_path / "run" / "models").symlink_to(elsewhere)
    with pytest.raises(RunExists, match="holds models"):
        RunFolder.claim(tmp_path / "run", overwrite=True)
    assert (elsewhere / "precious").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunExists, match="is not a folder"):
        RunFolder.claim(tmp_path / "file", overwrite=True)


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    with RunFolder.claim(tmp_path, overwrite=False), pytest.raises(RunExists, match="a run is under way in"):
        RunFolder.claim(tmp_path, overwrite=True)


@pytest.mark.parametrize("made_before", [True, False])
def test_a_run_that_ends_before_anything_happened_leaves_nothing(tmp_path: Path, made_before: bool) -> None:
    path = tmp_path / "run"
    if made_before:
        path.mkdir()
    with pytest.raises(KeyboardInterrupt), RunFolder.claim(path, overwrite=False):
        raise KeyboardInterrupt
    assert path.exists() is made_before
    assert not made_before or names(path) == set()


def test_a_run_that_had_begun_keeps_what_there_is_and_its_mark(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path, overwrite=False)
    folder.begun = True
    (tmp_path / "events.jsonl").write_text("x")
    with pytest.raises(KeyboardInterrupt), folder:
        raise KeyboardInterrupt
    assert names(tmp_path) == {"RUNNING", "events.jsonl"}


_KILLED = """
import os, signal, sys
from pathlib import Path
from device_agent.loopback import rundir
write = rundir._write
def dies(path, text):
    if path.name == sys.argv[2]:
        path.with_name(path.name + ".new").write_text(text[: len(text) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, text)
rundir._write = dies
with rundir.RunFolder.claim(Path(sys.argv[1]), overwrite=False) as folder:
    folder.finish(summary={"finished": True}, record={"format": 1}, report="x" * 100)
"""


@pytest.mark.parametrize("at", RESULTS[:3])
def test_a_run_killed_while_it_writes_its_results_is_not_finished(tmp_path: Path, at: str) -> None:
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), at], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / at).exists()
    with pytest.raises(RunUnusable):
        read_run(tmp_path)
    with RunFolder.claim(tmp_path, overwrite=True):
        assert names(tmp_path) == {"RUNNING"}


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_a_damaged_file_of_a_run_is_named(tmp_path: Path, text: str) -> None:
    finished(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunUnusable, match=r"run\.json"):
        read_run(tmp_path)


def test_a_foreign_folder_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunUnusable, match="holds no run"):
        read_run(tmp_path)
    with pytest.raises(RunUnusable, match="is not a folder"):
        read_run(tmp_path / "none")
