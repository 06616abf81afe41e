"""A gateway put together from settings, against a real node; and killed at every point of a transaction's life."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import crashing_gateway
import pytest
from eth_account import Account
from gateway_rig import ALICE, PERSONS, STAKE, Rig, sign
from signed_calls import act

from contracts import calls, deploy
from contracts.deploy import Deployment, reader
from contracts.errors import ChainMismatch as OtherGenesis
from contracts.errors import CodeMismatch, DeploymentMissing, MalformedDeployment
from contracts.localchain import LocalChain, open_chain
from contracts.states import ActionKind
from gateway.compose import open_gateway
from gateway.config import GatewayConfig
from gateway.errors import ChainMismatch, ConfigError, NodeUnavailable, StoreUnavailable
from gateway.operator import load_operator
from gateway.submission import State


@pytest.fixture
def config(rig: Rig, tmp_path: Path) -> GatewayConfig:
    folder = tmp_path / "deployments"
    deploy.record(rig.deployment, folder)
    return GatewayConfig(chain="anvil", data=tmp_path / "data", deployment=folder)


def changed(config: GatewayConfig, **values: object) -> GatewayConfig:
    return GatewayConfig(**(config.model_dump() | values))


def test_a_gateway_is_put_together_and_works(rig: Rig, config: GatewayConfig) -> None:
    with open_gateway(config, web3=rig.chain.web3, now_s=lambda: 5.0) as gateway:
        raw = rig.buy(ALICE)
        answer = gateway.app.test_client().post("/v1/transactions", json={"raw": "0x" + raw.hex()})
        gateway.worker.broadcast()
        rig.mine()
        gateway.worker.confirm()
        assert gateway.store.submission(answer.json["id"]).state is State.FINAL
    assert (config.data / "gateway.sqlite").is_file()
    assert (config.data / "models").is_dir()


def test_a_deployment_may_be_named_by_its_file(rig: Rig, config: GatewayConfig) -> None:
    (file,) = config.deployment.iterdir()
    with open_gateway(changed(config, deployment=file), web3=rig.chain.web3) as gateway:
        assert gateway.deployment == rig.deployment


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("genesis_hash", "0x" + "00" * 32, OtherGenesis),
        ("chain_id", 5, OtherGenesis),
        ("escrow_code_hash", "0x" + "00" * 32, CodeMismatch),
        ("escrow", "0x" + "11" * 20, CodeMismatch),
    ],
)
def test_a_chain_that_is_not_the_deployments_is_refused(
    rig: Rig, config: GatewayConfig, tmp_path: Path, field: str, value: object, fault: type[Exception]
) -> None:
    wrong = dataclasses.asdict(rig.deployment) | {field: value}
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(wrong))
    with pytest.raises(fault):
        open_gateway(changed(config, deployment=file), web3=rig.chain.web3)
    assert not config.data.exists()  # nothing was begun


def test_what_is_missing_is_told(rig: Rig, config: GatewayConfig, tmp_path: Path) -> None:
    web3 = rig.chain.web3
    with pytest.raises(ConfigError, match="no such file"):
        open_gateway(changed(config, deployment=tmp_path / "nowhere"), web3=web3)
    with pytest.raises(DeploymentMissing):
        open_gateway(changed(config, deployment=tmp_path), web3=web3)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(MalformedDeployment):
        open_gateway(changed(config, deployment=tmp_path / "broken.json"), web3=web3)
    with pytest.raises(ChainMismatch, match="amoy has 80002"):
        open_gateway(changed(config, chain="amoy"), web3=web3)
    with pytest.raises(NodeUnavailable, match=r"no node answers at http://\*\*\*@127.0.0.1:9 "):
        open_gateway(changed(config, rpc_url="http://user:secret@127.0.0.1:9"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot create"):
        open_gateway(changed(config, data=tmp_path / "file" / "data"), web3=web3)


@pytest.fixture(scope="module")
def anvil() -> Iterator[tuple[LocalChain, Deployment]]:
    with open_chain("anvil") as chain:
        yield chain, Rig.deployed(chain)


def killed(anvil: tuple[LocalChain, Deployment], folder: Path, member: str, data: bytes, point: str) -> GatewayConfig:
    """Hand `data` to a gateway that is killed at `point`; return its settings."""
    chain, deployment = anvil
    config = GatewayConfig(
        chain="anvil",
        rpc_url=chain.web3.provider.endpoint_uri,
        data=folder,
        deployment=deploy.record(deployment, folder),
        operator_key=folder / "operator.key",
    )
    chain.fund([load_operator(folder / "operator.key").address], 10**20)
    file = folder / "config.json"
    file.write_text(config.model_dump_json())
    done = subprocess.run(
        [sys.executable, crashing_gateway.__file__, file, member, "0x" + data.hex(), point],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return config


@pytest.mark.chain
@pytest.mark.parametrize("point", crashing_gateway.POINTS)
def test_killed_at_any_point_it_executes_exactly_once(
    anvil: tuple[LocalChain, Deployment], tmp_path: Path, point: str
) -> None:
    chain, deployment = anvil
    who = PERSONS[crashing_gateway.POINTS.index(point)]
    raw = sign(who, calls.encode_buy(), to=deployment.token, nonce=0, value=STAKE // 1000)
    with open_gateway(killed(anvil, tmp_path, "raw", raw, point)) as gateway:
        (held,) = [gateway.store.submission("0x" + chain.web3.keccak(raw).hex().removeprefix("0x"))]
        assert held is not None  # it was acknowledged
        for _ in range(2):
            gateway.worker.broadcast()
            chain.mine(chain.time_s + 1)
            gateway.worker.confirm()
        if gateway.store.submission(held.id).state is not State.FINAL:  # written down, but never sent
            assert point == "written"
            gateway.worker._broadcaster._resend_after_s = 0.0
            gateway.worker.broadcast()
            chain.mine(chain.time_s + 1)
            gateway.worker.confirm()
        assert gateway.store.submission(held.id).state is State.FINAL
        bought = gateway.store.latest("Bought")
    assert [one.transaction for one in bought].count(held.id) == 1
    assert reader(chain.web3, deployment).balance_of(who.address) == STAKE
    assert chain.web3.eth.get_transaction_count(who.address) == 1


@pytest.mark.chain
@pytest.mark.parametrize("point", crashing_gateway.BATCH_POINTS)
def test_killed_at_any_point_an_operation_is_done_exactly_once(
    anvil: tuple[LocalChain, Deployment], tmp_path: Path, point: str
) -> None:
    chain, deployment = anvil
    who = Account.from_key(hashlib.sha256(point.encode()).digest())
    chain.fund([who.address], 10**18)
    for to, data, wei in (
        (deployment.token, calls.encode_buy(), STAKE // 1000),
        (deployment.token, calls.encode_approve(deployment.escrow, STAKE), 0),
        (deployment.escrow, calls.encode_stake(STAKE), 0),
    ):
        chain.transact(to=to, data=data, value_wei=wei, sender=who)
    domain = deployment.domain
    data = calls.encode(act(who, domain, ActionKind.REGISTER, nonce=1))
    with open_gateway(killed(anvil, tmp_path, "call", data, point)) as gateway:
        gateway.worker._broadcaster._resend_after_s = 0.0
        for _ in range(3):
            gateway.worker.compose()
            gateway.worker.broadcast()
            chain.mine(chain.time_s + 1)
            gateway.worker.confirm()
        held = gateway.store.operation("0x" + chain.web3.keccak(data).hex().removeprefix("0x"))
        assert held is not None
        assert held.carried is State.FINAL
        registered = [one for one in gateway.store.latest("ValidatorRegistered") if one.account == who.address]
        assert [one.transaction for one in registered] == [held.mined]
        assert gateway.store.latest("Skipped") == []
        assert chain.web3.eth.get_transaction_count(gateway.operator.address) == 1
    assert reader(chain.web3, deployment).account(who.address).seat
