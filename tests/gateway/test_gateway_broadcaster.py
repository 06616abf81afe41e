"""What is sent, when, how often; and what happens when the answer does not come."""

import pytest
from eth_account import Account
from gateway_rig import ALICE, BOB, FEE_CAP_WEI, RESEND_AFTER_S, STAKE, Rig, on_both_databases, untried

from contracts import calls
from gateway.broadcaster import TAKEN_NOTE, WAITS_NOTE
from gateway.submission import State

STAKE_ONE = calls.encode_stake(1)
POOR = Account.from_key(b"\x21" * 32)


@on_both_databases
def test_nonces_wait_for_the_one_before_them(rig: Rig) -> None:
    later = [rig.accepted(rig.buy(ALICE, nonce=nonce)) for nonce in (2, 1)]
    assert rig.worker.broadcast() == 0
    first = rig.accepted(rig.buy(ALICE, nonce=0))
    other = rig.accepted(rig.buy(BOB, nonce=0))
    assert rig.worker.broadcast() == 4
    sent = [rig.store.submission(key).newest.raw for key in (first, later[1], later[0])]
    assert [one for one in rig.provider.sends if one in {"0x" + raw.hex() for raw in sent}] == [
        "0x" + raw.hex() for raw in sent
    ]
    rig.mine()
    rig.worker.confirm()
    assert {rig.state(key) for key in (first, other, *later)} == {State.FINAL}


def test_what_the_node_forgot_is_sent_again_after_a_while(rig: Rig) -> None:
    key = rig.accepted(rig.buy(ALICE))
    snapshot = rig.chain.request("evm_snapshot")
    assert rig.worker.broadcast() == 1
    assert rig.chain.request("evm_revert", [snapshot])  # its pool is empty now
    rig.now_s += RESEND_AFTER_S - 1
    assert rig.worker.broadcast() == 0
    rig.now_s += 1
    assert rig.worker.broadcast() == 1
    assert len(set(rig.provider.sends)) == 1
    rig.mine()
    rig.worker.confirm()
    found = rig.store.submission(key)
    assert (found.state, found.sends, found.note, rig.nonce(ALICE)) == (State.FINAL, 2, None, 1)


