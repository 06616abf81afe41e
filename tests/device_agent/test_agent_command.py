"""`idml-agent` as an operator meets it: help, errors of one line, exit codes, and a real small run."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ChainUnreachable, CodeMismatch, ToolMissing
from device_agent import __main__ as command
from device_agent.errors import JournalFault, WorkerDied
from device_agent.loopback import simulation
from device_agent.loopback.rundir import RESULTS, read_run
from device_agent.settings import Door
from gateway.errors import StoreUnavailable
from models.data import default_root, folder_of
from models.errors import DatasetCorrupt, DatasetMissing
from models.fetch import fetch

SMALL = """
name = "small"
seed = 3
[devices]
count = 4
[attackers]
count = 1
[data]
samples_per_device = 200
[learning]
max_rounds = 1
own_steps = 1
[run]
encounters = 3
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("fashion-mnist")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; return exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = command.main([str(one) for one in arguments])
        except SystemExit as ended:
            code = int(str(ended.code))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def written() -> list[str]:
    return sorted(str(one) for one in Path().rglob("*"))


# -- without a run ----------------------------------------------------------------------------------------------------


def test_help_says_what_there_is_with_examples(run: Run) -> None:
    code, said, _ = run("--help")
    assert code == 0
    for word in ("simulate", "scenarios", "report", "examples:", "exit codes: 0 done"):
        assert word in said
    code, said, _ = run("simulate", "--help")
    assert code == 0
    for word in ("--chain", "--out", "--seed", "--overwrite", "--quiet", "runs/NAME"):
        assert word in said


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom device_agent.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('web3', 'numpy', 'torch', 'pydantic', 'rich', 'matplotlib', 'flask', 'httpx')"
        " if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


