"""The gateway as a program of its own: started, asked over real HTTP, stopped or killed."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Program:
    """`python -m gateway ...`, its output read up to a line."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "gateway", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=os.environ | {"PYTHONWARNINGS": "error"},
                start_new_session=True,  # Ctrl-C is for whoever started it
            )

    def line(self, beginning: str) -> str:
        end = time.monotonic() + 30
        while time.monotonic() < end and self.popen.poll() is None:
            for line in self.log.read_text().splitlines():
                if line.startswith(beginning):
                    return line
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def stop(self, number: int) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(20)


@contextmanager
def program(arguments: Sequence[str], log: Path) -> Iterator[Program]:
    started = Program(arguments, log)
    try:
        yield started
    finally:
        if started.popen.poll() is None:
            started.popen.kill()
            started.popen.wait()


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)
