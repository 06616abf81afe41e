"""The committed artifacts are what the sources compile to, with the compiler that `make test` sets up."""

import json
import subprocess
import sys

import pytest

from contracts import abi, toolchain
from contracts import compile as compiler
from contracts.errors import ArtifactsStale


@pytest.fixture(scope="module")
def compiled() -> dict[str, dict[str, object]]:
    return compiler.compile_contracts()


def test_the_committed_artifacts_are_fresh(compiled: dict[str, dict[str, object]]) -> None:
    compiler.check(compiled)


def test_a_changed_artifact_is_stale(compiled: dict[str, dict[str, object]], tmp_path) -> None:
    compiler.write(compiled, tmp_path)
    compiler.check(compiled, tmp_path)
    path = tmp_path / "IdmlEscrow.json"
    path.write_text(path.read_text().replace('"bytecode": "0x', '"bytecode": "0x00', 1))
    with pytest.raises(ArtifactsStale, match="idml-contracts compile"):
        compiler.check(compiled, tmp_path)


def test_the_contracts_fit_the_chain() -> None:
    for name in abi.NAMES:
        assert len(abi.artifact(name).deployed_bytecode) <= 24_576


def test_the_lock_file_pins_the_versions_and_names_no_registry() -> None:
    lock = json.loads((toolchain.FOLDER / "package-lock.json").read_text())["packages"]
    assert lock["node_modules/solc"]["version"] == compiler.SOLC_VERSION
    assert lock["node_modules/@openzeppelin/contracts"]["version"] == "5.3.0"
    for program in ("anvil", "forge"):
        package = lock[f"node_modules/@foundry-rs/{program}-linux-amd64"]
        assert package["version"] == toolchain.FOUNDRY_VERSION
    assert not [name for name, package in lock.items() if "resolved" in package]


def test_a_second_installation_returns_at_once() -> None:
    assert toolchain.is_current()
    assert toolchain.install() is False


def test_the_compiler_reads_nothing_outside_its_roots(tmp_path) -> None:
    outside = tmp_path / "Outside.sol"
    outside.write_text("contract Outside {}")
    inside = tmp_path / "root"
    inside.mkdir()
    source = 'import "../Outside.sol"; contract Inside {}'
    request = {"language": "Solidity", "sources": {"a/Inside.sol": {"content": source}}, "settings": {}}
    for path in ("../Outside.sol", str(outside)):
        request["sources"]["Inside.sol"] = {"content": f'import "{path}"; contract Inside {{}}'}
        done = subprocess.run(
            [str(toolchain.solc()), "--standard-json", "--base-path", str(inside)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=True,
        )
        assert "File not found" in done.stdout


@pytest.mark.parametrize("module", ["terms", "calls", "events", "errors", "settlement", "panel", "chain"])
def test_what_devices_import_comes_without_web3(module: str) -> None:
    code = f"import contracts.{module}, sys; sys.exit('web3' in sys.modules or 'eth' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
