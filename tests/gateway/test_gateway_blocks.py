"""What is read of a node's JSON is what web3 reads of it; what is no block, receipt or log is none."""

from collections.abc import Callable
from typing import Any

import pytest
from gateway_rig import ALICE, Rig

from contracts import calls
from contracts.localchain import open_chain
from gateway.blocks import read_block, read_logs, read_receipt

HASH = "0x" + "ab" * 32


def test_reading_agrees_with_web3() -> None:
    with open_chain("embedded") as chain:
        deployment = Rig.deployed(chain)
        raw = ALICE.sign_transaction(
            {
                "chainId": 1337,
                "nonce": 0,
                "gas": 100_000,
                "maxFeePerGas": 10**11,
                "maxPriorityFeePerGas": 1,
                "value": 7,
                "to": deployment.token,
                "data": calls.encode_buy(0),
            }
        ).raw_transaction
        chain.web3.eth.send_raw_transaction(raw)
        chain.mine(chain.time_s + 1)
        number = chain.web3.eth.block_number
        block = read_block(chain.request("eth_getBlockByNumber", [hex(number), True]))
        theirs = chain.web3.eth.get_block(number, full_transactions=True)
        assert (block.number, block.hash, block.parent, block.time_s) == (
            theirs["number"],
            theirs["hash"].to_0x_hex(),
            theirs["parentHash"].to_0x_hex(),
            theirs["timestamp"],
        )
        transaction, told = block.transactions[-1], theirs["transactions"][-1]
        assert (transaction.hash, transaction.sender, transaction.target) == (
            told["hash"].to_0x_hex(),
            ALICE.address,
            deployment.token,
        )
        assert (transaction.data, transaction.value_wei, transaction.gas) == (bytes(told["input"]), 7, 100_000)
        receipt = read_receipt(chain.request("eth_getTransactionReceipt", [transaction.hash]))
        expected = chain.web3.eth.get_transaction_receipt(told["hash"])
        assert (receipt.transaction, receipt.block, receipt.block_hash) == (transaction.hash, number, block.hash)
        assert (receipt.succeeded, receipt.gas) == (expected["status"] == 1, expected["gasUsed"])
        assert [(one.address, list(one.topics), one.data) for one in receipt.logs] == [
            (one["address"], [bytes(topic) for topic in one["topics"]], bytes(one["data"])) for one in expected["logs"]
        ]
        assert receipt.logs
        assert receipt.logs == read_logs(chain.request("eth_getLogs", [{"fromBlock": hex(number)}]))


@pytest.mark.parametrize("read", [read_block, read_receipt])
@pytest.mark.parametrize("answer", [None, 7, "0x", [], {}, {"number": None}, {"transactionHash": HASH, "blockHash": 1}])
def test_what_is_none_raises_what_the_node_turns_into_silence(read: Callable[[Any], object], answer: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        read(answer)


@pytest.mark.parametrize("wrong", [None, 1, [], "0x12", HASH + "00"])
def test_a_hash_has_32_bytes(wrong: object) -> None:
    log = {"address": ALICE.address, "topics": [], "data": "0x", "blockNumber": "0x1", "transactionHash": HASH}
    assert read_logs([log | {"blockHash": HASH.upper().replace("X", "x")}])[0].block_hash == HASH
    with pytest.raises((TypeError, ValueError)):
        read_logs([log | {"blockHash": wrong}])
