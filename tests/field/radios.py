"""Radios of the field tests, each in a process on a host, and what they said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from namespaces import Host

ROOT = Path(__file__).parents[2]
PORT = 8765
Line = dict[str, Any]


class RadioProcess:
    """A radio on a host, and all that it said so far."""

    def __init__(self, host: Host, radio_id: str, *, port: int = PORT) -> None:
        self.host = host
        self.radio_id = radio_id
        self.port = port
        self._lines: list[Line] = []
        self._said = threading.Condition()
        self._process = host.popen(
            [sys.executable, str(ROOT / "tests/field/radio_process.py"), str(port), radio_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"{self.host.ip}:{self.port}"

    def wait_for(self, what: str, timeout_s: float = 15.0, **fields: str) -> Line:
        """Return the first line that says this, waiting for it."""
        wanted = {"what": what, **fields}
        with self._said:
            found = self._said.wait_for(lambda: self.said(**wanted), timeout_s)
            assert found, f"{self.radio_id} did not say {wanted} in {timeout_s} s but {self._lines}"
            return found[0]

    def wait_until(self, true: Callable[[], bool], timeout_s: float) -> bool:
        """Return whether something became true about what was said."""
        with self._said:
            return self._said.wait_for(true, timeout_s)

    def sees(self, other: RadioProcess, timeout_s: float = 15.0) -> Line:
        """Return the first sighting of another radio as it is now."""
        return self.wait_for("sighting", timeout_s, radio_id=other.radio_id, endpoint=other.endpoint)

    def said(self, **fields: str) -> list[Line]:
        """Return the lines with these fields."""
        return [one for one in list(self._lines) if fields.items() <= one.items()]

    def sightings_of(self, radio_id: str) -> list[Line]:
        return self.said(what="sighting", radio_id=radio_id)

    def forget(self) -> None:
        """Forget what was said so far."""
        with self._said:
            self._lines.clear()

    def announced(self) -> RadioProcess:
        """Wait until it has announced itself."""
        self.wait_for("radio announces")
        return self

    def rename(self, radio_id: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"rename {radio_id}\n")
        self._process.stdin.flush()
        self.radio_id = radio_id

    def close(self) -> None:
        """End it in order: it says goodbye."""
        self._process.terminate()
        assert self._process.wait(10) == 0

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()
        self._process.wait(10)

    def usage(self) -> psutil.Process:
        """Return the process as the system counts it."""
        return psutil.Process(self._process.pid)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            with self._said:
                self._lines.append(json.loads(text))
                self._said.notify_all()
