"""A field of real agents: each a process on a host of its own, with keystore, journal, link and radio."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from namespaces import Bridge, Host

from device_agent.encounter import Role
from device_agent.keystore import Keys, create

ROOT = Path(__file__).parents[2]
_HERE = Path(__file__).parent
_SAID_LAST = 15
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
codec = "int8"
max_rounds = 20
own_steps = 5
warmup_steps = 5
batch_size = 32
learning_rate = 0.05
[behaviour]
learner = true
poll_s = 1.0
jobs_poll_s = 1.0
jobs_wait_s = 5
avoid_below = -1000.0
open_within_s = 60
report_within_s = 180
grace_s = 10
cooldown_s = 5.0
expected_encounter_s = 5.0
ping_every_s = 4.0
lost_after_s = 10.0
usual_contact_s = 600.0
"""
"""Learns at once, and asks often: a test does not wait long for it. A contact lasts as long as the test,
however slow the machine makes encounters. Few images make much honest work invalid, and tests kill whom they like:
nobody is avoided for it."""

T = TypeVar("T")
MakeBridge = Callable[[int], Bridge]


class FieldAgent:
    """One agent on one host."""

    def __init__(
        self,
        host: Host,
        folder: Path,
        *,
        number: int,
        count: int,
        gateway: str,
        flipped: bool,
        settings: str,
        changed: Mapping[str, object],
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
        self.change(changed)
        self.process: subprocess.Popen[str] | None = None
        self.deaths = folder / "deaths"
        self.deaths.touch()

    def change(self, changed: Mapping[str, object]) -> None:
        """Set other values in its settings, by their names."""
        text = self.config.read_text()
        for name, value in changed.items():
            written = value if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(value)
            text, found = re.subn(rf"(?m)^{name} = .*$", f"{name} = {written}", text)
            assert found == 1, f"the settings have {found} lines of {name}"
        self.config.write_text(text)

    def start(self, *program: str) -> None:
        """Start it; `program`: by a script of this folder, with its arguments, that changes it first."""
        script, *arguments = program or ("",)
        begin = [str(_HERE / script), *arguments] if script else ["-m", "device_agent"]
        with (self.folder / "log").open("a") as log:
            self.process = self.host.popen(
                [sys.executable, *begin, "run", "--config", str(self.config)],
                stderr=log,
                stdout=log,
                stdin=subprocess.DEVNULL,
                env=_ENVIRONMENT,
            )

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

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

    def encounters(self, role: Role) -> dict[str, dict[str, Any]]:
        """What it said last of each encounter in which it had this role."""
        return {said["key"]: said for said in self.told("encounter") if said["role"] == role}

    def pid_of_training(self) -> int | None:
        """The process that trains for it, None while there is none."""
        for pid in self.host.pids():
            with suppress(OSError):  # it ended meanwhile
                if b"device_agent.learning.compute\0training" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None

    def waits_in_outbox(self) -> list[str]:
        """What no gateway has taken yet."""
        return [one["what"] for one in self.status()["outbox"]]


class Field:
    """A bridge with agents on it, a chain and a relay on one more host."""

    def __init__(
        self,
        bridge: Bridge,
        folder: Path,
        *,
        validators: int,
        vote_time_s: int = 60,
        flipped: int = 0,
        settings: str = BRISK,
        changed: Mapping[str, object] = MappingProxyType({}),
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
                changed=changed,
            )
            for number, host in enumerate(hosts)
        ]
        script = str(_HERE / "chain_process.py")
        addresses = [one.address for one in self.agents]
        with (folder / "chain.log").open("wb") as log:
            self.chain = relay.popen(
                [sys.executable, script, str(folder), relay.ip, str(validators), str(vote_time_s), *addresses],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_ENVIRONMENT,
            )
        assert self.chain.stdout is not None
        assert self.chain.stdout.readline() == "ready\n", (folder / "chain.log").read_text()

    def kill_relay(self) -> None:
        """Kill the gateway; the chain goes on."""
        self._order("kill")

    def start_relay(self) -> None:
        """Start the gateway again, with what it had on disk."""
        self._order("start")

    def _order(self, order: str) -> None:
        assert self.chain.stdin is not None
        self.chain.stdin.write(f"{order}\n")
        self.chain.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Stop everything, the agents first; return the books of the chain."""
        for one in self.agents:
            if one.alive:
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
def field_of(
    bridge: MakeBridge,
    folder: Path,
    count: int,
    *,
    validators: int,
    vote_time_s: int = 60,
    settings: str = BRISK,
    changed: Mapping[str, object] = MappingProxyType({}),
    started: bool = True,
) -> Iterator[Field]:
    """Agents that run, with settings `changed` alike; if the test fails, what each said last is shown."""
    hosts = bridge(count + 1)
    field = Field(hosts, folder, validators=validators, vote_time_s=vote_time_s, settings=settings, changed=changed)
    try:
        for one in field.agents if started else ():
            one.start()
        yield field
    except BaseException:
        for one in field.agents:
            print(one.folder.name, *last_lines(one), sep="\n  ")
        field.end()
        raise


def last_lines(one: FieldAgent) -> list[str]:
    """What an agent said last, as it wrote it."""
    log = one.folder / "log"
    return log.read_text().splitlines()[-_SAID_LAST:] if log.exists() else ["never started"]


def wait_for(what: str, seen: Callable[[], T | None], patience_s: float) -> T:
    """Look five times a second until it is there, and return it; fail, saying what is missing, after so long."""
    end_s = time.monotonic() + patience_s
    while not (found := seen()):
        if time.monotonic() > end_s:
            raise AssertionError(f"{what}: not within {patience_s:.0f} s")
        time.sleep(0.2)
    return found
