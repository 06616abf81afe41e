"""The node inside the process answers as a real one does."""

import pytest
from test_chains import signed
from web3.exceptions import ContractCustomError, Web3RPCError, Web3ValueError

from contracts import calls
from contracts.deploy import deploy_local
from contracts.localchain import LocalChain


def refused(chain: LocalChain, raw: bytes) -> str:
    with pytest.raises((Web3RPCError, Web3ValueError)) as caught:
        chain.web3.eth.send_raw_transaction(raw)
    return str(caught.value)


def test_bad_transactions_are_refused_when_sent(chain: LocalChain) -> None:
    assert "invalid chain id" in refused(chain, signed(chain, 0, chainId=5))
    assert "insufficient funds" in refused(chain, signed(chain, 0, value=10**30))
    assert "intrinsic gas too low" in refused(chain, signed(chain, 0, gas=20_999))
    assert "exceeds block gas limit" in refused(chain, signed(chain, 0, gas=31_000_000))
    assert "invalid transaction" in refused(chain, b"\x02\x01")
    chain.web3.eth.send_raw_transaction(signed(chain, 0))
    assert "already known" in refused(chain, signed(chain, 0))
    chain.mine(chain.time_s + 1)
    assert "already known" in refused(chain, signed(chain, 0))
    assert "nonce too low" in refused(chain, signed(chain, 0, value=2))


def test_a_replacement_pays_a_tenth_more(chain: LocalChain) -> None:
    first = {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 100}
    chain.web3.eth.send_raw_transaction(signed(chain, 0, **first))
    assert "underpriced" in refused(chain, signed(chain, 0, maxFeePerGas=10**10, maxPriorityFeePerGas=200))
    better = signed(chain, 0, maxFeePerGas=11 * 10**9, maxPriorityFeePerGas=110)
    tx_hash = chain.web3.eth.send_raw_transaction(better)
    chain.mine(chain.time_s + 1)
    assert list(chain.web3.eth.get_block("latest")["transactions"]) == [tx_hash]


def test_a_transaction_after_a_gap_waits(chain: LocalChain) -> None:
    late = chain.web3.eth.send_raw_transaction(signed(chain, 1))
    who = chain.deployer.address
    assert chain.web3.eth.get_transaction_count(who, "pending") == 0
    chain.mine(chain.time_s + 1)
    assert chain.web3.eth.get_block("latest")["transactions"] == []
    early = chain.web3.eth.send_raw_transaction(signed(chain, 0))
    assert chain.web3.eth.get_transaction_count(who, "pending") == 2
    assert chain.web3.eth.get_transaction(late)["blockNumber"] is None
    chain.mine(chain.time_s + 1)
    assert list(chain.web3.eth.get_block("latest")["transactions"]) == [early, late]


def test_logs_are_found_by_range_address_and_topic(chain: LocalChain) -> None:
    deployment = deploy_local(chain)
    everything = chain.web3.eth.get_logs({"fromBlock": 0, "toBlock": "latest"})
    mine = chain.web3.eth.get_logs({"fromBlock": 0, "address": deployment.escrow})
    assert len(everything) == len(mine) == 2
    bought = chain.transact(to=deployment.token, data=calls.encode_buy(), value_wei=5)["logs"]
    by_topic = chain.web3.eth.get_logs({"fromBlock": 0, "topics": [mine[1]["topics"][0]]})
    assert list(by_topic) == [mine[1]]
    by_hash = chain.web3.eth.get_logs({"blockHash": mine[0]["blockHash"]})
    assert list(by_hash) == list(mine)
    at_token = chain.web3.eth.get_logs({"fromBlock": 0, "address": deployment.token})
    assert [one["logIndex"] for one in at_token] == [one["logIndex"] for one in bought]
    assert len(chain.web3.eth.get_logs({"fromBlock": 0, "toBlock": "latest"})) == 2 + len(bought)


def test_a_reverting_call_carries_its_data_and_an_estimate_suffices(chain: LocalChain) -> None:
    deployment = deploy_local(chain)
    with pytest.raises(ContractCustomError):
        chain.web3.eth.call({"to": deployment.escrow, "data": "0x" + calls.encode_withdraw().hex()})
    buy = {
        "from": chain.deployer.address,
        "to": deployment.token,
        "data": "0x" + calls.encode_buy().hex(),
        "value": 5,
    }
    gas = chain.web3.eth.estimate_gas(buy)
    receipt = chain.transact(to=deployment.token, data=calls.encode_buy(), value_wei=5, gas=gas)
    assert receipt["status"] == 1
    assert receipt["gasUsed"] <= gas <= 2 * receipt["gasUsed"]


def test_a_snapshot_undoes_blocks(chain: LocalChain) -> None:
    snapshot = chain.request("evm_snapshot")
    deployment = deploy_local(chain)
    assert chain.request("evm_revert", [snapshot])
    assert chain.web3.eth.get_code(deployment.token) == b""
    assert chain.web3.eth.block_number == 0
    assert deploy_local(chain) == deployment


def test_unknown_methods_are_refused(chain: LocalChain) -> None:
    answer = chain.web3.provider.make_request("eth_nonsense", [])
    assert answer["error"]["code"] == -32601