def test_an_agent_on_a_device_carries_nothing_that_computes() -> None:
    program = (
        "import sys, device_agent.live, device_agent.run_command\n"
        "print([name for name in ('web3', 'numpy', 'torch', 'onnxruntime', 'rich', 'matplotlib', 'flask', 'httpx')"
        " if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


def test_python_m_is_the_same_command() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "device_agent", "scenarios"], capture_output=True, text=True, timeout=30, check=True
    )
    assert "demo-oppcl" in said.stdout
    assert all("encounters" in line for line in said.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "required: COMMAND"),
        (("simulate",), "required: SCENARIO"),
        (("simulate", "x", "--sed", "1"), "unrecognized arguments: --sed"),
        (("simulate", "x", "--seed", "-1"), "--seed"),
        (("simulate", "x", "--seed", "4294967296"), "from 0 to 4294967295"),
        (("simulate", "x", "--seed", "\u0663"), "not a whole number"),
        (("simulate", "nowhere"), "nowhere: there is no such file, nor a shipped scenario"),
        (
            ("simulate", "demo-oppcl", "--chain", "amoy"),
            "--chain amoy: a simulation needs a chain whose time it can set",
        ),
        (("simulate", "demo-oppcl", "--chain", "nonsense"), "--chain nonsense: a simulation needs"),
        (("simulate", "demo-oppcl", "--chain", ""), "--chain : a simulation needs"),
    ],
)
def test_bad_usage_is_told_and_nothing_is_written(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert written() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sede = 1", "unknown key sede"),
        ("seed = 'x'", "seed = 'x'"),
        ("[devices]\ncount = 1", "devices.count = 1"),
        ("[contacts]\nkind = 'trace'\nfile = 'none.dat'", "none.dat: cannot be read"),
        ("[chain]\nkind = 'amoy'", "chain.kind = 'amoy'"),
    ],
)
def test_a_bad_scenario_is_one_line_and_nothing_is_written(run: Run, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('name = "bad"\n' + text)
    code, out, err = run("simulate", path)
    assert (code, out) == (2, "")
    assert err.startswith("idml-agent: ")
    assert err.count("\n") == 1
    assert said in err
    assert written() == []


def test_a_partition_that_cannot_be_made_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "thin.toml"
    path.write_text(
        'name = "thin"\n[devices]\ncount = 1000\n[data]\npartition = "label_shards"\nsamples_per_label = 5000\n'
    )
    code, _, err = run("simulate", path)
    assert code in (1, 2)
    assert err.count("\n") == 1
    assert written() == []


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_a_missing_or_corrupt_dataset_is_told_and_nothing_is_written(
    run: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    here = folder_of("fashion-mnist", default_root())
    monkeypatch.setenv("IDML_DATA", str(tmp_path / "data"))
    if damage == "corrupt":
        there = folder_of("fashion-mnist", tmp_path / "data")
        shutil.copytree(here, there)
        victim = next(one for one in sorted(there.iterdir()) if one.name.startswith("t10k-labels"))
        victim.chmod(0o644)
        victim.write_bytes(victim.read_bytes()[:-1] + b"\x63")
    code, out, err = run("simulate", small)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert ("SHA-256" if damage == "corrupt" else "is not in") in err
    assert "idml-models fetch fashion-mnist" in err
    assert written() == []


def test_a_folder_in_the_way_is_told_and_left_alone(run: Run, small: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis").write_text("x")
    for extra in ((), ("--overwrite",)):
        code, _, err = run("simulate", small, "--out", tmp_path / "full", *extra)
        assert code == 2
        assert "holds thesis, which is no part of a run" in err
    assert (tmp_path / "full" / "thesis").exists()


def test_a_report_of_no_run_is_refused(run: Run, tmp_path: Path) -> None:
    code, _, err = run("report", tmp_path)
    assert (code, err.count("\n")) == (1, 1)
    assert "holds no run" in err


# -- faults of the parts ----------------------------------------------------------------------------------------------

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "events.jsonl")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (ChainUnreachable("http://127.0.0.1:1: connection refused"), "127.0.0.1:1: connection refused"),
        (ToolMissing("ganache is not installed:\nrun this"), "ganache is not installed: run this"),
        (CodeMismatch("the code at 0x12 is not ours"), "the code at 0x12"),
        (DatasetMissing("fashion-mnist is not in x"), "is not in x"),
        (DatasetCorrupt("x has SHA-256 y"), "SHA-256"),
        (StoreUnavailable("database or disk is full"), "disk is full"),
        (WorkerDied("the training process ended with status -9"), "training process ended"),
        (NO_SPACE, "the disk is full (events.jsonl): free some space and run again with --overwrite"),
        (ExceptionGroup("agents", [ExceptionGroup("one", [JournalFault("the journal is full")])]), "journal is full"),
        (ExceptionGroup("agents", [ValueError("x"), NO_SPACE]), "the disk is full"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_a_fault_is_one_line_and_a_run_that_had_begun_stays_marked_as_unfinished(
    run: Run, small: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, said: str, begun: bool
) -> None:
    class Seen:
        def count(self, name: str) -> int:
            return 1

    @contextlib.contextmanager
    def breaks(scenario: object, out: Path, *, progress: Callable[[Any], None], **_: object) -> Iterator[None]:
        (out / "events.jsonl").write_text("")
        if begun:
            progress(Seen())
        raise fault
        yield

    monkeypatch.setattr(simulation, "simulate", breaks)
    code, out, err = run("simulate", small, "--quiet")
    assert (code, out) == (1, "")
    assert err.startswith("idml-agent: ")
    assert err.count("\n") == 1
    assert said in err
    if begun:
        assert {one.name for one in Path("runs/small").iterdir()} == {"RUNNING", "scenario.toml", "events.jsonl"}
        code, _, err = run("report", "runs/small")
        assert code == 1
        assert "broke off" in err
    else:
        assert not Path("runs/small").exists()


def test_a_fault_of_ours_is_not_hidden(run: Run, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def breaks(*_: object, **__: object) -> Iterator[None]:
        raise ZeroDivisionError
        yield

    monkeypatch.setattr(simulation, "simulate", breaks)
    with pytest.raises(ZeroDivisionError):
        run("simulate", small, "--quiet")


def test_a_node_that_is_not_there_is_told(run: Run, small: Path) -> None:
    code, out, err = run("simulate", small, "--quiet", "--chain", "http://127.0.0.1:9")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "127.0.0.1:9" in err
    assert not Path("runs/small").exists()


# -- real runs --------------------------------------------------------------------------------------------------------

_NOT_REPEATABLE = ("wall_s", "encounters_per_s")


@pytest.mark.parametrize("door", list(Door))
def test_a_real_run_writes_everything_and_the_same_seed_gives_the_same_result(
    run: Run, small: Path, door: Door
) -> None:
    code, out, err = run("simulate", small, "--door", door)
    assert code == 0, err
    assert "small: starting chain and devices" in err
    assert "running: opened" in err
    assert "Traceback" not in err
    for said in ("encounters settled", "published: 457,225", "conserved", "results in runs/small", "journal.sqlite"):
        assert said in out
    held = {one.name for one in Path("runs/small").iterdir()}
    assert held >= set(RESULTS)
    assert "RUNNING" not in held
    summary, record = read_run(Path("runs/small"))
    assert summary["finished"] is True
    assert summary["chain"]["door"] == door
    assert summary["encounters"]["opened"] >= 3
    assert summary["tokens"]["conserved"] is True
    assert summary["votes"]["cast"] == sum(len(one["votes"]) for one in record["encounters"])
    for line in Path("runs/small/events.jsonl").read_text().splitlines():
        assert {"t", "device", "event"} <= json.loads(line).keys()

    page = Path("runs/small/report.html")
    first = page.read_bytes()
    page.unlink()
    assert run("report", "runs/small") == (0, "wrote runs/small/report.html\n", "")
    assert page.read_bytes() == first

    code, out, err = run("simulate", "runs/small/scenario.toml", "--out", "again", "--quiet")
    assert (code, out, err) == (0, "", "")
    again, record_again = read_run(Path("again"))
    for key in _NOT_REPEATABLE:
        summary.pop(key), again.pop(key)
    assert again == summary
    assert record_again == record
    assert Path("again/report.html").read_bytes() == first
    assert Path("again/events.jsonl").read_bytes() == Path("runs/small/events.jsonl").read_bytes()


@pytest.mark.timeout(120)
def test_ctrl_c_leaves_a_usable_part(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text(SMALL.replace("encounters = 3", "encounters = 100000"))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "device_agent", "simulate", str(path), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        give_up_s = time.monotonic() + 60
        events = out / "events.jsonl"
        while not (events.exists() and b'"settled on chain"' in events.read_bytes()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up_s
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted: what was seen until then is in" in errors
    assert "encounters settled" in said
    summary, _ = read_run(out)
    assert summary["finished"] is False
    assert summary["encounters"]["settled"] > 0
    assert "This run was interrupted" in (out / "report.html").read_text()
    assert not (out / "RUNNING").exists()


@pytest.mark.timeout(240)
def test_ctrl_c_before_anything_happened_leaves_nothing(tmp_path: Path, small: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "device_agent", "simulate", str(small), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        give_up_s = time.monotonic() + 120
        while not (out / "RUNNING").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up_s
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    # Interrupted inside an import, Python may end itself by the signal after all; a shell shows 130 for both.
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in errors
    assert not out.exists()


def test_a_device_without_the_simulation_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "web3.exceptions", None)
    assert command.main(["simulate", "demo-oppcl"]) == 1
    assert capsys.readouterr().err == "idml-agent: web3.exceptions is not installed: pip install 'idml[simulate]'\n"
