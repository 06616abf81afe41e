"""The folder of a run: claimed before anything starts, complete only once `summary.json` stands in it.

While a run is under way the folder holds `RUNNING`, locked by the process that works in it. The results are written
last, `summary.json` last of all and by renaming; then `RUNNING` goes. So a folder is in one of four conditions:

    RUNNING, locked                a run is under way
    RUNNING, not locked            a run broke off (power, disk, crash): never read as a result
    summary.json, finished false   it was interrupted: a usable part
    summary.json, finished true    it came to its end
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

from device_agent.config import toml_text
from device_agent.errors import RunExists, RunUnusable
from device_agent.loopback.scenario import Scenario

RUNNING = "RUNNING"
SCENARIO = "scenario.toml"
EVENTS = "events.jsonl"
SUMMARY = "summary.json"
RECORD = "run.json"
REPORT = "report.html"
STORE = "gateway.sqlite"
DEVICES = "devices"
MODELS = "models"

RESULTS = (SUMMARY, REPORT, RECORD, EVENTS, SCENARIO)
"""What a reader of a run wants, in the order in which it is named to the operator."""

_DATABASE_FILES = (STORE, f"{STORE}-wal", f"{STORE}-shm", f"{STORE}-journal")
_OURS = frozenset(
    {
        RUNNING,
        *RESULTS,
        *_DATABASE_FILES,
        DEVICES,
        MODELS,
        *(f"{name}.new" for name in (SUMMARY, REPORT, RECORD)),
    }
)

Json = dict[str, Any]


class RunFolder:
    """A folder claimed for one run. Use it as a context manager: leaving it gives the claim up.

    Attributes:
        path: where it lies.
        begun: set it once something happened that is worth keeping; if an exception ends the run before that,
            nothing is left behind.
    """

    def __init__(self, path: Path, lock: IO[str], *, made: bool) -> None:
        """Use `claim`."""
        self.path = path
        self.begun = False
        self._lock = lock
        self._made = made

    @classmethod
    def claim(cls, path: Path, *, overwrite: bool) -> Self:
        """Make the folder, or take an empty one, or with `overwrite` clear a run's.

        Raises `RunExists` if anything else is in it or a run is under way there; OSError if it cannot be written.
        """
        if path.exists() and not path.is_dir():
            raise RunExists(f"{path} is not a folder: choose another with --out")
        made = not path.exists()
        held = sorted(one.name for one in path.iterdir()) if not made else []
        if held:
            _check_ours(path, held, overwrite=overwrite)
        path.mkdir(parents=True, exist_ok=True)
        lock = _locked(path)
        _clear(path, keep=RUNNING)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} works here; {SUMMARY} is written when it is done\n")
        lock.flush()
        return cls(path, lock, made=made)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not self.begun:
            _clear(self.path, keep=None)
            if self._made:
                with suppress(OSError):
                    self.path.rmdir()
        self._lock.close()

    def keep_scenario(self, scenario: Scenario) -> None:
        """Write the scenario as it is run, so that it can be run again."""
        (self.path / SCENARIO).write_text(scenario_toml(scenario), encoding="utf-8")

    def finish(self, *, summary: Json, record: Json, report: str) -> None:
        """Write the results, and let the folder count as a run's."""
        _write(self.path / RECORD, json.dumps(record, separators=(",", ":")) + "\n")
        _write(self.path / REPORT, report)
        _write(self.path / SUMMARY, json.dumps(summary, indent=2) + "\n")
        (self.path / RUNNING).unlink()


def read_run(path: Path) -> tuple[Json, Json]:
    """Return the summary and the record of a run. Raises `RunUnusable` saying why a folder is none."""
    if not path.is_dir():
        raise RunUnusable(f"{path} is not a folder")
    if (path / RUNNING).exists():
        raise RunUnusable(f"{path} holds a run that is under way, or broke off before it wrote its results")
    if not (path / SUMMARY).exists() or not (path / RECORD).exists():
        raise RunUnusable(f"{path} holds no run: {SUMMARY} or {RECORD} is missing")
    return _read(path / SUMMARY), _read(path / RECORD)


def write_report(path: Path, report: str) -> None:
    """Put a report into the folder of a run, in place of the one that is there."""
    _write(path / REPORT, report)


def scenario_toml(scenario: Scenario) -> str:
    """Write a scenario as TOML that `read_scenario` reads back as the same scenario."""
    values = scenario.model_dump(mode="json", exclude_none=True)
    if scenario.contacts.file is not None:
        values["contacts"]["file"] = str(scenario.contacts.file.absolute())
    return toml_text(values)


def _check_ours(path: Path, held: list[str], *, overwrite: bool) -> None:
    foreign = [name for name in held if name not in _OURS or (path / name).is_symlink()]
    marked = RUNNING in held or (SUMMARY in held and RECORD in held)
    if foreign or not marked:
        what = foreign[0] if foreign else held[0]
        raise RunExists(f"{path} holds {what}, which is no part of a run: choose another folder with --out")
    if not overwrite:
        kind = "a run that is under way or broke off" if RUNNING in held else "a run"
        raise RunExists(f"{path} holds {kind}: choose another folder with --out, or say --overwrite")


def _locked(path: Path) -> IO[str]:
    lock = (path / RUNNING).open("a", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise RunExists(f"a run is under way in {path}: wait for it, or choose another folder with --out") from None
    return lock


def _clear(path: Path, *, keep: str | None) -> None:
    """Delete what a run leaves, and nothing else; the marker last, so that half a deletion still shows."""
    for name in sorted(_OURS - {RUNNING}):
        if name in (DEVICES, MODELS):
            if (path / name).is_dir():
                shutil.rmtree(path / name)
        else:
            (path / name).unlink(missing_ok=True)
    if keep != RUNNING:
        (path / RUNNING).unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _read(path: Path) -> Json:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunUnusable(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise RunUnusable(f"{path} is not what a run writes")
    return value
