"""``idml-contracts``: compile, deploy, look at and audit the contracts.

Exit codes: 0 done, 1 it failed (one line on stderr says why; for an audit that finds fault, its report), 2 bad usage,
130 interrupted.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from contracts import solidity
from contracts.audit import Assumptions
from contracts.chain import PROFILES, ChainProfile, profile_for
from contracts.errors import ChainUnreachable, ContractsError, KeyMissing

if TYPE_CHECKING:
    from web3 import Web3

    from contracts.reading import ContractReader

KEY_VARIABLE = "IDML_DEPLOYER_KEY"

_EXAMPLES = f"""\
examples:
  idml-contracts toolchain                      install the compiler, Ganache and Anvil
  idml-contracts compile --check                are the committed artifacts what the sources compile to?
  idml-contracts deploy --chain embedded        a dry run in memory
  {KEY_VARIABLE}=0x... idml-contracts deploy --chain amoy
  idml-contracts deploy --chain http://127.0.0.1:8545 --key-file deployer.key
  idml-contracts inspect --chain amoy           the deployment and its parameters
  idml-contracts inspect --chain amoy 0x1234... one encounter
  idml-contracts forge test                     run the tests in Solidity by hand
  idml-contracts gas --gas-price 30 --rate 0.25 what an encounter costs in gas, POL and USD
  idml-contracts audit --out runs/audit         is honest play the best response? (exit code 1: not so)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except ContractsError as error:
        print(f"idml-contracts: {' '.join(str(error).split())}", file=sys.stderr)
    except OSError as error:
        print(f"idml-contracts: {error}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="idml-contracts",
        description="Compile, deploy and look at the iDML contracts.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    toolchain = commands.add_parser(
        "toolchain", allow_abbrev=False, help="install the compiler and the local chains (needs npm)"
    )
    toolchain.set_defaults(run=_toolchain)
    compiling = commands.add_parser("compile", allow_abbrev=False, help="compile the sources into contracts/artifacts")
    compiling.add_argument("--check", action="store_true", help="write nothing; fail if artifacts are stale")
    compiling.set_defaults(run=_compile)
    chain = argparse.ArgumentParser(add_help=False)
    chain.add_argument(
        "--chain",
        default="embedded",
        metavar="NAME|URL",
        help=f"{', '.join(PROFILES)}, or an RPC URL (default: embedded)",
    )
    chain.add_argument("--folder", type=Path, help="where deployments are recorded (default: per user)")
    deploying = commands.add_parser(
        "deploy", allow_abbrev=False, parents=[chain], help="deploy token, escrow and parameters"
    )
    deploying.add_argument("--key-file", type=Path, help=f"file with the private key (else: variable {KEY_VARIABLE})")
    deploying.set_defaults(run=_deploy)
    inspecting = commands.add_parser(
        "inspect", allow_abbrev=False, parents=[chain], help="show a deployment or an encounter"
    )
    inspecting.add_argument("encounter", nargs="?", type=_encounter, metavar="ENCOUNTER", help="its 32-byte id")
    inspecting.set_defaults(run=_inspect)
    slithering = commands.add_parser("slither", allow_abbrev=False, help="analyse the sources with slither")
    slithering.add_argument(
        "--slither", default="slither", metavar="PROGRAM", help="where slither is (default: on the path)"
    )
    slithering.set_defaults(run=lambda arguments: solidity.run_slither(arguments.slither))
    forging = commands.add_parser(
        "forge", allow_abbrev=False, help="run forge on the contracts, with the compiler that they are shipped with"
    )
    forging.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="what forge is to do, such as: test"
    )
    forging.set_defaults(run=lambda arguments: solidity.run_forge(arguments.arguments))
    _add_gas(commands.add_parser("gas", allow_abbrev=False, help="what an encounter costs in gas, POL and USD"))
    _add_audit(commands.add_parser("audit", allow_abbrev=False, help="is honest play the best response?"))
    return parser


def _add_gas(measuring: argparse.ArgumentParser) -> None:
    measuring.description = "Play encounters through both doors on a local chain of its own and show their gas."
    measuring.add_argument("--chain", default="embedded", choices=("embedded", "anvil", "ganache"))
    measuring.add_argument(
        "--gas-price", type=_within(1_000_000), default=30.0, metavar="GWEI", help="per gas (default 30)"
    )
    measuring.add_argument("--rate", type=_within(1_000_000), default=0.2, metavar="USD", help="per POL (default 0.20)")
    measuring.add_argument("--json", action="store_true", help="print JSON instead of the table")
    measuring.set_defaults(run=_gas)


