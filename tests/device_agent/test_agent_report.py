"""The page of a run: whole, self-contained, escaped, and the same each time."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_values import made_up_run

from device_agent.errors import RunUnusable
from device_agent.loopback.plots import Line, accuracy_plot, stake_plot
from device_agent.loopback.report import dropped, render

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced, and gathers ids, references, text and what is fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.refers: set[str] = set()
        self.loads: list[str] = []
        self.text: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in ((name, value or "") for name, value in attrs):
            if name == "id":
                self.ids.append(value)
            elif name.endswith("href") or name == "src":
                (self.refers.add(value[1:]) if value.startswith("#") else self.loads.append(value))
            elif name == "aria-labelledby":
                self.refers.add(value)
            self.refers.update(re.findall(r"url\(#([^)]+)\)", value))
            assert not name.startswith("on")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_page_is_whole_and_needs_nothing_but_itself() -> None:
    text = render(*made_up_run())
    page = Page(text)
    assert text.count("<svg") == 5
    assert len(page.ids) == len(set(page.ids))
    assert page.refers <= set(page.ids)
    assert page.loads == []
    assert not page.tags & {"script", "iframe", "object", "link", "img"}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text
    assert "viewport" in text
    assert "#01020" not in text
    assert len(text) < 300_000


def test_a_page_tells_the_key_figures_and_every_encounter() -> None:
    summary, record = made_up_run()
    shown = re.sub(r"\s+", " ", " ".join(Page(render(summary, record)).text))
    for said in ("11 of 12", "30.0 % \u2192 70.0 %", "460,000", "457,225", "conserved", "made-up", "66.7 %"):
        assert said in shown
    assert shown.count("device-04 (a)") == sum(
        "device-04" in (one["learner"], one["neighbor"]) for one in record["encounters"]
    )
    assert shown.count("open or expired") == 1
    assert "was interrupted" not in shown


def test_a_partial_run_says_so() -> None:
    summary, record = made_up_run()
    assert "This run was interrupted" in render(summary | {"finished": False}, record)


def test_lost_tokens_are_not_hidden() -> None:
    summary, record = made_up_run()
    summary["tokens"]["conserved"] = False
    assert "NOT conserved" in render(summary, record)


def test_the_same_run_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    summary, record = made_up_run()
    (tmp_path / "run.json").write_text(json.dumps([summary, record]))
    program = (
        "import json, sys; from device_agent.loopback.report import render;"
        "sys.stdout.buffer.write(render(*json.load(open(sys.argv[1]))).encode())"
    )
    other = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run.json")],
        capture_output=True,
        timeout=60,
        check=True,
        env={"PYTHONHASHSEED": "77", "PATH": "/usr/bin"},
    )
    assert other.stdout.decode() == render(summary, record)


def test_times_of_this_machine_are_not_in_the_page() -> None:
    summary, record = made_up_run()
    assert render(summary, record) == render(summary | {"wall_s": 99.0, "encounters_per_s": 7.0}, record)


def test_everything_is_escaped() -> None:
    evil = "<script>alert('x')</script>&\""
    summary, record = made_up_run()
    summary["dataset"] = summary["chain"]["kind"] = evil
    record["scenario"]["data"]["dataset"] = f"folder:{evil}"
    for device in record["devices"]:
        if device["name"] == "device-01":
            device["name"] = evil
    for one in record["encounters"]:
        one["learner"], one["votes"][0]["voter"], one["votes"][0]["reason"] = evil, evil, evil
    for sample in record["balances"]:
        sample["accounts"][evil] = sample["accounts"].pop("device-01")
    text = render(summary, record)
    assert "script" not in Page(text).tags
    assert "<script" not in text


@pytest.mark.parametrize(("devices", "attackers", "encounters"), [(2, 0, 1), (5, 0, 0), (3, 2, 3), (60, 30, 1500)])
def test_odd_sizes_give_a_page_too(devices: int, attackers: int, encounters: int) -> None:
    summary, record = made_up_run(devices=devices, attackers=attackers, encounters=encounters)
    if not encounters:
        summary["gas"] = {"per_encounter": None, "by_step": {}, "calls": {}}
        summary["encounters"]["settled"] = 0
        summary["tokens"] = None
        record["balances"] = []
        record["models"] = []
    text = render(summary, record)
    Page(text)
    assert len(text) < 800_000
    if encounters > 1000:
        assert "The last 500 of 1500" in text


@pytest.mark.parametrize("missing", ["devices", "encounters", "models", "balances", "scenario", "format"])
def test_what_no_run_writes_is_told(missing: str) -> None:
    summary, record = made_up_run()
    broken = copy.deepcopy(record)
    del broken[missing]
    with pytest.raises(RunUnusable, match=r"format None|are not what a run writes"):
        render(summary, broken)
    with pytest.raises(RunUnusable):
        render({}, record)


def line(device: str, values: list[float]) -> Line:
    return Line(device=device, honest=False, at=list(range(len(values))), values=values)


def test_a_device_falls_out_when_it_is_below_for_good() -> None:
    stakes = [line("in", [9, 4, 6]), line("out", [9, 4, 6, 4, 3]), line("edge", [5, 5]), line("never", [0, 1])]
    assert dropped(stakes, 5) == {"out": 3}


def test_the_moment_of_falling_out_is_named() -> None:
    stakes = [line("device-08", [9, 4])]
    assert "device-08" in stake_plot(stakes, 5, {"device-08": 1})
    assert "device-08" not in stake_plot(stakes, 5, {})


def test_attackers_differ_by_more_than_colour() -> None:
    drawn = accuracy_plot(
        [Line(device="a", honest=True, at=[0, 1], values=[0.1, 0.2]), line("b", [0.1, 0.2])], encounters=1
    )
    assert "stroke-dasharray" in drawn
    assert "honest, mean" in drawn
    assert "attackers, mean" in drawn
