"""What the relay must survive, points 19 to 28 of 35: inclusion and finality, on real chains behind a proxy."""

from dataclasses import replace
from pathlib import Path

import pytest
from behind_proxy import DEEP, Far, far_rig, on_anvil, on_both_chains
from gateway_rig import ALICE, BOB, RESEND_AFTER_S, Rig, reverting
from rpc_view import View

from contracts import calls
from contracts.chain import PROFILES
from contracts.localchain import open_chain
from gateway.errors import ChainMismatch, NodeUnavailable
from gateway.submission import State
from gateway.worker import Worker

pytestmark = pytest.mark.chain


def confirm_all(rig: Rig) -> None:
    while rig.worker.confirm():
        pass


def bought(rig: Rig) -> list[str]:
    return [one.transaction for one in rig.store.events_after(0, limit=500) if one.name == "Bought"]


def untried_reverting(far: Far, raw: bytes) -> str:
    far.faults.go_down()  # a node that answers would tell that it reverts
    key = far.accepted(raw)
    far.faults.come_up()
    return key


@on_anvil
@pytest.mark.parametrize("depth", [1, 3, 40])
def test_19_what_a_reorganisation_drops_is_broadcast_again_with_the_same_bytes(far: Far, depth: int) -> None:
    far.worker.confirm()
    key = far.accepted(far.buy(ALICE))
    far.step()
    far.mine_many(depth - 1)
    confirm_all(far)
    assert (far.state(key), bought(far)) == (State.INCLUDED, [key])
    far.chain.request("anvil_reorg", [depth, []])
    confirm_all(far)
    assert (far.state(key), bought(far)) == (State.BROADCAST, [])
    far.worker.broadcast()  # unless the node has it in its pool again
    far.mine()
    confirm_all(far)
    assert (far.state(key), bought(far)) == (State.INCLUDED, [key])
    assert len(set(far.faults.sends)) == 1
    assert f"idml_gateway_reorg_depth_blocks_sum {depth}.0".encode() in far.client.get("/metrics").data
    far.mine_many(DEEP.finality_depth_blocks)
    confirm_all(far)
    assert far.state(key) is State.FINAL


@on_anvil
def test_20_a_competitor_in_the_other_branch_supersedes_and_the_device_is_told(far: Far) -> None:
    far.worker.confirm()
    before = far.chain.request("evm_snapshot")
    key = far.accepted(far.buy(ALICE))
    far.step()
    assert far.state(key) is State.INCLUDED
    assert far.chain.request("evm_revert", [before])
    far.chain.request("anvil_dropAllTransactions")
    far.chain.web3.eth.send_raw_transaction(far.buy(ALICE, wei=5))
    far.mine_many(DEEP.finality_depth_blocks + 2)
    confirm_all(far)
    assert far.state(key) is State.BROADCAST
    far.now_s += RESEND_AFTER_S
    far.worker.broadcast()
    assert far.state(key) is State.SUPERSEDED
    assert "another transaction" in far.get(f"/v1/transactions/{key}")["note"]


@on_both_chains
def test_21_a_receipt_that_moves_to_another_block_is_followed(far: Far) -> None:
    far.worker.confirm()
    before = far.chain.request("evm_snapshot")
    raw = far.buy(ALICE)
    key = far.accepted(raw)
    far.step()
    block = far.store.submission(key).block
    assert far.chain.request("evm_revert", [before])
    if far.chain.kind == "anvil":
        far.chain.request("anvil_dropAllTransactions")
    far.mine(far.chain.time_s + 7)
    far.chain.web3.eth.send_raw_transaction(raw)
    far.mine()
    confirm_all(far)
    found = far.store.submission(key)
    assert (found.state, found.block) == (State.INCLUDED, block + 1)


@on_both_chains
def test_22_without_a_receipt_a_block_is_not_consumed_and_later_it_is(far: Far) -> None:
    key = far.accepted(far.buy(ALICE))
    far.worker.broadcast()
    far.mine()
    far.faults.view = View(hidden_receipts=frozenset({key}))
    with pytest.raises(NodeUnavailable):
        far.worker.confirm()
    assert far.state(key) is State.BROADCAST
    far.faults.view = View(hidden_transactions=frozenset({key}))  # neither transaction nor receipt
    with pytest.raises(NodeUnavailable):
        far.worker.confirm()
    far.now_s += RESEND_AFTER_S
    far.worker.broadcast()  # its nonce is used: by which transaction, the block will tell
    assert far.state(key) is State.BROADCAST
    far.faults.calm()
    far.worker.confirm()
    assert far.state(key) is State.INCLUDED
    assert len(far.faults.sends) == 1


