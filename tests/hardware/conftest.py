"""Two real Bluetooth radios: `--hardware` says where the other one is."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_PROGRAM = "tests/hardware/radio.py"
PATIENCE_S = 90.0

Line = dict[str, Any]


class Radio:
    """A radio in a process, here or on another machine, and what it said."""

    def __init__(self, command: list[str], **options: Any) -> None:
        self.lines: list[Line] = []
        self._said = threading.Condition()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def waits_for(self, what: str, true: Callable[[Line], bool] = lambda _: True, since: int = 0) -> Line:
        """Return the first line that says this, from the line of number `since` on."""

        def found() -> Line | None:
            return next((one for one in self.lines[since:] if one["what"] == what and true(one)), None)

        with self._said:
            one = self._said.wait_for(found, PATIENCE_S)
        assert one, f"not said in {PATIENCE_S:.0f} s: {what}; but {self.lines[-20:]}"
        return one

    def hears(self, radio_id: str, true: Callable[[Line], bool] = lambda _: True, since: int = 0) -> Line:
        """Return the first such sighting of an id."""
        return self.waits_for("sighting", lambda one: one["radio_id"] == radio_id and true(one), since)

    def rename(self, radio_id: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"rename {radio_id}\n")
        self._process.stdin.flush()
        self.waits_for("renamed", lambda one: one["radio_id"] == radio_id)

    def close(self) -> None:
        """End it in order."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)
        self._reading.join(10)
        assert self._process.stdout
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout
        for text in self._process.stdout:
            with self._said:
                self.lines.append(json.loads(text))
                self._said.notify_all()


@contextmanager
def radio_at(where: str, radio_id: str, host: str) -> Iterator[Radio]:
    """A radio at an adapter of this machine, or at the first one of HOST:CHECKOUT, which is reached by ssh."""
    if ":" in where:
        machine, _, checkout = where.partition(":")
        inner = ["env", f"PYTHONPATH={checkout}", f"{checkout}/.venv/bin/python", f"{checkout}/{_PROGRAM}"]
        command = ["ssh", "-o", "BatchMode=yes", machine, shlex.join([*inner, "-", radio_id, host])]
        radio = Radio(command)
    else:
        command = [sys.executable, str(ROOT / _PROGRAM), where, radio_id, host]
        radio = Radio(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        yield radio
    finally:
        radio.close()


@pytest.fixture
def places(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Where the two radios are: this one's adapter, and the other one."""
    there = request.config.getoption("--hardware")
    if there is None:
        pytest.skip("needs two Bluetooth radios: --hardware")
    return request.config.getoption("--adapter"), there


@pytest.fixture
def open_radio() -> Iterator[Callable[[str, str, str], Radio]]:
    """A function (where, radio_id, host) that returns a radio; they are closed at the end."""
    with ExitStack() as stack:
        yield lambda where, radio_id, host: stack.enter_context(radio_at(where, radio_id, host))
