"""The relay over the other local chains: what their pools hide or forget plays no part."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_rig import ALICE, BOB, RESEND_AFTER_S, STAKE, Rig, reverting, untried

from contracts.chain import PROFILES
from contracts.localchain import open_chain
from gateway.submission import State

pytestmark = pytest.mark.chain


@pytest.fixture(params=["ganache", "anvil"])
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    with open_chain(request.param) as chain:
        rig = Rig(chain=chain, deployment=Rig.deployed(chain), folder=tmp_path, profile=PROFILES[request.param])
        yield rig
        rig.database.close()


def test_pending_nonces_are_our_own_count(each: Rig) -> None:
    keys = each.join(ALICE)
    assert each.worker.broadcast() == 3
    assert each.get(f"/v1/accounts/{ALICE.address}")["next_nonce"] == 3
    keys += each.join(BOB)
    later = each.accepted(each.buy(ALICE, nonce=3, wei=5))  # while three are in the node's pool
    assert each.worker.broadcast() == 4
    each.provider.loses_replies = True
    keys.append(each.accepted(each.buy(BOB, nonce=3, wei=5)))
    assert each.worker.broadcast() == 1
    each.provider.loses_replies = False
    for _ in range(2):
        each.now_s += RESEND_AFTER_S
        assert each.worker.broadcast() == 0  # the node has them all
    each.mine()
    each.now_s += RESEND_AFTER_S
    assert each.worker.broadcast() == 0  # mined, not seen yet
    each.worker.confirm()
    assert {each.state(key) for key in (*keys, later)} == {State.FINAL}
    assert [each.nonce(who) for who in (ALICE, BOB)] == [4, 4]
    assert len(each.provider.sends) == 8
    assert each.get(f"/v1/accounts/{BOB.address}")["free"] == STAKE
    each.mine()
    each.worker.confirm()
    assert each.store.unsettled() == []


def test_a_revert_is_told(each: Rig) -> None:
    with untried(each):
        key = each.accepted(reverting(each))
    each.step()
    assert each.state(key) is State.REVERTED


def test_a_lost_pool_is_filled_again(each: Rig) -> None:
    keys = each.join(ALICE)
    snapshot = each.chain.request("evm_snapshot")
    each.worker.broadcast()
    assert each.chain.request("evm_revert", [snapshot])  # the pool is gone
    each.now_s += RESEND_AFTER_S
    each.worker.broadcast()
    each.mine()
    each.worker.confirm()
    if {each.state(key) for key in keys} != {State.FINAL}:
        each.now_s += RESEND_AFTER_S
        each.step()
    assert {each.state(key) for key in keys} == {State.FINAL}
    assert each.nonce(ALICE) == 3
