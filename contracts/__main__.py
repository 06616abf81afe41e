"""``idml-contracts``: compile, deploy and look at the contracts.

Exit codes: 0 done, 1 it failed (one line on stderr says why), 2 bad usage, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
    return parser


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
        print(f"votes {found.votes} of which yes {found.yes.bit_count()}\nupdated 0x{found.updated.hex()}")
        print("panel", *reader.panel(encounter))
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