@on_both_databases
def test_one_with_a_higher_offer_keeps_no_other_from_being_sent_again(rig: Rig) -> None:
    other = rig.accepted(rig.buy(BOB))
    snapshot = rig.chain.request("evm_snapshot")
    key = rig.accepted(rig.buy(ALICE))
    assert rig.worker.broadcast() == 2
    dearer = {"maxFeePerGas": 2 * FEE_CAP_WEI, "maxPriorityFeePerGas": 2}
    rig.accepted(rig.sign(ALICE, calls.encode_buy(0), to=rig.deployment.token, nonce=0, value=STAKE // 1000, **dearer))
    assert rig.worker.broadcast() == 1
    assert rig.chain.request("evm_revert", [snapshot])
    rig.now_s += RESEND_AFTER_S
    assert rig.worker.broadcast() == 2
    assert [rig.store.submission(one).sends for one in (key, other)] == [3, 2]


@on_both_databases
def test_thousands_that_wait_are_sent_a_window_at_a_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.broadcaster._AT_ONCE", 3)
    keys = [rig.accepted(rig.buy(ALICE, nonce=nonce)) for nonce in (*range(8), 9, 10)]
    assert [rig.worker.broadcast() for _ in range(4)] == [3, 3, 2, 0]
    notes = {rig.store.submission(key).note for key in keys[8:]}
    assert notes == {WAITS_NOTE.format(8)}
    last = rig.accepted(rig.buy(ALICE, nonce=8))
    assert rig.worker.broadcast() == 3
    assert [rig.state(key) for key in (last, *keys[8:])] == [State.BROADCAST] * 3


def test_what_the_node_has_is_not_sent_again(rig: Rig) -> None:
    key = rig.accepted(rig.buy(ALICE))
    assert rig.worker.broadcast() == 1
    for _ in range(3):
        rig.now_s += RESEND_AFTER_S
        assert rig.worker.broadcast() == 0
    assert (len(rig.provider.sends), rig.store.submission(key).sends) == (1, 1)


def test_a_lost_reply_causes_no_second_execution(rig: Rig) -> None:
    key = rig.accepted(rig.buy(ALICE))
    rig.provider.loses_replies = True
    rig.worker.broadcast()
    assert rig.state(key) is State.BROADCAST
    assert rig.store.submission(key).note == "the node: ConnectionError"
    rig.provider.loses_replies = False
    rig.now_s += RESEND_AFTER_S
    rig.worker.broadcast()
    rig.mine()
    rig.now_s += RESEND_AFTER_S
    rig.worker.broadcast()  # mined, but we have not looked yet
    rig.worker.confirm()
    assert rig.state(key) is State.FINAL
    assert (rig.nonce(ALICE), len(rig.provider.sends)) == (1, 1)


@on_both_databases
def test_an_attempt_is_on_disk_before_it_is_sent(rig: Rig) -> None:
    key = rig.accepted(rig.buy(ALICE))
    seen = []
    rig.provider.before_send = lambda: seen.append(rig.store.submission(key))
    rig.worker.broadcast()
    assert [(one.state, one.sends) for one in seen] == [(State.BROADCAST, 1)]


def test_a_node_that_falls_silent_gets_the_rest_later(rig: Rig) -> None:
    keys = [rig.accepted(rig.buy(ALICE, nonce=nonce)) for nonce in range(3)]

    def fall_silent() -> None:
        rig.provider.down = True
        raise ConnectionError

    rig.provider.before_send = fall_silent
    assert rig.worker.broadcast() == 1
    rig.provider.before_send = lambda: None
    rig.provider.down = False
    assert rig.worker.broadcast() == 0
    rig.now_s += RESEND_AFTER_S
    assert rig.worker.broadcast() == 3
    rig.mine()
    rig.worker.confirm()
    assert {rig.state(key) for key in keys} == {State.FINAL}


def test_what_a_node_says_no_to_is_kept_and_noted(rig: Rig) -> None:
    key = rig.accepted(rig.buy(ALICE, wei=9 * 10**18))
    with untried(rig):
        poor = rig.accepted(rig.sign(POOR, STAKE_ONE, nonce=0))
    rig.worker.broadcast()
    assert "insufficient funds" in rig.store.submission(poor).note
    assert rig.state(poor) is State.BROADCAST
    assert rig.store.submission(key).note is None
    rig.chain.fund([POOR.address], 10**18)
    rig.now_s += RESEND_AFTER_S
    rig.worker.broadcast()
    assert rig.store.submission(poor).note is None


def test_a_nonce_used_elsewhere_is_superseded_once_that_is_final(deep: Rig) -> None:
    flying = deep.accepted(deep.buy(ALICE, nonce=0))
    deep.worker.broadcast()
    waiting = deep.accepted(deep.buy(BOB, nonce=0))
    for who in (ALICE, BOB):  # the same nonces, straight to the node and paying more
        fields = {"maxFeePerGas": 2 * 10**11, "maxPriorityFeePerGas": 10**9}
        deep.chain.web3.eth.send_raw_transaction(deep.sign(who, STAKE_ONE, nonce=0, **fields))
    for _ in range(3):
        deep.mine()
        deep.now_s += RESEND_AFTER_S
        deep.worker.confirm()
        deep.worker.broadcast()
        assert {deep.state(flying), deep.state(waiting)} <= {State.BROADCAST, State.ACCEPTED}
    deep.mine()
    deep.worker.confirm()
    deep.now_s += RESEND_AFTER_S
    deep.worker.broadcast()
    assert {deep.state(flying), deep.state(waiting)} == {State.SUPERSEDED}
    assert deep.get(f"/v1/transactions/{flying}")["note"] == TAKEN_NOTE
    assert deep.post(deep.buy(ALICE, nonce=0)).json["state"] == "superseded"


@on_both_databases
def test_ours_mined_before_we_noticed_is_included_not_superseded(deep: Rig) -> None:
    raw = deep.buy(ALICE)
    key = deep.accepted(raw)
    deep.chain.web3.eth.send_raw_transaction(raw)  # another gateway had it too
    for _ in range(5):
        deep.mine()
    deep.worker.broadcast()
    assert deep.state(key) is State.ACCEPTED
    deep.worker.confirm()
    assert deep.state(key) is State.FINAL
    deep.worker.broadcast()
    assert deep.state(key) is State.FINAL
