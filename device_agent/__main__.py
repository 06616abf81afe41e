"""`idml-agent`: be an agent on this device, keep its keys, or rehearse a field trial on this machine.

Exit codes: 0 done, 1 it failed (one line on stderr says why), 2 bad usage, or settings or a scenario that cannot be
used, 130 interrupted (what was seen until then is written).
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_agent import key_command, run_command, trace_command
from device_agent.errors import AgentError, ConfigError, RunExists
from device_agent.settings import Door

if TYPE_CHECKING:
    from device_agent.loopback.rundir import RunFolder
    from device_agent.loopback.scenario import Scenario

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_RUNS = Path("runs")

_EXAMPLES = """\
examples:
  idml-agent doctor --config agent.toml          is everything there that an agent needs?
  idml-agent run --config agent.toml             be an agent, until SIGTERM
  idml-agent status --config agent.toml          how it is doing
  idml-agent scenarios                           what is shipped
  idml-agent simulate demo-oppcl                 a shipped scenario, into runs/demo-oppcl
  idml-agent simulate trial.toml --seed 7 --out /tmp/trial-7
  idml-agent simulate demo-gossip --chain anvil --overwrite
  idml-agent trial demo-oppcl --gateway http://10.0.0.1:8547 --out trial    the same in the field: settings per device
  idml-agent trace */contacts.jsonl --out met.trace     what the devices of a trial logged, to be simulated again
  idml-agent simulate demo-oppcl --door direct --out runs/direct
  idml-agent simulate runs/demo-oppcl/scenario.toml --out again    repeat a run
  idml-agent report runs/demo-oppcl              write report.html anew
  idml-agent key new                             the device's account, link and radio keys, under a passphrase

