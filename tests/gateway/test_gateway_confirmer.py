"""Following the chain: inclusion, finality, reverts, reorganisations, and chains that are not the right one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from gateway_rig import ALICE, BOB, OPERATOR, SALTS, UPDATED, Rig, on_both_databases, reverting, untried

from contracts import calls
from gateway import confirmer
from gateway.blocks import Receipt
from gateway.errors import ChainMismatch, NodeUnavailable
from gateway.node import Node
from gateway.submission import State
from gateway.worker import Worker


def reorganise(rig: Rig, snapshot: str, blocks: int) -> None:
    """Replace every block since `snapshot` by others, empty unless something is sent meanwhile."""
    assert rig.chain.request("evm_revert", [snapshot])
    for _ in range(blocks):
        rig.mine(rig.chain.time_s + 7)


@on_both_databases
def test_mined_is_included_and_final_comes_later(deep: Rig) -> None:
    key = deep.accepted(deep.buy(ALICE))
    deep.step()
    for _ in range(2):
        assert deep.state(key) is State.INCLUDED
        deep.mine()
        deep.worker.confirm()
    assert deep.state(key) is State.INCLUDED
    deep.mine()
    deep.worker.confirm()
    found = deep.store.submission(key)
    assert found.state is State.FINAL
    assert found.gas == deep.chain.web3.eth.get_transaction_receipt(key)["gasUsed"]
    assert found.block == deep.chain.web3.eth.get_transaction_receipt(key)["blockNumber"]


@on_both_databases
def test_a_reverted_transaction_ends_as_reverted(deep: Rig) -> None:
    with untried(deep):
        key = deep.accepted(reverting(deep))
    deep.step()
    assert deep.state(key) is State.INCLUDED  # not before it is final
    for _ in range(3):
        deep.mine()
        deep.worker.confirm()
    assert deep.state(key) is State.REVERTED
    assert deep.get(f"/v1/transactions/{key}")["state"] == "reverted"
    assert all(one.transaction != key for one in deep.store.events_after(0, limit=100))


@on_both_databases
@pytest.mark.parametrize("replacement", [1, 2, 3])
def test_a_reorganisation_broadcasts_again_and_undoes_events(deep: Rig, replacement: int) -> None:
    deep.worker.confirm()
    snapshot = deep.chain.request("evm_snapshot")
    key = deep.accepted(deep.buy(ALICE))
    deep.step()
    deep.mine()
    deep.worker.confirm()
    assert deep.state(key) is State.INCLUDED
    bought = [one for one in deep.store.events_after(0, limit=500) if one.name == "Bought"]
    assert len(bought) == 1
    reorganise(deep, snapshot, replacement)
    if replacement == 1:  # the node is behind: nothing goes backwards from that alone
        with pytest.raises(NodeUnavailable, match="behind"):
            deep.worker.confirm()
        assert deep.state(key) is State.INCLUDED
        deep.mine(deep.chain.time_s + 7)
    deep.worker.confirm()
    assert deep.state(key) is State.BROADCAST
    assert all(one.name != "Bought" for one in deep.store.events_after(0, limit=500))
    assert deep.worker.broadcast() == 1  # at once, the same bytes
    assert len(set(deep.provider.sends)) == 1
    for _ in range(4):
        deep.mine()
        deep.worker.confirm()
    assert deep.state(key) is State.FINAL
    again = [one for one in deep.store.events_after(0, limit=500) if one.name == "Bought"]
    assert [one.transaction for one in again] == [key]
    assert again[0].number > bought[0].number  # a number in the feed is never used twice


def test_a_transaction_moves_to_another_block(deep: Rig) -> None:
    deep.worker.confirm()
    snapshot = deep.chain.request("evm_snapshot")
    raw = deep.buy(ALICE)
    key = deep.accepted(raw)
    deep.step()
    block = deep.store.submission(key).block
    assert deep.chain.request("evm_revert", [snapshot])
    deep.mine(deep.chain.time_s + 7)
    deep.chain.web3.eth.send_raw_transaction(raw)
    deep.mine()
    deep.worker.confirm()
    assert (deep.state(key), deep.store.submission(key).block) == (State.INCLUDED, block + 1)


def test_a_reorganisation_to_the_same_height_is_seen_before_anything_becomes_final(deep: Rig) -> None:
    deep.worker.confirm()
    snapshot = deep.chain.request("evm_snapshot")
    key = deep.accepted(deep.buy(ALICE))
    deep.step()
    for _ in range(2):
        deep.mine()
    deep.worker.confirm()
    reorganise(deep, snapshot, 3)
    deep.worker.confirm()
    assert deep.state(key) is State.BROADCAST


@on_both_databases
def test_a_competitor_in_the_other_branch_supersedes(deep: Rig) -> None:
    deep.worker.confirm()
    snapshot = deep.chain.request("evm_snapshot")
    key = deep.accepted(deep.buy(ALICE))
    deep.step()
    assert deep.chain.request("evm_revert", [snapshot])
    deep.chain.web3.eth.send_raw_transaction(deep.buy(ALICE, wei=5))
    for _ in range(5):
        deep.mine(deep.chain.time_s + 7)
    deep.worker.confirm()
    assert deep.state(key) is State.BROADCAST
    deep.worker.broadcast()
    assert deep.state(key) is State.SUPERSEDED


def test_what_was_final_does_not_go_back(rig: Rig) -> None:
    snapshot = rig.chain.request("evm_snapshot")
    key = rig.accepted(rig.buy(ALICE))
    rig.step()
    reorganise(rig, snapshot, 3)
    with pytest.raises(ChainMismatch, match="started anew"):
        rig.worker.confirm()
    assert rig.state(key) is State.FINAL


def test_a_database_of_another_chain_is_refused(rig: Rig) -> None:
    rig.worker.confirm()
    head = rig.store.head().number
    with rig.store._db.write() as db:
        db.exec_driver_sql("UPDATE blocks SET hash = '0x00'")
    with pytest.raises(ChainMismatch, match="empty database"):
        rig.worker.confirm()
    assert rig.store.head().number == head


def test_another_chain_is_refused_at_the_start(rig: Rig) -> None:
    for changes in ({"chain_id": 5}, {"genesis_hash": "0x" + "00" * 32}):
        wrong = replace(rig.deployment, **changes)
        with pytest.raises(ChainMismatch, match="check RPC URL"):
            Worker(rig.database, rig.node, wrong, operator=OPERATOR, now_s=lambda: 0.0, resend_after_s=1)


def test_a_receipt_of_another_branch_is_not_taken(deep: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    key = deep.accepted(deep.buy(ALICE))
    deep.worker.broadcast()
    deep.mine()
    receipts = Node.receipts

    def moved(node: Node, block: int, transactions: Sequence[str]) -> list[Receipt]:
        return [replace(one, block_hash="0x" + bytes(32).hex()) for one in receipts(node, block, transactions)]

    monkeypatch.setattr(Node, "receipts", moved)
    with pytest.raises(NodeUnavailable, match="reorganised while"):
        deep.worker.confirm()
    assert deep.state(key) is State.BROADCAST
    monkeypatch.undo()
    deep.worker.confirm()
    assert deep.state(key) is State.INCLUDED


def test_a_call_through_another_contract_is_in_the_index(rig: Rig) -> None:
    agreed = rig.terms()
    for who in (ALICE, BOB):
        rig.join(who)
    rig.step()
    for who in (ALICE, BOB):
        rig.done(who, calls.encode_check_in(agreed))
    rig.done(BOB, calls.encode_report(agreed, UPDATED, *SALTS))
    rig.mine(agreed.report_by + 1)
    # CALLDATACOPY everything, CALL the escrow with it, STOP
    escrow = rig.deployment.escrow[2:]
    runtime = bytes.fromhex("366000600037" + "600060003660006000" + "73" + escrow + "5af100")
    creation = bytes.fromhex(f"60{len(runtime):02x}600c60003960{len(runtime):02x}6000f3") + runtime
    made = rig.chain.transact(to=None, data=creation, gas=500_000)
    rig.chain.transact(to=made["contractAddress"], data=calls.encode_close_reporting(agreed, *SALTS))
    rig.worker.confirm()
    view = rig.get(f"/v1/encounters/{rig.id(agreed)}")
    assert view["state"] == "reported"
    rows = rig.store.encounter_events(rig.id(agreed))
    assert (rows[-1].name, rows[-1].function) == ("VotingStarted", "")


def test_many_blocks_are_consumed_in_bounded_steps(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.confirmer._MAX_BLOCKS_A_STEP", 3)
    for _ in range(8):
        rig.mine()
    taken = []
    while count := rig.worker.confirm():
        taken.append(count)
    assert max(taken) == 3
    assert rig.store.head().number == rig.chain.web3.eth.block_number


def test_only_recent_blocks_are_remembered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store._KEPT_BLOCKS", 4)
    for _ in range(8):
        rig.mine()
    rig.worker.confirm()
    head = rig.store.head().number
    assert [rig.store.block_hash(n) is not None for n in range(head - 5, head + 1)] == [False] * 2 + [True] * 4


def test_silence_is_an_unavailable_node(rig: Rig) -> None:
    rig.provider.down = True
    for act in (rig.worker.confirm, rig.node.height, lambda: rig.node.nonce(ALICE.address)):
        with pytest.raises(NodeUnavailable) as caught:
            act()
        assert "secret" not in str(caught.value)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Which transactions were looked for while many blocks are caught up with, a hundred a step."""
    monkeypatch.setattr(confirmer, "_MAX_BLOCKS_A_STEP", 100)
    receipt = Node.receipt
    found: Counter[str] = Counter()

    def counted(node: Node, digest: str) -> Receipt | None:
        found[digest] += 1
        return receipt(node, digest)

    monkeypatch.setattr(Node, "receipt", counted)
    return found