def _gas(arguments: argparse.Namespace) -> int:
    from contracts.gas import PAPER, Cost, GasMeasureFailed, measure  # noqa: PLC0415  (needs the embedded chain)
    from contracts.localchain import open_chain  # noqa: PLC0415

    with open_chain(arguments.chain) as chain:
        try:
            costs = measure(chain)
        except GasMeasureFailed as failure:
            print(f"idml-contracts: {failure}", file=sys.stderr)
            return 1
    rows = [*costs, Cost(name="the paper", steps=(("all", PAPER),))]
    prices = {one.name: one.price(gas_price_gwei=arguments.gas_price, usd_per_coin=arguments.rate) for one in rows}
    if arguments.json:
        shown = {
            one.name: {
                "gas": one.total,
                "steps": dict(one.steps),
                "pol": prices[one.name][0],
                "usd": prices[one.name][1],
            }
            for one in rows
        }
        print(json.dumps(shown, indent=1))
        return 0
    print(f"{'gas per encounter':<58}{'gas':>9}{'of the paper':>14}{'POL':>11}{'USD':>11}")
    for one in rows:
        coins, dollars = prices[one.name]
        print(f"{one.name:<58}{one.total:>9,}{one.total / PAPER:>14.1%}{coins:>11.6f}{dollars:>11.6f}")
        if len(one.steps) > 1:
            for step, gas in one.steps:
                print(f"  {step:<56}{gas:>9,}")
    print(f"at {arguments.gas_price:g} gwei and {arguments.rate:g} USD per POL, three validators, steady state")
    return 0


