"""`idml-agent trace`: what the devices of a field trial logged, as a trace that a simulation replays."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from device_agent.errors import RunExists, StorageFault
from device_agent.trace import Trace, joined, read_log

OK, FAILED = 0, 1
_MOST_PAIRS = 20

_EPILOG = """\
Each device of a trial writes contacts.jsonl into its state folder where its settings say so:
  [trial]
  contacts = true
Collect the files, one per device, and number the devices by their order:
  idml-agent trace pi-1.jsonl pi-2.jsonl pi-3.jsonl --out met.trace
A scenario replays them:
  [devices]
  count = 3
  [contacts]
  kind = "trace"
  file = "met.trace"
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add it to a parser's commands."""
    joining = commands.add_parser(
        "trace",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="join the contact logs of a field trial to a trace that `simulate` replays",
        description="Join the contact logs of a field trial to a trace that `simulate` replays. The logs hold ids\n"
        "that changed every few minutes; together they tell which were of one device. Exit code 1: nobody met.",
        epilog=_EPILOG,
    )
    joining.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="contacts.jsonl of one device")
    joining.add_argument("--out", type=Path, required=True, metavar="FILE", help="the trace")
    joining.add_argument("--overwrite", action="store_true", help="replace a file that is there already")
    joining.set_defaults(run=run, extra="agent")


def run(arguments: argparse.Namespace) -> int:
    """Join them."""
    if arguments.out.exists() and not arguments.overwrite:
        raise RunExists(f"{arguments.out} is there already: choose another file with --out, or say --overwrite")
    logs = [read_log(one) for one in arguments.logs]
    trace = joined(logs)
    if not trace.contacts:
        print(f"{len(logs)} devices, and none of them met another one of them: nothing is written")
        return FAILED
    try:
        arguments.out.write_text("".join(f"{line}\n" for line in trace.lines()), encoding="ascii")
    except OSError as error:
        raise StorageFault(f"{arguments.out}: {error.strerror}") from error
    for number, log in enumerate(logs, start=1):
        print(f"device {number:<3} {log.path}: {len(log.shown)} ids, {len(log.contacts)} lines of contacts")
    _show_pairs(trace)
    if trace.one_sided:
        print(f"one-sided   {trace.one_sided} contacts are between devices of which only one logged the other")
    if trace.strangers:
        print(f"left out    contacts with {trace.strangers} ids of devices whose log is not here")
    print(f"wrote {arguments.out}: {len(trace.contacts)} contacts in {_duration(_span_s(trace))}")
    return OK


def _show_pairs(trace: Trace) -> None:
    lengths: dict[tuple[int, int], list[float]] = defaultdict(list)
    for start_s, end_s, i, j in trace.contacts:
        lengths[i, j].append(end_s - start_s)
    longest = sorted(lengths, key=lambda pair: -sum(lengths[pair]))
    for i, j in longest[:_MOST_PAIRS]:
        found = lengths[i, j]
        print(f"{i:>3} - {j:<3}   {len(found):>4} contacts, {_duration(sum(found))} together")
    if len(longest) > _MOST_PAIRS:
        print(f"            and {len(longest) - _MOST_PAIRS} more pairs")


def _span_s(trace: Trace) -> float:
    return max(end_s for _, end_s, *_ in trace.contacts) - trace.contacts[0][0]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{seconds / 60:.1f} min"
