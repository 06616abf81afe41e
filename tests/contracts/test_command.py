"""The command line of the contracts."""

import subprocess
import sys

import pytest

from contracts import abi
from contracts import compile as compiler
from contracts.__main__ import KEY_VARIABLE, main
from contracts.localchain import DEPLOYER_KEY, open_chain


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["inspect", "0x12"],
        ["compile", "--nonsense"],
        ["deploy", "--key", "0x1"],
        ["gas", "--gas-price", "-1"],
        ["gas", "--gas-price", "inf"],
        ["gas", "--rate", "x"],
        ["gas", "--rate", "nan"],
        ["gas", "--chain", "amoy"],
        ["audit", "--q", "2"],
    ],
)
def test_bad_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert "usage" in shown
    assert shown.splitlines()[-1].startswith("idml-contracts")


def test_help_shows_examples() -> None:
    done = subprocess.run([sys.executable, "-m", "contracts", "--help"], capture_output=True, text=True, check=True)
    assert "examples:" in done.stdout


def test_the_embedded_chain_is_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy"]) == 0
    assert "nothing is recorded" in capsys.readouterr().out
    assert main(["inspect"]) == 0
    assert "parameter set 0" in capsys.readouterr().out


def test_a_chain_that_does_not_answer_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, DEPLOYER_KEY)
    assert main(["deploy", "--chain", "http://127.0.0.1:9"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("idml-contracts: http://127.0.0.1:9")
    assert shown.count("\n") == 1


@pytest.mark.parametrize("key", [None, "nonsense"])
def test_a_missing_or_broken_key_is_named(
    key: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    if key:
        monkeypatch.setenv(KEY_VARIABLE, key)
    assert main(["deploy", "--chain", "http://127.0.0.1:9"]) == 1
    assert "private key" in capsys.readouterr().err


def test_an_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compiler, "compile_contracts", interrupt)
    assert main(["compile"]) == 130


def test_stale_artifacts_exit_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stale = {name: {"deployedBytecode": "0x", "compiler": "0"} for name in abi.NAMES}
    monkeypatch.setattr(compiler, "compile_contracts", lambda: stale)
    assert main(["compile", "--check"]) == 1
    assert "idml-contracts compile" in capsys.readouterr().err


@pytest.mark.chain
def test_a_node_that_runs_is_deployed_to_and_inspected(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(DEPLOYER_KEY + "\n")
    with open_chain("anvil") as chain:
        chain.request("evm_setAutomine", [True])
        at = ["--chain", chain.web3.provider.endpoint_uri, "--folder", str(tmp_path / "deployments")]
        assert main(["inspect", *at]) == 1
        assert "no deployment is recorded" in capsys.readouterr().err
        assert main(["deploy", *at, "--key-file", str(key_file)]) == 0
        assert main(["inspect", *at]) == 0
        assert main(["inspect", *at, "0x" + "00" * 32]) == 0
    assert "state NONE" in capsys.readouterr().out
