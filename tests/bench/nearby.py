"""How soon devices that come near know each other, and what one costs that has nothing to do, on hosts of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "field"))

import psutil
from agents import Field, FieldAgent, wait_for
from namespaces import Bridge, Host, what_is_missing
from radios import RadioProcess

PATIENCE_S = 60.0
REST_S = 30.0
WATCHED_S = 60.0
RADIOS = 20

_PEER = str(Path(__file__).with_name("arriving_peer.py"))
_ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
IDLE = """\
[learning]
architecture = "cnn6"
warmup_steps = 0
[behaviour]
learner = false
"""
"""All else as an agent does it by itself."""


class NoNetwork(Exception):
    """No hosts can be made here; the message says why."""


def bridge_of(hosts: int) -> Bridge:
    """A network of so many hosts. Raises `NoNetwork`."""
    missing = what_is_missing()
    if missing is not None:
        raise NoNetwork(missing)
    return Bridge(hosts)


# -- who comes near ----------------------------------------------------------------------------------------------------


class _Peer:
    def __init__(self, host: Host, name: str) -> None:
        self._process = host.popen(
            [sys.executable, _PEER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_ENVIRONMENT
        )
        self.hears("ready")

    def hears(self, what: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        said = dict(json.loads(self._process.stdout.readline() or "{}"))
        assert said.get("what") == what, f"{what} was expected, not {said}"
        return said

    def says(self, line: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def leaves(self) -> None:
        self.says()
        assert self._process.wait(PATIENCE_S) == 0


def arrivals(count: int) -> list[float]:
    """Return the seconds that newcomers took, one after the other, to meet a device that was there before."""
    took = []
    with bridge_of(2) as bridge:
        there, coming = bridge.hosts
        resident = _Peer(there, "resident")
        resident.says("go")
        resident.hears("opened")
        for number in range(count + 1):
            newcomer = _Peer(coming, f"newcomer {number}")
            time.sleep(3 if number == 0 else 1)  # the resident has announced itself, and forgotten the one before
            newcomer.says("go")
            newcomer.hears("opened")
            took.append(float(newcomer.hears("met")["after_s"]))
            newcomer.leaves()
        resident.hears("met")
        resident.leaves()
    return took[1:]


def converging() -> float:
    """Return the seconds from the start of the last of twenty radios until each has seen all others."""
    with bridge_of(RADIOS) as bridge:
        radios = [RadioProcess(host, f"{number:016x}") for number, host in enumerate(bridge.hosts)]
        last_open_s = max(one.wait_for("opens", PATIENCE_S)["at_s"] for one in radios)
        pairs = [(one, other) for one in radios for other in radios if one is not other]
        seen_s = max(one.sees(other, PATIENCE_S)["seen_at_s"] for one, other in pairs)
    return float(seen_s - last_open_s)


# -- who has nothing to do ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Idle:
    """What agents cost that have a neighbour and a gateway, and nothing to do; one value of each agent.

    Attributes:
        cpu_pct: of one core, of the agent and its children.
        mib: resident memory of the agent's own process.
        children_mib: of its children, where they live.
    """

    cpu_pct: list[float]
    mib: list[float]
    children_mib: list[float]


def idle() -> Idle:
    """Start two agents, wait until they have staked and met, let them rest, and watch them for a minute."""
    with tempfile.TemporaryDirectory() as folder, bridge_of(3) as bridge:
        field = Field(bridge, Path(folder), validators=1, settings=IDLE)
        try:
            for one in field.agents:
                one.start()
            wait_for("two neighbours", lambda: all(one.told("neighbor up") for one in field.agents), PATIENCE_S)
            wait_for("two stakes", lambda: all(one.told("joined") for one in field.agents), PATIENCE_S)
            time.sleep(REST_S)
            before, began_s = [_cpu_s(one) for one in field.agents], time.monotonic()
            time.sleep(WATCHED_S)
            after, watched_s = [_cpu_s(one) for one in field.agents], time.monotonic() - began_s
            return Idle(
                cpu_pct=[100 * (now - then) / watched_s for then, now in zip(before, after, strict=True)],
                mib=[_process(one).memory_info().rss / (1 << 20) for one in field.agents],
                children_mib=[
                    sum(child.memory_info().rss for child in _process(one).children(recursive=True)) / (1 << 20)
                    for one in field.agents
                ],
            )
        finally:
            field.end()


def _process(one: FieldAgent) -> psutil.Process:
    assert one.process is not None
    return psutil.Process(one.process.pid)


def _cpu_s(one: FieldAgent) -> float:
    process = _process(one)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)