def caught_up(rig: Rig) -> int:
    return sum(1 for _ in iter(rig.worker.confirm, 0))


def test_each_attempt_is_looked_for_once_while_many_blocks_are_caught_up_with(deep: Rig, asked: Counter[str]) -> None:
    caught_up(deep)
    with untried(deep):
        keys = [deep.accepted(reverting(deep)), deep.accepted(deep.buy(ALICE, nonce=5))]
    deep.worker.broadcast()
    for _ in range(400):
        deep.mine()
    assert caught_up(deep) >= 4
    assert asked == dict.fromkeys(keys, 1)
    assert [deep.state(key) for key in keys] == [State.REVERTED, State.ACCEPTED]
    for _ in range(100):
        deep.mine()
    caught_up(deep)
    assert asked == {keys[0]: 1, keys[1]: 2}  # what has become final since may hold it


def test_what_a_reorganisation_moves_while_blocks_are_caught_up_with_is_found(deep: Rig, asked: Counter[str]) -> None:
    caught_up(deep)
    for _ in range(200):
        deep.mine()
    snapshot = deep.chain.request("evm_snapshot")
    with untried(deep):
        key = deep.accepted(reverting(deep))
    deep.worker.broadcast()
    deep.mine()
    assert deep.worker.confirm() == 100
    assert asked[key] == 1
    reorganise(deep, snapshot, 1)
    deep.chain.web3.eth.send_raw_transaction(deep.store.submission(key).newest.raw)
    for _ in range(100):
        deep.mine()
    caught_up(deep)
    assert deep.state(key) is State.REVERTED
