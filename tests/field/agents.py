"""A field of real agents: each a process on a host of its own, with keystore, journal, link and radio."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from namespaces import Bridge, Host

from device_agent.keystore import Keys, create

ROOT = Path(__file__).parents[2]
_DYING = Path(__file__).with_name("dying_agent.py")
_PASSPHRASE = "of a test"
_CHEAP_N = 1 << 14
_ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

SETTINGS = """\
state = "{state}"
log_format = "json"
[identity]
passphrase_file = "{passphrase}"
[gateway]
url = "http://{gateway}:8547"
[share]
number = {number}
of = {count}
flipped = {flipped}
[data]
dataset = "fashion-mnist"
alpha = 2.0
samples_per_device = 600
validation_share = 0.4
[incentives]
stake = 20.0
tolerance_bps = 500
"""
BRISK = """\
[learning]
architecture = "cnn6"
max_rounds = 20
own_steps = 5
warmup_steps = 5
batch_size = 32
learning_rate = 0.05
[behaviour]
poll_s = 1.0
jobs_poll_s = 1.0
jobs_wait_s = 5
open_within_s = 60
report_within_s = 180
grace_s = 10
cooldown_s = 5.0
expected_encounter_s = 5.0
ping_every_s = 4.0
lost_after_s = 10.0
"""
"""Learns at once, and asks often: a test does not wait long for it."""


class FieldAgent:
    """One agent on one host."""

    def __init__(
        self, host: Host, folder: Path, *, number: int, count: int, gateway: str, flipped: bool, settings: str
    ) -> None:
        self.host = host
        self.folder = folder
        self.state = folder / "state"
        self.keys = Keys.fresh()
        self.address = self.keys.public.address
        self.state.mkdir(parents=True)
        passphrase = folder / "passphrase"
        passphrase.touch(0o600)
        passphrase.write_text(_PASSPHRASE)
        create(self.state / "keystore.json", self.keys, _PASSPHRASE, n=_CHEAP_N)
        self.config = folder / "agent.toml"
        self.config.write_text(
            SETTINGS.format(
                state=self.state,
                passphrase=passphrase,
                gateway=gateway,
                number=number,
                count=count,
                flipped=str(flipped).lower(),
            )
            + settings
        )
        self.process: subprocess.Popen[str] | None = None
        self.deaths = folder / "deaths"
        self.deaths.touch()

    def start(self, *, dying: bool = False) -> None:
        """Start it; `dying`: it is killed at the next transition of an encounter that it did not die of before."""
        program = [str(_DYING), str(self.deaths)] if dying else ["-m", "device_agent"]
        with (self.folder / "log").open("a") as log:
            self.process = self.host.popen(
                [sys.executable, *program, "run", "--config", str(self.config)],
                stderr=log,
                stdout=log,
                stdin=subprocess.DEVNULL,
                env=_ENVIRONMENT,
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def status(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "device_agent", "status", "--json", "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, env=_ENVIRONMENT, timeout=30, check=False)
        return dict(json.loads(done.stdout))

    def told(self, event: str) -> list[dict[str, Any]]:
        """Everything it said of one kind so far."""
        lines = (self.folder / "log").read_text().splitlines()
        said = [json.loads(line) for line in lines if line.startswith("{")]
        return [one for one in said if one["event"] == event]


class Field:
    """A bridge with agents on it, a chain and a relay on one more host."""

    def __init__(
        self, bridge: Bridge, folder: Path, *, validators: int, flipped: int = 0, settings: str = BRISK
    ) -> None:
        self.folder = folder
        relay, *hosts = bridge.hosts
        self.relay = relay
        self.agents = [
            FieldAgent(
                host,
                folder / f"agent-{number}",
                number=number,
                count=len(hosts),
                gateway=relay.ip,
                flipped=number >= len(hosts) - flipped,
                settings=settings,
            )
            for number, host in enumerate(hosts)
        ]
        script = str(Path(__file__).with_name("chain_process.py"))
        addresses = [one.address for one in self.agents]
        with (folder / "chain.log").open("wb") as log:
            self.chain = relay.popen(
                [sys.executable, script, str(folder), relay.ip, str(validators), *addresses],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_ENVIRONMENT,
            )
        assert self.chain.stdout is not None
        assert self.chain.stdout.readline() == "ready\n", (folder / "chain.log").read_text()

    def end(self) -> dict[str, Any]:
        """Stop everything, the agents first; return the books of the chain."""
        for one in self.agents:
            if one.process is not None and one.process.poll() is None:
                one.stop()
        assert self.chain.stdin is not None
        assert self.chain.stdout is not None
        self.chain.stdin.close()
        said = self.chain.stdout.read()
        self.chain.wait(30)
        assert said, (self.folder / "chain.log").read_text()
        return dict(json.loads(said))

    def models(self) -> list[bytes]:
        """The models at the relay, the oldest first."""
        found = [one for one in (self.folder / "relay" / "models").rglob("*") if one.is_file() and len(one.name) == 64]
        return [one.read_bytes() for one in sorted(found, key=lambda one: one.stat().st_mtime)]


@contextmanager
def field_of(bridge: Callable[[int], Bridge], folder: Path, count: int, *, validators: int) -> Iterator[Field]:
    """Agents that run; if the test fails, what each said last is shown."""
    field = Field(bridge(count + 1), folder, validators=validators)
    try:
        for one in field.agents:
            one.start()
        yield field
    except BaseException:
        for one in field.agents:
            print(one.folder.name, *last_lines(one), sep="\n  ")
        field.end()
        raise


def last_lines(one: FieldAgent) -> list[str]:
    """What it said last."""
    log = one.folder / "log"
    return log.read_text().splitlines()[-15:] if log.exists() else ["never started"]


def wait_for(what: str, seen: Callable[[], object], patience_s: float) -> None:
    """Look five times a second until it is there; fail, saying what is missing, after so long."""
    end_s = time.monotonic() + patience_s
    while not seen():
        if time.monotonic() > end_s:
            raise AssertionError(f"{what}: not within {patience_s:.0f} s")
        time.sleep(0.2)
