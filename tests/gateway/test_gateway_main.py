"""The command line, and the gateway truly served: its own process, real HTTP, a real node."""

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import ALICE, BOB, PERSONS, STAKE, Rig, sign
from served_gateway import ask, program
from signed_calls import permit
from signed_requests import identity

from contracts import calls, deploy
from contracts.deploy import Deployment
from contracts.localchain import LocalChain, open_chain
from contracts.terms import Domain
from device_agent.errors import GatewayRefused, GatewayUnreachable
from device_agent.gateway import GatewayClient
from device_agent.pinning import read_fingerprint
from gateway.__main__ import main
from gateway.enrolment import Enrolment
from gateway.errors import ChainMismatch
from gateway.tables import Database
from gateway.worker import Worker

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["serve", "--prot", "1"],
        ["serve", "--port", "many"],
        ["inspect"],
        ["inspect", "0x12"],
        ["worker", "--port", "1"],
        ["worker", "--metrics-port", "many"],
        ["enrol", "--count", "0"],
        ["enrol", "--count", "1.5"],
        ["enrol", "--valid-for", "nan"],
        ["enrol", "--name", ""],
        ["enrol", "--revoke", "0x12"],
        ["enrol", "--list", "--revoke", "0x" + "00" * 20],
    ],
)
def test_bad_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["serve"], ["worker"], ["inspect"], ["enrol"], ["fingerprint"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown if not command else "--config" in shown


def failed(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(arguments)
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("idml-gateway: ")
    return status, shown


def test_bad_settings_exit_with_2_and_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'chain = "anvil"\ndata = "{tmp_path}/data"\nprot = 5\n')
    status, shown = failed(["serve", "--config", str(file)], capsys)
    assert status == 2
    assert f"{file}: unknown key prot" in shown
    assert not (tmp_path / "data").exists()


def test_a_node_that_does_not_answer_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--chain", "anvil", "--rpc-url", "http://u:secret@127.0.0.1:9", "--data", str(tmp_path / "data")]
    status, shown = failed(["serve", *at], capsys)
    assert status == 1
    assert "no node answers at http://***@127.0.0.1:9" in shown
    assert "secret" not in shown


def test_a_deployment_that_is_nowhere_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--chain", "anvil", "--deployment", str(tmp_path / "x.json"), "--data", str(tmp_path)]
    status, shown = failed(["worker", *at], capsys)
    assert (status, "x.json" in shown) == (2, True)


def test_inspecting_reads_the_database_alone(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.join(ALICE)
    key = rig.accepted(rig.buy(BOB))
    rig.step()
    agreed = rig.terms()
    rig.done(ALICE, calls.encode_check_in(agreed))
    at = ["--chain", "anvil", "--data", str(rig.folder)]
    assert main(["inspect", *at, key.upper().replace("0X", "0x")]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "final"
    assert main(["inspect", *at, rig.id(agreed)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["events"][0]["name"]) == ("learner_checked_in", "CheckedIn")
    status, words = failed(["inspect", *at, "0x" + "00" * 32], capsys)
    assert (status, "no transaction, operation or encounter" in words) == (1, True)


def test_inspecting_where_nothing_is_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--chain", "anvil", "--data", str(tmp_path / "data")]
    status, _ = failed(["inspect", *at, "0x" + "00" * 32], capsys)
    assert status == 1
    assert list(tmp_path.iterdir()) == []


def test_tokens_are_printed_and_devices_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["enrol", "--chain", "anvil", "--data", str(tmp_path)]
    assert main([*command, "--count", "2", "--name", "lab"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first != second
    for file in tmp_path.glob("gateway.sqlite*"):
        assert first.encode() not in file.read_bytes()
    database = Database(f"sqlite:///{tmp_path}/gateway.sqlite")
    Enrolment(database).redeem(first, ALICE.address, now_s=time.time())
    database.close()
    assert main([*command, "--list"]) == 0
    account, state, _, name = capsys.readouterr().out.split()
    assert (account, state, name) == (ALICE.address, "enrolled", "lab")
    assert main([*command, "--revoke", ALICE.address.lower()]) == 0
    assert main([*command, "--list"]) == 0
    assert "revoked" in capsys.readouterr().out
    status, words = failed([*command, "--revoke", ALICE.address], capsys)
    assert (status, "is not enrolled" in words) == (1, True)


# Truly served


@pytest.fixture(scope="module")
def anvil() -> Iterator[tuple[LocalChain, Deployment]]:
    with open_chain("anvil") as chain:
        yield chain, Rig.deployed(chain)


def settings(chain: LocalChain, deployment: Deployment, folder: Path) -> list[str]:
    deploy.record(deployment, folder / "deployments")
    url = chain.web3.provider.endpoint_uri.replace("http://", "http://user:secret@")
    file = folder / "gateway.toml"
    file.write_text(
        f'chain = "anvil"\nrpc_url = "{url}"\ndata = "{folder}/data"\n'
        f'deployment = "{folder}/deployments"\ninterval_s = 0.05\n'
    )
    return ["--config", str(file)]


def until(held: Callable[[], bool], chain: LocalChain) -> None:
    """Wait until it holds, making blocks meanwhile."""
    end = time.monotonic() + 30
    while not held():
        assert time.monotonic() < end
        chain.mine(chain.time_s + 1)
        time.sleep(0.05)


def until_final(chain: LocalChain, at: str, keys: Sequence[str]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        states = [ask(f"{at}/v1/transactions/{key}")["state"] for key in keys]
        if states == ["final"] * len(keys):
            return
        if "broadcast" in states:
            chain.mine(chain.time_s + 1)
        time.sleep(0.05)
    raise AssertionError(states)


@pytest.mark.chain
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_stake_flow_over_real_http_and_a_graceful_stop(
    anvil: tuple[LocalChain, Deployment], tmp_path: Path, number: int, status: int
) -> None:
    chain, deployment = anvil
    who = ALICE if status == 0 else BOB
    token, escrow = deployment.token, deployment.escrow
    raws = [
        sign(who, calls.encode_stake(STAKE), to=escrow, nonce=2),
        sign(who, calls.encode_approve(escrow, STAKE), to=token, nonce=1),
        sign(who, calls.encode_buy(), to=token, nonce=0, value=STAKE // 1000),
    ]
    arguments = ["serve", *settings(chain, deployment, tmp_path), "--port", "0"]
    with program(arguments, tmp_path / "log") as served:
        at = served.line("serving on ").removeprefix("serving on ")
        assert ask(f"{at}/readyz")["ok"] is True
        keys = [ask(f"{at}/v1/transactions", {"raw": "0x" + raw.hex()})["id"] for raw in raws]
        until_final(chain, at, keys)
        assert ask(f"{at}/v1/accounts/{who.address}")["free"] == STAKE
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(f"{at}/v1/transactions", {"raw": "0x02"})
        assert json.load(caught.value)["error"]["code"] == "malformed_transaction"
        caught.value.close()
        assert served.stop(number) == status
    log = (tmp_path / "log").read_text()
    assert "port = 0" in log
    assert log.endswith("stopped\n")
    assert "secret" not in log
    assert raws[0].hex() not in log


@pytest.mark.chain
def test_who_waits_is_answered_at_once_when_the_gateway_is_stopped(
    anvil: tuple[LocalChain, Deployment], tmp_path: Path
) -> None:
    chain, deployment = anvil
    waiting = ["/v1/events?after=999999&wait_s=30", f"/v1/jobs?validator={ALICE.address}&wait_s=30"] * 4
    with (
        program(["serve", *settings(chain, deployment, tmp_path), "--port", "0"], tmp_path / "log") as served,
        ThreadPoolExecutor(len(waiting)) as pool,
    ):
        at = served.line("serving on ").removeprefix("serving on ")
        answers = [pool.submit(asked, at + path) for path in waiting]
        time.sleep(1.5)
        assert not any(one.done() for one in answers)
        begun_s = time.monotonic()
        assert served.stop(signal.SIGTERM) == 0
        assert time.monotonic() - begun_s < 4
        for told, at_s in (one.result() for one in answers):
            assert (told.get("events", []), told.get("jobs", [])) == ([], [])
            assert at_s - begun_s < 2
    assert (tmp_path / "log").read_text().endswith("stopped\n")


def asked(url: str) -> tuple[Any, float]:
    """An answer, and when it came."""
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response), time.monotonic()


@pytest.mark.chain
def test_a_device_is_enrolled_and_served_over_tls(anvil: tuple[LocalChain, Deployment], tmp_path: Path) -> None:
    """All that a device is given: an address, a fingerprint and a token."""
    chain, deployment = anvil
    from_file = settings(chain, deployment, tmp_path)
    with (tmp_path / "gateway.toml").open("a") as file:
        file.write('[door]\naccess = "enrolled"\n[tls]\non = true\n')

    def told(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *command, *from_file],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    fingerprint, token = told("fingerprint"), told("enrol")
    raw = sign(PERSONS[6], calls.encode_buy(), to=deployment.token, nonce=0, value=STAKE // 1000)

    async def live(at: str) -> None:
        stranger = GatewayClient(at, identity=identity(PERSONS[6]), fingerprint=bytes(32))
        with pytest.raises(GatewayUnreachable, match="SHA-256"):
            await stranger.enrol(token)
        await stranger.close()
        device = GatewayClient(at, identity=identity(PERSONS[6]), fingerprint=read_fingerprint(fingerprint))
        with pytest.raises(GatewayRefused, match="not enrolled"):
            await device.submit(raw)
        await device.enrol(token)
        await device.submit(raw)
        await device.put_model(hashlib.sha256(bytes(1 << 20)).digest(), bytes(1 << 20))
        assert (await device.chain()).chain_id == deployment.chain_id
        await device.close()

    with program(["serve", *from_file, "--port", "0"], tmp_path / "log") as served:
        assert served.line("certificate SHA-256 ").split()[-1] == fingerprint
        at = served.line("serving on ").removeprefix("serving on ")
        assert at.startswith("https://")
        asyncio.run(live(at))
        assert served.stop(signal.SIGTERM) == 0
    assert (tmp_path / "log").read_text().endswith("stopped\n")


@pytest.mark.chain
def test_the_worker_may_run_apart(anvil: tuple[LocalChain, Deployment], tmp_path: Path) -> None:
    chain, deployment = anvil
    from_file = settings(chain, deployment, tmp_path)
    who = chain.deployer
    nonce = chain.web3.eth.get_transaction_count(who.address)
    raw = sign(who, calls.encode_buy(), to=deployment.token, nonce=nonce, value=1)
    with program(["serve", *from_file, "--port", "0", "--no-worker"], tmp_path / "log") as served:
        at = served.line("serving on ").removeprefix("serving on ")
        key = ask(f"{at}/v1/transactions", {"raw": "0x" + raw.hex()})["id"]
        time.sleep(0.3)
        assert ask(f"{at}/v1/transactions/{key}")["state"] == "accepted"
        with program(["worker", *from_file, "--metrics-port", "0"], tmp_path / "worker.log") as worker:
            worker.line("working")
            until_final(chain, at, [key])
            with urllib.request.urlopen(worker.line("metrics on ").removeprefix("metrics on "), timeout=10) as answer:
                assert "\nidml_gateway_attempts_per_inclusion_count 1.0\n" in answer.read().decode()
            assert worker.stop(signal.SIGTERM) == 0
        assert served.stop(signal.SIGTERM) == 0


@pytest.mark.chain
def test_an_operation_is_paid_for_by_the_operator(anvil: tuple[LocalChain, Deployment], tmp_path: Path) -> None:
    chain, deployment = anvil
    who = PERSONS[5]  # has no coin of its own
    token = Domain(chain_id=deployment.chain_id, escrow=deployment.token)
    call = calls.encode(permit(who, token, deployment.escrow, STAKE))
    with program(["serve", *settings(chain, deployment, tmp_path), "--port", "0"], tmp_path / "log") as served:
        operator = served.line("operator 0x").split()[1].rstrip(":")
        at = served.line("serving on ").removeprefix("serving on ")
        key = ask(f"{at}/v1/operations", {"call": "0x" + call.hex()})["id"]
        until(lambda: "send it coin" in str(ask(f"{at}/v1/operations/{key}")["note"]), chain)
        chain.fund([operator], 10**18)
        until(lambda: ask(f"{at}/v1/operations/{key}")["state"] == "final", chain)
        assert ask(f"{at}/v1/accounts/{who.address}")["permit_nonce"] == 1
        assert served.stop(signal.SIGTERM) == 0
    assert (tmp_path / "log").read_text().count("send it coin") >= 1


@pytest.mark.chain
def test_a_foreign_chain_is_refused_with_one_line(
    anvil: tuple[LocalChain, Deployment], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain, deployment = anvil
    from_file = settings(chain, deployment, tmp_path)
    wrong = tmp_path / "wrong.json"
    for changes, says in (
        ({"genesis_hash": "0x" + "00" * 32}, "started anew"),
        ({"token_code_hash": "0x" + "00" * 32}, "do not use it"),
        ({"chain_id": 5}, "chain id"),
    ):
        wrong.write_text(json.dumps(asdict(replace(deployment, **changes))))
        for command in ("serve", "worker"):
            status, shown = failed([command, *from_file, "--deployment", str(wrong)], capsys)
            assert (status, says in shown) == (1, True), shown


@pytest.mark.chain
def test_a_port_in_use_is_told(
    anvil: tuple[LocalChain, Deployment], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain, deployment = anvil
    port = chain.web3.provider.endpoint_uri.rsplit(":", 1)[1]
    arguments = ["serve", *settings(chain, deployment, tmp_path), "--port", port]
    status, shown = failed(arguments, capsys)
    assert (status, f"cannot listen on 127.0.0.1:{port}" in shown) == (1, True), shown


@pytest.mark.chain
def test_a_worker_that_cannot_go_on_ends_the_process(
    anvil: tuple[LocalChain, Deployment],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def confirm(_: Worker, **__: object) -> None:
        raise ChainMismatch("the chain was started anew")

    monkeypatch.setattr(Worker, "confirm", confirm)
    before = signal.getsignal(signal.SIGTERM)
    for command in (["serve", "--port", "0"], ["worker"]):
        status, shown = failed([*command, *settings(*anvil, tmp_path)], capsys)
        assert (status, shown) == (1, "idml-gateway: the chain was started anew")
    assert signal.getsignal(signal.SIGTERM) is before
