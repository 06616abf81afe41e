"""Compile the contracts into `contracts/artifacts`, the same bytes wherever it runs.

A compiler of the pinned version that py-solc-x has installed serves as well as the WebAssembly build from
npm: names of sources are relative, and the bytecode carries no metadata hash.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from contracts import abi, toolchain
from contracts.errors import ArtifactsStale, CompilationFailed, CompilerMissing, ToolMissing

SOLC_VERSION: Final = "0.8.30"
EVM_VERSION: Final = "shanghai"
"""Ganache 7.9.2 knows nothing newer."""

OPTIMIZER_RUNS: Final = 600
_OUTPUTS: Final = [
    "abi",
    "metadata",
    "storageLayout",
    "evm.bytecode.object",
    "evm.deployedBytecode.object",
    "evm.deployedBytecode.immutableReferences",
]
_ROOT: Final = Path(__file__).parent


def compile_contracts() -> dict[str, dict[str, Any]]:
    """Each contract's artifact by name, as it is stored.

    Raises `CompilerMissing` or `CompilationFailed` (warnings of our own sources count as failures).
    """
    import solcx  # noqa: PLC0415  (slow to import, and only compiling needs it)
    from solcx.exceptions import SolcError  # noqa: PLC0415

    binary = _compiler()
    try:
        output = solcx.compile_standard(_request(), base_path=_ROOT, solc_binary=binary)
    except SolcError as error:
        raise CompilationFailed(str(error.message)) from error
    for one in output.get("errors", []):
        if one.get("sourceLocation", {}).get("file", "").startswith("src/"):
            raise CompilationFailed(one["formattedMessage"])
    return {name: _stored(output["contracts"][f"src/{name}.sol"][name]) for name in abi.NAMES}


def write(compiled: dict[str, dict[str, Any]], folder: Path = abi.FOLDER) -> None:
    """Store artifacts as one JSON file per contract."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, stored in compiled.items():
        (folder / f"{name}.json").write_text(_dump(stored))


def check(compiled: dict[str, dict[str, Any]], folder: Path = abi.FOLDER) -> None:
    """Raise `ArtifactsStale` unless the stored artifacts equal these, byte by byte."""
    for name, stored in compiled.items():
        path = folder / f"{name}.json"
        if not path.exists() or path.read_text() != _dump(stored):
            raise ArtifactsStale(f"{path.name} is not what the sources compile to: run `idml-contracts compile`")


def _compiler() -> Path:
    """An installed compiler of the pinned version: py-solc-x's own, or the one from npm."""
    import solcx  # noqa: PLC0415
    from solcx.exceptions import SolcNotInstalled  # noqa: PLC0415

    try:
        return Path(solcx.install.get_executable(SOLC_VERSION))
    except SolcNotInstalled:
        pass
    try:
        return toolchain.solc()
    except ToolMissing as error:
        raise CompilerMissing(f"no Solidity compiler {SOLC_VERSION}: {toolchain.INSTALL_HINT}") from error


def _request() -> dict[str, Any]:
    if not (toolchain.MODULES / "@openzeppelin").exists():
        raise CompilerMissing(f"the OpenZeppelin sources are not installed: {toolchain.INSTALL_HINT}")
    sources = {
        path.relative_to(_ROOT).as_posix(): {"content": path.read_text()}
        for path in sorted((_ROOT / "src").rglob("*.sol"))
    }
    return {
        "language": "Solidity",
        "sources": sources,
        "settings": {
            "remappings": ["@openzeppelin/=toolchain/node_modules/@openzeppelin/"],
            "optimizer": {"enabled": True, "runs": OPTIMIZER_RUNS},
            "viaIR": True,
            "evmVersion": EVM_VERSION,
            "metadata": {"bytecodeHash": "none", "appendCBOR": False},
            "outputSelection": {f"src/{name}.sol": {name: _OUTPUTS} for name in abi.NAMES},
        },
    }


def _stored(contract: dict[str, Any]) -> dict[str, Any]:
    metadata = json.loads(contract["metadata"])
    sources = "".join(f"{name} {source['keccak256']}\n" for name, source in sorted(metadata["sources"].items()))
    runtime = contract["evm"]["deployedBytecode"]
    places = {str(number): uses for number, uses in enumerate(runtime["immutableReferences"].values())}
    return {
        "compiler": metadata["compiler"]["version"],
        "sourcesSha256": hashlib.sha256(sources.encode()).hexdigest(),
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + runtime["object"],
        "immutableReferences": places,
        "storageLayout": [
            {key: one[key] for key in ("label", "slot", "offset", "type")}
            for one in contract["storageLayout"]["storage"]
        ],
    }


def _dump(stored: dict[str, Any]) -> str:
    return json.dumps(stored, indent=1) + "\n"
