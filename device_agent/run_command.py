"""`idml-agent run`, `status` and `doctor`: the agent on a device, and how it is doing."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_agent.errors import AgentError, KeystoreFault, PassphraseFault

if TYPE_CHECKING:
    from device_agent.agent_config import AgentConfig
    from device_agent.doctor import Check
    from device_agent.keystore import Keys

OK, FAILED = 0, 1

EXAMPLE = """\
agent.toml:
  state = "/var/lib/idml"           # journal and keystore
  [gateway]
  url = "https://10.0.0.1:8547"
  fingerprint = "5a:0c:..."         # of `idml-gateway fingerprint`
  [share]
  number = 3                        # this device's part of the data,
  of = 10                           # of so many
  [learning]
  algorithm = "oppcl"
"""


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the three to a parser's commands."""
    settings = argparse.ArgumentParser(add_help=False)
    settings.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML (default: all defaults)")
    running = commands.add_parser(
        "run",
        parents=[settings],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="be an agent on this device, until SIGTERM or Ctrl-C",
        description="Find neighbours, learn from them and for them, vote, and be paid. Goes on where it was stopped.",
        epilog=EXAMPLE,
    )
    running.set_defaults(run=run, extra="train")
    asking = commands.add_parser(
        "status",
        parents=[settings],
        allow_abbrev=False,
        help="how the agent is doing: neighbours, encounters, balances, outbox, last faults",
        description="Ask the agent that runs, or read the journal of one that does not. Exit code 1: none runs.",
    )
    asking.add_argument("--json", action="store_true", help="for programs")
    asking.set_defaults(run=status, extra="agent")
    examining = commands.add_parser(
        "doctor",
        parents=[settings],
        allow_abbrev=False,
        help="look at everything an agent needs before it is needed",
        description="Check keystore, folder, network, Bluetooth, data, training, validation, gateway and account."
        " Exit code 1: something fails.",
    )
    examining.add_argument("--json", action="store_true", help="for programs")
    examining.set_defaults(run=doctor, extra="train")


def run(arguments: argparse.Namespace) -> int:
    """Be an agent."""
    from device_agent.clock import SystemClock  # noqa: PLC0415 - `--help` stays quick
    from device_agent.live import live  # noqa: PLC0415
    from device_agent.told import Told  # noqa: PLC0415

    config = _config(arguments)
    keys = _keys(config)
    asyncio.run(live(config, keys, Told(config.log_format, SystemClock().wall_s)))
    return OK


def status(arguments: argparse.Namespace) -> int:
    """Say how it is doing."""
    from device_agent.journal import Journal  # noqa: PLC0415
    from device_agent.live import JOURNAL  # noqa: PLC0415
    from device_agent.status import ask, remembered  # noqa: PLC0415

    config = _config(arguments)
    found = ask(config.state)
    if found is None:
        place = config.state / JOURNAL
        if not place.exists():
            raise AgentError(f"{config.state}: no agent has ever run there")
        journal = Journal(place)
        try:
            found = {"running": False, **remembered(journal)}
        finally:
            journal.close()
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        _show_status(found)
    return OK if found["running"] else FAILED


def doctor(arguments: argparse.Namespace) -> int:
    """Look at everything."""
    from device_agent.doctor import Finding, examine, failure, ok  # noqa: PLC0415

    config = _config(arguments)
    checks: list[Check] = []
    account_key = None
    try:
        account_key = _keys(config).account_key
        checks.append(ok("keystore", str(config.keystore)))
    except (KeystoreFault, PassphraseFault) as fault:
        checks.append(failure("keystore", str(fault)))
    for one in checks if not arguments.json else ():
        _show_check(one)
    for one in examine(config, account_key):
        checks.append(one)
        if not arguments.json:
            _show_check(one)
    if arguments.json:
        print(json.dumps([{"what": one.what, "finding": one.finding, "said": one.said} for one in checks], indent=2))
    return FAILED if any(one.finding is Finding.FAILURE for one in checks) else OK


def _config(arguments: argparse.Namespace) -> AgentConfig:
    from device_agent.agent_config import AgentConfig, read_agent_config  # noqa: PLC0415

    return AgentConfig() if arguments.config is None else read_agent_config(arguments.config)


def _keys(config: AgentConfig) -> Keys:
    from device_agent import passphrase  # noqa: PLC0415
    from device_agent.keystore import open_keystore  # noqa: PLC0415

    given = passphrase.obtain(
        "passphrase of the keystore",
        file=config.identity.passphrase_file,
        option="identity.passphrase_file in the settings: a",
        credentials=passphrase.credentials_of(os.environ),
        ask=passphrase.terminal(),
    )
    return open_keystore(config.keystore, given)


def _show_check(one: Check) -> None:
    mark = {"ok": "ok     ", "warning": "WARNING", "failure": "FAILURE"}[one.finding]
    print(f"{mark}  {one.what:<11} {one.said}", flush=True)


def _show_status(found: dict[str, Any]) -> None:
    running = found["running"]
    print(f"agent       {'running as ' + found['address'] if running else 'not running; from its journal:'}")
    if running:
        print(f"model       {found['model']['digest'][:16]}..., {found['model']['age']} steps")
        account = found["account"]
        if "unknown" in account:
            print(f"account     unknown: {account['unknown']}")
        else:
            print(
                f"account     free {_tokens(account['free'])}, locked {_tokens(account['locked'])},"
                f" wallet {_tokens(account['tokens'])} tokens; seat {account['seat'] or 'none'}"
            )
        if found["unfit"]:
            print(f"health      takes on no work: {', '.join(found['unfit'])}")
        _list(
            "neighbours",
            [
                f"{one['peer']} at {one['endpoint']}, {one['since_s']:.0f} s, seen {one['last_seen_s']:.0f} s ago"
                + (f", {one['distance']}" if one["distance"] else "")
                + (", avoided" if one["avoided"] else "")
                for one in found["neighbors"]
            ],
        )
    _list(
        "encounters",
        [
            f"{one['key'][:8]} as {one['role']} with {one['peer']}: {one['stage']}"
            + (" on credit" if one["on_credit"] else "")
            + (f" ({one['reason']})" if one["reason"] else "")
            for one in found["encounters"]
        ],
        found["encounters_in_all"],
    )
    _list(
        "never opened",
        [
            f"{one['key'][:8]} as {one['role']} with {one['peer']}, {_tokens(one['reward'])} tokens: {one['reason']}"
            for one in found["lost"]
        ],
    )
    _list(
        "outbox",
        [one["what"] + (f": {one['last_refusal']}" if one["last_refusal"] else "") for one in found["outbox"]],
        found["outbox_in_all"],
    )
    _list("refused", [f"{one['what']}: {one['why']}" for one in found["refused"]])
    if running:
        _list(
            "last faults",
            [
                f"{one['time']} {one['what']} " + " ".join(f"{k}={v}" for k, v in one.items() if k not in _HEAD)
                for one in found["last_faults"]
            ],
        )


_HEAD = {"time", "what"}


def _list(title: str, lines: list[str], in_all: int | None = None) -> None:
    count = len(lines) if in_all is None else in_all
    print(f"{title:<11} {count or 'none'}")
    for line in lines:
        print(f"  {line}")
    if count > len(lines):
        print(f"  and {count - len(lines)} more")


def _tokens(base_units: str) -> str:
    return f"{int(base_units) / 10**18:,.4f}".rstrip("0").rstrip(".")