def _add_audit(auditing: argparse.ArgumentParser) -> None:
    auditing.description = (
        "Play strategies of validators, Neighbors and coalitions against the pay table, and say whether honest play is "
        "the best response and every attack loses. Exit code 1: not so."
    )
    auditing.add_argument("--out", type=Path, metavar="DIR", help="write audit.json, .md, .csv, .png and .svg there")
    auditing.add_argument("--json", action="store_true", help="print JSON instead of the table")
    rules = auditing.add_argument_group("parameters (default: the shipped ones; see contracts/settlement.py)")
    rules.add_argument("--validators", type=int, choices=range(1, 8), metavar="V", help="1 to 7")
    rules.add_argument("--pv", type=_within(1), metavar="SHARE", help="p_v = 1 - p_n, 0 to 1")
    rules.add_argument("--q", type=_within(1), metavar="SHARE", help="0 to 1 (with --pv its default is p_v)")
    rules.add_argument("--bond", type=_within(1), metavar="R", help="p_v to 1 (with --pv its default is p_v)")
    assumed = auditing.add_argument_group("assumptions (see contracts/audit.py)")
    usual = Assumptions()
    assumed.add_argument("--error-rate", type=_within(0.5), metavar="X", help="both --false-alarm and --miss")
    for flag, high, meaning in (
        ("false-alarm", 0.5, "probability that an honest validator rejects a good contribution"),
        ("miss", 0.5, "probability that it accepts a bad one"),
        ("bad-share", 1, "share of bad contributions among those voted on"),
        ("measuring-cost", 1, "what measuring costs a validator, in rewards"),
        ("working-cost", 1, "what honest work costs a Neighbor, in rewards"),
        ("accident", 1, "probability that honest work turns out bad"),
        ("tolerated", 1, "share of free rides that the vote rule accepts; the shipped one accepts all"),
        ("outside-gain", 1_000_000, "what an accepted poisoning is worth outside, in rewards"),
        ("shared-errors", 1, "share of encounters in which all honest validators see the same signal"),
    ):
        default = getattr(usual, flag.replace("-", "_"))
        allowed = f"(0 to {high:,}; default {default:g})"
        assumed.add_argument(f"--{flag}", type=_within(high), metavar="X", help=f"{meaning} {allowed}")
    assumed.add_argument("--votes-visible", action="store_true", help="a voter sees earlier votes")
    auditing.set_defaults(run=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    from contracts import audit_report  # noqa: PLC0415
    from contracts.settlement import BPS, DEFAULT_PARAMETERS  # noqa: PLC0415

    pv = arguments.pv
    shares = {"q_bps": pv if arguments.q is None else arguments.q}
    shares["bond_bps"] = pv if arguments.bond is None else arguments.bond
    rules = {name: round(share * BPS) for name, share in shares.items() if share is not None}
    if pv is not None:
        rules["pn_bps"] = BPS - round(pv * BPS)
    if arguments.validators is not None:
        rules["validators"] = arguments.validators
    both = {"false_alarm": arguments.error_rate, "miss": arguments.error_rate}
    own = {one.name: getattr(arguments, one.name) for one in fields(Assumptions)}
    assumed = {name: value for one in (both, own) for name, value in one.items() if value is not None}
    try:
        parameters = replace(DEFAULT_PARAMETERS, **rules)
    except ValueError as error:
        print(f"idml-contracts: {error} (in 1/10,000): set --bond to at least --pv", file=sys.stderr)
        return 2
    judged = audit_report.Audit(parameters=parameters, assume=Assumptions(**assumed))
    written = () if arguments.out is None else audit_report.write(judged, arguments.out)
    if arguments.json:
        print(json.dumps(audit_report.as_json(judged), indent=2))
    else:
        print(audit_report.text(judged), end="")
        for path in written:
            print("written:", path)
    return 0 if judged.inside else 1


def _toolchain(_: argparse.Namespace) -> int:
    from contracts import toolchain  # noqa: PLC0415  (each command imports what it needs: --help stays quick)

    print("installed" if toolchain.install() else "already installed", "in", toolchain.MODULES)
    return 0


def _compile(arguments: argparse.Namespace) -> int:
    from contracts import compile as compiler  # noqa: PLC0415

    compiled = compiler.compile_contracts()
    if arguments.check:
        compiler.check(compiled)
    else:
        compiler.write(compiled)
    for name, stored in compiled.items():
        print(f"{name}: {len(stored['deployedBytecode']) // 2 - 1} bytes, {stored['compiler']}")
    return 0


def _deploy(arguments: argparse.Namespace) -> int:
    from eth_account import Account  # noqa: PLC0415
    from eth_account.signers.local import LocalAccount  # noqa: PLC0415

    from contracts import deploy  # noqa: PLC0415
    from contracts.localchain import open_chain  # noqa: PLC0415

    profile = profile_for(arguments.chain)
    if profile.time_control:
        with open_chain(profile.name) as local:
            deployment = deploy.deploy_local(local)
        print(f"dry run: this {profile.name} chain ended with the command, nothing is recorded")
    else:
        key = _key(arguments.key_file)
        try:
            account: LocalAccount = Account.from_key(key)
        except ValueError as error:
            raise KeyMissing("the private key must be 0x and 64 hex digits") from error
        with _remote(profile) as web3:
            tip_wei = max(int(web3.eth.max_priority_fee), profile.tip_floor_gwei * 10**9)
            deployment = deploy.deploy(web3, account, tip_wei=tip_wei)
        print("recorded in", deploy.record(deployment, arguments.folder))
    print(f"token {deployment.token}\nescrow {deployment.escrow}\nblock {deployment.block}")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from contracts import deploy  # noqa: PLC0415
    from contracts.localchain import open_chain  # noqa: PLC0415

    profile = profile_for(arguments.chain)
    if profile.time_control:
        with open_chain(profile.name) as local:
            _show(deploy.reader(local.web3, deploy.deploy_local(local)), arguments.encounter)
        return 0
    with _remote(profile) as web3:
        deployment = deploy.load(web3, arguments.folder)
        _show(deploy.reader(web3, deployment), arguments.encounter)
    return 0


def _show(reader: "ContractReader", encounter: bytes | None) -> None:
    if encounter is not None:
        found = reader.encounter(encounter)
        print(f"state {found.state.name}\nreward {found.reward}\ndeadline {found.deadline}")
        print(f"votes {found.votes} of which yes {found.yes.bit_count()}\nrecord 0x{found.record.hex()}")
        return
    print(f"token {reader.token}\nescrow {reader.escrow}\nowner {reader.escrow_owner()}")
    print(f"supply {reader.total_supply()}\npending fines {reader.pending_fines()}")
    print(f"minimum stake {reader.min_stake()}\nunbonding {reader.unbonding_period_s()} s")
    print(f"validator seats {reader.seat_count()}")
    for number in range(reader.parameter_set_count()):
        print(f"parameter set {number}: {reader.parameter_set(number)}")


@contextmanager
def _remote(profile: ChainProfile) -> "Iterator[Web3]":
    from web3 import HTTPProvider, Web3  # noqa: PLC0415
    from web3.exceptions import Web3Exception  # noqa: PLC0415
    from web3.middleware import ExtraDataToPOAMiddleware  # noqa: PLC0415

    from contracts.errors import ChainMismatch  # noqa: PLC0415

    web3 = Web3(HTTPProvider(profile.url, exception_retry_configuration=None))
    if profile.poa:
        web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    try:
        if profile.chain_id not in (None, web3.eth.chain_id):
            raise ChainMismatch(f"{profile.url} has chain id {web3.eth.chain_id}, not {profile.chain_id}")
        yield web3
    except (OSError, Web3Exception) as error:
        raise ChainUnreachable(f"{profile.url}: {error}: check the URL, the network and the account") from error


def _key(path: Path | None) -> str:
    if path is not None:
        return path.read_text().strip()
    found = os.environ.get(KEY_VARIABLE, "").strip()
    if not found:
        raise KeyMissing(f"no private key: set {KEY_VARIABLE}, or name a file with --key-file")
    return found


def _within(high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a number from 0 to {high:,}, got {text!r}")
        return value

    return number


def _encounter(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise argparse.ArgumentTypeError("an encounter id is 0x and 64 hex digits")
    return raw


if __name__ == "__main__":
    sys.exit(main())
