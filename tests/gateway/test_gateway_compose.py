"""A gateway put together from settings, against a real node; and killed at every point of a transaction's life."""

import dataclasses
import json
from pathlib import Path

import pytest
from gateway_rig import ALICE, Rig

from contracts import deploy
from contracts.errors import ChainMismatch as OtherGenesis
from contracts.errors import CodeMismatch, DeploymentMissing, MalformedDeployment
from gateway.compose import open_gateway
from gateway.config import GatewayConfig
from gateway.errors import ChainMismatch, ConfigError, NodeUnavailable, StoreUnavailable
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