def test_23_nothing_is_final_above_what_the_node_calls_finalized_and_a_stall_is_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store._KEPT_BLOCKS", 16)
    profile = replace(PROFILES["amoy"], chain_id=1337, tip_floor_gwei=0, finality_alarm_s=30.0)
    with far_rig("anvil", tmp_path, profile) as far:
        far.now_s = float(far.chain.time_s)
        far.worker.confirm()
        key = far.accepted(far.buy(ALICE))
        far.step()
        block = far.store.submission(key).block
        far.faults.view = View(finalized_at=block - 1)
        far.mine_many(100)  # more than are remembered of what is final
        confirm_all(far)
        assert far.state(key) is State.INCLUDED
        far.now_s = float(far.chain.time_s)
        (alarm,) = far.status()["alarms"]
        assert alarm["kind"] == "finality_lags"
        behind_s = far.chain.time_s - far.chain.web3.eth.get_block(block - 1)["timestamp"]
        assert f"block {block - 1}, {behind_s} s behind" in alarm["words"]
        assert b'idml_gateway_alarm{kind="finality_lags"} 1.0' in far.client.get("/metrics").data
        assert far.store.block_hash(block) is not None  # it could still be undone
        far.faults.view = View(finalized_at=block)
        far.worker.confirm()
        assert far.state(key) is State.FINAL


@on_both_chains
def test_24_a_revert_is_an_end_only_when_it_is_final_and_its_reason_is_told(far: Far) -> None:
    key = untried_reverting(far, reverting(far))
    far.step()
    assert far.state(key) is State.INCLUDED
    far.mine_many(DEEP.finality_depth_blocks)
    confirm_all(far)
    told = far.get(f"/v1/transactions/{key}")
    assert told["state"] == "reverted"
    assert told["note"].startswith("reverted: InsufficientFree: free stake 0 does not cover 1")


@on_both_chains
def test_25_out_of_gas_is_told_apart_from_a_refusal_by_the_contract(far: Far) -> None:
    far.join(ALICE)
    far.step()
    raw = far.sign(ALICE, calls.encode_register_validator(), nonce=3, gas=30_000)
    key = untried_reverting(far, raw)
    far.step()
    assert far.get(f"/v1/transactions/{key}")["note"] == "out of gas: it used all of its 30000"


def test_26_a_chain_that_was_started_anew_is_refused_and_told(tmp_path: Path) -> None:
    with far_rig("anvil", tmp_path) as far, open_chain("anvil", genesis_time_s=1_700_000_001) as other:
        for _ in range(5):
            far.mine()
        key = far.accepted(far.buy(ALICE))
        far.step()
        far.faults.node_url = other.web3.provider.endpoint_uri
        with pytest.raises(ChainMismatch, match="started anew"):
            far.worker.confirm()
        for _ in range(20):
            other.mine(other.time_s + 1)
        with pytest.raises(ChainMismatch, match=r"begins with block|were final"):
            far.worker.confirm()
        with pytest.raises(ChainMismatch, match="check RPC URL"):
            Worker(
                far.database,
                far.node,
                far.deployment,
                operator=far.gateway.operator,
                now_s=lambda: 0.0,
                resend_after_s=1,
            )
        assert far.state(key) is State.INCLUDED


@on_both_chains
def test_27_a_node_that_goes_back_in_height_takes_nothing_back(far: Far) -> None:
    key = far.accepted(far.buy(ALICE))
    far.step()
    far.mine()
    far.worker.confirm()
    far.faults.view = View(lag_blocks=2)
    with pytest.raises(NodeUnavailable, match="behind"):
        far.worker.confirm()
    far.now_s += RESEND_AFTER_S
    assert far.worker.broadcast() == 0
    assert (far.state(key), bought(far)) == (State.INCLUDED, [key])
    far.faults.calm()
    far.mine()
    assert far.worker.confirm() == 1
    assert far.state(key) is State.INCLUDED


@on_anvil
def test_28_ten_thousand_blocks_are_caught_up_with_in_bounded_steps_from_where_it_was(far: Far) -> None:
    far.worker.confirm()
    key = far.accepted(far.buy(ALICE))
    far.worker.broadcast()
    far.mine_many(10_000)
    later = far.accepted(far.buy(BOB))
    far.worker.broadcast()
    far.mine()
    first = far.worker.confirm()
    far.restart()  # where it was is on disk
    steps = [first]
    while taken := far.worker.confirm():
        steps.append(taken)
    assert max(steps) < 10_001 == sum(steps)
    assert (far.state(key), far.state(later)) == (State.FINAL, State.INCLUDED)
