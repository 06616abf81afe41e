"""The tests written in Solidity: forge with our own compiler, its settings and nothing from the network."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from contracts import toolchain
from contracts.errors import ContractsError

ROOT: Final = Path(__file__).parent
"""Where foundry.toml lies."""

_ANALYSED: Final = "toolchain/forge/slither"


EXCLUDED: Final = MappingProxyType(
    {
        "timestamp": "deadlines are the protocol; seconds that a block's maker can shift decide nothing",
        "assembly": "hashes and signatures straight from calldata: measured in tests/contracts/gas.json",
        "cyclomatic-complexity": "the tally of a settlement is one loop in assembly, for its gas",
        "low-level-calls": "the token pays its own coin out, and a refusal becomes PaymentRefused",
        "naming-convention": "RATE and MAX_SUPPLY are constants of the token, and named like constants",
    }
)
"""Detectors of slither that are left out everywhere, and why; single findings are explained where they stand."""


class ForgeFailed(ContractsError):
    """forge could not run the tests at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One test written in Solidity.

    Attributes:
        suite: its contract.
        name: its function, with the types of its arguments.
        reason: why it failed; None if it passed.
        runs: fuzz runs, or calls of an invariant's campaign; 1 for a plain test.
    """

    suite: str
    name: str
    reason: str | None
    runs: int


def command(arguments: Sequence[str]) -> list[str]:
    """The command line of forge for ``arguments``, to be run in `ROOT`. Raises `ToolMissing`."""
    return [*toolchain.forge(), *arguments, "--use", str(toolchain.solc()), "--offline"]


def run_forge(arguments: Sequence[str]) -> int:
    """Run forge as `command` says; returns its exit code. Raises `ToolMissing`."""
    environment = os.environ | {"FOUNDRY_DISABLE_NIGHTLY_WARNING": "1"}
    return subprocess.run(command(arguments), cwd=ROOT, env=environment, check=False).returncode


def run_tests(profile: str = "default") -> tuple[Outcome, ...]:
    """Run all tests, as deep as ``profile`` in foundry.toml says. Raises `ToolMissing` or `ForgeFailed`."""
    environment = os.environ | {"FOUNDRY_PROFILE": profile, "FOUNDRY_DISABLE_NIGHTLY_WARNING": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        command(["test", "--json"]), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    start = next((line for line in done.stdout.splitlines() if line.startswith('{"test/')), None)
    if start is None:
        raise ForgeFailed((done.stderr or done.stdout).strip()[-2000:])
    return tuple(
        Outcome(
            suite=suite.rpartition(":")[2],
            name=name,
            reason=None if result["status"] == "Success" else f"{result['status']}: {result.get('reason')}",
            runs=_runs(result["kind"]),
        )
        for suite, found in sorted(json.loads(start).items())
        for name, result in sorted(found["test_results"].items())
    )


def slither_command(slither: str) -> list[str]:
    """The command line of slither over what `build_for_slither` built, to be run in `ROOT`."""
    left_out = ",".join(EXCLUDED)
    built = ["--foundry-ignore-compile", "--foundry-out-directory", _ANALYSED]
    return [slither, ".", *built, "--filter-paths", "node_modules|test/", "--exclude", left_out, "--fail-low"]


def run_slither(slither: str) -> int:
    """Build with forge and analyse with slither; returns slither's exit code. Raises `ToolMissing` or `ForgeFailed`."""
    forge = Path(toolchain.forge()[0])
    environment = os.environ | {"PATH": f"{forge.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    build = [
        "build",
        "--force",
        "--build-info",
        "--skip",
        "test",
        "--out",
        _ANALYSED,
        "--cache-path",
        f"{_ANALYSED}-cache",
    ]
    built = subprocess.run(command(build), cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise ForgeFailed((built.stderr or built.stdout).strip()[-2000:])
    return subprocess.run(slither_command(slither), cwd=ROOT, env=environment, check=False).returncode


def _runs(kind: dict[str, dict[str, int]]) -> int:
    if "Invariant" in kind:
        return int(kind["Invariant"]["calls"])
    return int(kind["Fuzz"]["runs"]) if "Fuzz" in kind else 1