exit codes: 0 done, 1 failed, 2 bad usage, settings or scenario, 130 interrupted (a partial result is written)"""


class _Usage(Exception):
    """A command line that asks for something impossible."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    extra = getattr(arguments, "extra", "simulate")
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return _failed("interrupted", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except (ConfigError, RunExists, _Usage) as error:
        return _failed(error, BAD_INPUT)
    except ModuleNotFoundError as error:
        return _failed(f"{error.name or error} is not installed: pip install 'idml[{extra}]'", FAILED)
    except (AgentError, OSError) as error:
        return _failed(_said(error), FAILED)


def _failed(reason: object, code: int) -> int:
    print(f"idml-agent: {' '.join(str(reason).split())}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="idml-agent",
        description="Be an agent on this device, and keep its keys. Or rehearse a field trial: real agents, relay and\n"
        "contract, with radios and links in memory.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run_command.add_parsers(commands)
    simulating = commands.add_parser(
        "simulate",
        allow_abbrev=False,
        help="run a scenario and write what came of it",
        description="Run a scenario. The same scenario, seed and chain give the same result.",
    )
    simulating.add_argument("scenario", metavar="SCENARIO", help="a TOML file, or the name of a shipped scenario")
    simulating.add_argument(
        "--chain",
        metavar="NAME|URL",
        help="embedded, ganache, anvil, or the URL of one (default: the scenario's)",
    )
    simulating.add_argument(
        "--door", choices=[one.value for one in Door], help="how steps reach the chain, in place of the scenario's"
    )
    simulating.add_argument("--out", type=Path, metavar="DIR", help="where results go (default: runs/NAME)")
    simulating.add_argument("--seed", type=_seed, metavar="N", help="in place of the scenario's")
    simulating.add_argument("--overwrite", action="store_true", help="delete the run that is in the folder already")
    simulating.add_argument("--quiet", action="store_true", help="print nothing but errors")
    simulating.set_defaults(run=_simulate)
    preparing = commands.add_parser(
        "trial",
        allow_abbrev=False,
        help="write the settings of each device of a field trial, from a scenario",
        description="Write an agent.toml per device, with the data, learning and incentives that `simulate` rehearses.",
    )
    preparing.add_argument("scenario", metavar="SCENARIO", help="a TOML file, or the name of a shipped scenario")
    preparing.add_argument("--gateway", required=True, metavar="URL", help="where the devices reach the gateway")
    preparing.add_argument("--out", type=Path, required=True, metavar="DIR", help="where device-00.toml and so on go")
    preparing.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    preparing.set_defaults(run=_trial)
    listing = commands.add_parser("scenarios", allow_abbrev=False, help="list the shipped scenarios")
    listing.set_defaults(run=_scenarios)
    reporting = commands.add_parser("report", allow_abbrev=False, help="write report.html anew from the files of a run")
    reporting.add_argument("folder", type=Path, metavar="DIR", help="the folder of a run")
    reporting.set_defaults(run=_report)
    trace_command.add_parser(commands)
    key_command.add_parser(commands)
    return parser


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) >= 1 << 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {(1 << 32) - 1}")
    return int(text)


def _trial(arguments: argparse.Namespace) -> int:
    from device_agent.agent_config import AgentConfig  # noqa: PLC0415
    from device_agent.config import checked, toml_text  # noqa: PLC0415
    from device_agent.loopback.scenario import read_scenario  # noqa: PLC0415
    from device_agent.loopback.trial import device_settings  # noqa: PLC0415

    scenario = read_scenario(arguments.scenario)
    texts = {}
    for number in range(scenario.devices.count):
        settings = device_settings(scenario, number, gateway=arguments.gateway)
        checked(settings, AgentConfig, where=f"--gateway {arguments.gateway}")
        texts[arguments.out / f"device-{number:02d}.toml"] = toml_text(settings)
    there = [str(one) for one in texts if one.exists()]
    if there and not arguments.overwrite:
        raise RunExists(f"{there[0]} is there already: choose another folder with --out, or say --overwrite")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    print(f"wrote {len(texts)} files to {arguments.out}: on each device, idml-agent run --config its file")
    return OK


def _scenarios(_: argparse.Namespace) -> int:
    from device_agent.loopback.scenario import read_scenario, shipped  # noqa: PLC0415 - --help stays quick

    width = max(map(len, shipped()), default=0)
    for name in shipped():
        one = read_scenario(name)
        attackers = f", {one.attackers.count} of them {one.attackers.kind}" if one.attackers.count else ""
        print(
            f"{name:<{width}}  {one.devices.count} devices{attackers}; {one.learning.algorithm} with"
            f" {one.learning.architecture} on {one.data.dataset} ({one.data.partition}),"
            f" {one.run.encounters} encounters"
        )
    return OK


def _report(arguments: argparse.Namespace) -> int:
    from device_agent.loopback.report import render  # noqa: PLC0415
    from device_agent.loopback.rundir import REPORT, read_run, write_report  # noqa: PLC0415

    summary, record = read_run(arguments.folder)
    write_report(arguments.folder, render(summary, record))
    part = "" if summary.get("finished") is True else " (of a run that was interrupted)"
    print(f"wrote {arguments.folder / REPORT}{part}")
    return OK


def _simulate(arguments: argparse.Namespace) -> int:
    from device_agent.loopback.rundir import RunFolder  # noqa: PLC0415
    from device_agent.loopback.scenario import read_scenario, timed_chain  # noqa: PLC0415

    scenario = read_scenario(arguments.scenario)
    if arguments.seed is not None:
        scenario = scenario.model_copy(update={"seed": arguments.seed})
    if arguments.chain is not None:
        try:
            kind = timed_chain(arguments.chain)
        except ValueError as error:
            raise _Usage(f"--chain {arguments.chain}: {error}") from error
        scenario = scenario.model_copy(update={"chain": scenario.chain.model_copy(update={"kind": kind})})
    if arguments.door is not None:
        chain = scenario.chain.model_copy(update={"door": Door(arguments.door)})
        scenario = scenario.model_copy(update={"chain": chain})
    with _one_line_faults():
        _check_inputs(scenario)
        with RunFolder.claim(arguments.out or _RUNS / scenario.name, overwrite=arguments.overwrite) as folder:
            return _run(scenario, folder, quiet=arguments.quiet)


def _check_inputs(scenario: Scenario) -> None:
    """Read what the run will read, so that nothing is written or deleted for a run that cannot start.

    And load what it will need: who is interrupted at that leaves nothing behind.
    """
    import device_agent.loopback.report  # noqa: PLC0415
    import device_agent.loopback.simulation  # noqa: F401, PLC0415
    from device_agent.learning.shares import spread  # noqa: PLC0415
    from device_agent.loopback.contacts import trace_contacts  # noqa: PLC0415
    from models.data import load  # noqa: PLC0415

    contacts = scenario.contacts
    if contacts.file is not None:
        trace_contacts(contacts.file, devices=scenario.devices.count, gap_s=contacts.merge_gap_s)
    spread(scenario.data, load(scenario.data.dataset), count=scenario.devices.count, seed=scenario.seed)


def _run(scenario: Scenario, folder: RunFolder, *, quiet: bool) -> int:
    from rich.console import Console  # noqa: PLC0415

    from device_agent.loopback import summary as results  # noqa: PLC0415
    from device_agent.loopback.progress import display  # noqa: PLC0415
    from device_agent.loopback.report import render  # noqa: PLC0415
    from device_agent.loopback.seen import Seen  # noqa: PLC0415
    from device_agent.loopback.simulation import simulate  # noqa: PLC0415

    def progress(seen: Seen) -> None:
        folder.begun = folder.begun or seen.count("Opened") > 0
        show(seen)

    folder.keep_scenario(scenario)
    with (
        display(scenario, Console(stderr=True), quiet=quiet) as show,
        simulate(scenario, folder.path, progress=progress) as seen,
    ):
        summary, record = results.summarise(scenario, seen), results.record(scenario, seen)
    folder.begun = True
    folder.finish(summary=summary, record=record, report=render(summary, record))
    if not quiet:
        _show(summary, folder.path)
    if summary["finished"]:
        return OK
    return _failed(f"interrupted: what was seen until then is in {folder.path}", INTERRUPTED)


def _show(summary: dict[str, Any], folder: Path) -> None:
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from device_agent.loopback.report import key_lines  # noqa: PLC0415
    from device_agent.loopback.rundir import DEVICES, MODELS, RESULTS, STORE  # noqa: PLC0415

    table = Table(title=Text(f"{summary['scenario']} on {summary['chain']['kind']}"), box=box.SIMPLE, show_header=False)
    table.add_column(style="bold")
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for line in key_lines(summary):
        table.add_row(*map(Text, line))
    console = Console()
    console.print(table)
    size_bytes = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    for text in (
        f"results in {folder}: {', '.join(RESULTS)}",
        f"kept for a closer look: {DEVICES}/*/journal.sqlite, {STORE}, {MODELS}/ ({size_bytes / 1e6:,.0f} MB in all)",
    ):
        console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _one_line_faults() -> Iterator[None]:
    """Turn what can go wrong in any part of a run into an `AgentError` with a line for the operator."""
    from web3.exceptions import Web3Exception  # noqa: PLC0415

    from contracts.errors import ContractsError  # noqa: PLC0415
    from gateway.errors import GatewayError  # noqa: PLC0415
    from models.errors import ModelsError  # noqa: PLC0415

    expected = (AgentError, ContractsError, GatewayError, ModelsError, Web3Exception, OSError)
    try:
        yield
    except (Exception, BaseExceptionGroup) as error:
        cause = _first(error, expected)
        if cause is None or isinstance(cause, AgentError | OSError):
            raise (cause or error) from error
        raise AgentError(str(cause)) from error


def _first(error: BaseException, kinds: tuple[type[Exception], ...]) -> Exception | None:
    """Return the first of these kinds in an exception, or in the group of exceptions that it is."""
    if isinstance(error, BaseExceptionGroup):
        found = (_first(one, kinds) for one in error.exceptions)
        return next((one for one in found if one is not None), None)
    return error if isinstance(error, kinds) else None


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{where}: free some space and run again with --overwrite"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
