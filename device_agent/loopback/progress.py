"""Shows how far a simulation is: a live display on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from statistics import fmean
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from device_agent.loopback.scenario import Scenario
from device_agent.loopback.seen import Seen

_SHOWN_EVERY_S = 0.25
_LINE_EVERY_S = 10.0


class Display(Protocol):
    """Takes what a run has shown so far."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, seen: Seen) -> None:
        """Show it, if it is time to."""
        ...


def display(scenario: Scenario, console: Console, *, quiet: bool) -> Display:
    """Return what fits the console."""
    if quiet:
        return _Silent()
    return _Live(scenario, console) if console.is_terminal else _Lines(scenario, console)


def phase(seen: Seen, wanted: int) -> str:
    """Say what a run is doing."""
    if seen.virtual_s > 0:
        return "measuring models"
    opened = seen.count("Opened")
    if opened >= wanted:
        return "draining"
    return "running" if opened else "devices join"


def state(seen: Seen, scenario: Scenario) -> str:
    """Say in one line how far a run is."""
    valid = sum(one["args"]["valid"] for one in seen.feed if one["name"] == "VoteCast")
    cast = seen.count("VoteCast")
    return (
        f"{phase(seen, scenario.run.encounters)}: opened {seen.count('Opened')} of {scenario.run.encounters}, "
        f"settled {seen.count('Settled')}; virtual time {_hours(seen)}; "
        f"votes {valid} valid, {cast - valid} invalid; accuracy of honest devices {_accuracy(seen)}"
    )


def _hours(seen: Seen) -> str:
    seconds = int(seen.log.events[-1]["t"]) if seen.log.events else 0
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _accuracy(seen: Seen) -> str:
    """Write the mean over honest devices of their newest model that is measured."""
    newest: dict[str, float] = {}
    for device, models in seen.models.items():
        for digest in models if seen.honest[device] else ():
            accuracy = seen.referee.accuracy.get(digest)
            if accuracy is not None:
                newest[device] = accuracy
    return f"{100 * fmean(newest.values()):.1f} %" if newest else "not measured yet"


class _Silent:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, seen: Seen) -> None:
        return None


class _Lines(_Silent):
    def __init__(self, scenario: Scenario, console: Console) -> None:
        self._scenario = scenario
        self._console = console
        self._due_s = time.monotonic() + _LINE_EVERY_S
        self._phase = "starting"

    def __enter__(self) -> Self:
        self._print("starting chain and devices")
        return self

    def __call__(self, seen: Seen) -> None:
        now_s = time.monotonic()
        if now_s < self._due_s and phase(seen, self._scenario.run.encounters) == self._phase:
            return
        self._due_s = now_s + _LINE_EVERY_S
        self._phase = phase(seen, self._scenario.run.encounters)
        self._print(state(seen, self._scenario))

    def _print(self, text: str) -> None:
        self._console.print(f"{self._scenario.name}: {text}", highlight=False, markup=False, soft_wrap=True)


class _Live:
    def __init__(self, scenario: Scenario, console: Console) -> None:
        self._scenario = scenario
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            transient=True,
        )
        total = scenario.run.encounters
        self._opened = self._progress.add_task("opened", total=total, detail="starting chain and devices")
        self._settled = self._progress.add_task("settled", total=total, detail="")
        self._due_s = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, seen: Seen) -> None:
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + _SHOWN_EVERY_S
        valid = sum(one["args"]["valid"] for one in seen.feed if one["name"] == "VoteCast")
        self._progress.update(
            self._opened,
            completed=seen.count("Opened"),
            detail=f"{phase(seen, self._scenario.run.encounters)}, virtual time {_hours(seen)}",
        )
        self._progress.update(
            self._settled,
            completed=seen.count("Settled"),
            detail=f"votes {valid}+ {seen.count('VoteCast') - valid}-, honest accuracy {_accuracy(seen)}",
        )
