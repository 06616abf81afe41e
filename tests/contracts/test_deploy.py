import json
from dataclasses import replace

import pytest

from contracts import deploy
from contracts.abi import artifact
from contracts.deploy import EscrowSettings, deploy_local
from contracts.errors import (
    ChainMismatch,
    CodeMismatch,
    DeploymentFailed,
    DeploymentMissing,
    MalformedDeployment,
)
from contracts.localchain import LocalChain, open_chain
from contracts.settlement import DEFAULT_PARAMETERS


def test_a_deployment_is_recorded_and_found_again(chain: LocalChain, tmp_path) -> None:
    with pytest.raises(DeploymentMissing, match="idml-contracts deploy"):
        deploy.load(chain.web3, tmp_path)
    deployment = deploy_local(chain)
    path = deploy.record(deployment, tmp_path)
    assert deploy.load(chain.web3, tmp_path) == deployment
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    reader = deploy.reader(chain.web3, deployment)
    assert reader.parameter_set(0) == DEFAULT_PARAMETERS
    assert reader.min_stake() == EscrowSettings().min_stake
    assert reader.escrow_owner() == chain.deployer.address


def test_code_that_is_not_ours_is_refused(chain: LocalChain) -> None:
    deployment = deploy_local(chain)
    code = bytearray(artifact("IdmlEscrow").deployed_bytecode)
    code[-1] ^= 1
    # A constructor that returns the changed code.
    prefix = bytes.fromhex(f"61{len(code):04x}80600c6000396000f3")
    other = chain.transact(to=None, data=prefix + bytes(code), gas=8_000_000)["contractAddress"]
    with pytest.raises(CodeMismatch, match="do not use it"):
        deploy.verify(chain.web3, replace(deployment, escrow=other))
    with pytest.raises(CodeMismatch):
        deploy.verify(chain.web3, replace(deployment, token=chain.deployer.address))
    with pytest.raises(CodeMismatch):
        deploy.verify(chain.web3, replace(deployment, escrow_code_hash="0x" + "00" * 32))


def test_an_escrow_of_another_token_is_refused(chain: LocalChain) -> None:
    first, second = deploy_local(chain), deploy_local(chain)
    mixed = replace(first, escrow=second.escrow, escrow_code_hash=second.escrow_code_hash)
    with pytest.raises(CodeMismatch, match="works with token"):
        deploy.verify(chain.web3, mixed)


def test_another_chain_is_refused(chain: LocalChain) -> None:
    deployment = deploy_local(chain)
    for changes, reason in (
        ({"genesis_time_s": 1_700_000_001}, "genesis"),
        ({"chain_id": 31337}, "chain id"),
    ):
        with open_chain("embedded", **changes) as other, pytest.raises(ChainMismatch, match=reason):
            deploy.verify(other.web3, deployment)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"chain_id": "1"}'])
def test_a_broken_record_is_named(chain: LocalChain, tmp_path, text: str) -> None:
    path = deploy.record(deploy_local(chain), tmp_path)
    path.write_text(text)
    with pytest.raises(MalformedDeployment, match=path.name):
        deploy.load(chain.web3, tmp_path)


def test_a_record_with_a_wrong_type_is_named(chain: LocalChain, tmp_path) -> None:
    path = deploy.record(deploy_local(chain), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"block": "1"}))
    with pytest.raises(MalformedDeployment, match="block"):
        deploy.read(path)


def test_settings_the_contract_refuses_fail_the_deployment(chain: LocalChain) -> None:
    with pytest.raises(DeploymentFailed, match="reverted"):
        deploy_local(chain, EscrowSettings(max_life_s=10, unbonding_period_s=10))
