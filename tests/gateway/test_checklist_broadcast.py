"""What the relay must survive, points 7 to 18 of 35: broadcasting, on real chains behind a proxy."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from behind_proxy import DEEP, Far, on_anvil, on_both_chains, on_ganache
from eth_account import Account
from gateway_rig import ALICE, BOB, OPERATOR, PERSONS, RESEND_AFTER_S, STAKE, TOKEN, Rig
from rpc_proxy import Fault, Kind
from rpc_view import View
from signed_calls import act

from contracts import calls
from contracts.chain import PROFILES
from contracts.identity import Fees
from contracts.states import ActionKind
from gateway.broadcaster import CAP_NOTE, GAP_NOTE, TAKEN_NOTE
from gateway.compose import connect
from gateway.lease import Lease
from gateway.submission import State
from gateway.worker import Worker

pytestmark = pytest.mark.chain
GWEI = 10**9
POOR = Account.from_key(b"\x21" * 32)


def register(rig: Rig, nonce: int = 1) -> str:
    """An operation of ALICE that the operator pays for: to unbond a token."""
    call = act(ALICE, rig.deployment.domain, ActionKind.UNBOND, amount=TOKEN, nonce=nonce)
    answer = rig.client.post("/v1/operations", json={"call": "0x" + calls.encode(call).hex()})
    assert answer.status_code == 202, answer.json
    return str(answer.json["id"])


def staked(far: Far) -> Far:
    """ALICE has a stake, and the operator has used its nonce 0: Ganache executes that one at every broadcast."""
    far.join(ALICE)
    far.step()
    raw, _ = OPERATOR.sign(
        chain_id=1337,
        nonce=0,
        target=BOB.address,
        data=b"",
        gas=21_000,
        fees=Fees(tip_wei=GWEI, max_fee_wei=100 * GWEI),
    )
    far.chain.web3.eth.send_raw_transaction(raw)
    far.mine()
    far.worker.confirm()
    far.faults.sends.clear()
    return far


def mined(far: Far) -> None:
    far.mine()
    far.worker.confirm()


def operation(far: Rig, key: str) -> dict[str, object]:
    return dict(far.get(f"/v1/operations/{key}"))


# -- 7, 8, 9: what the node says, or does not -------------------------------------------------------------------------


@on_both_chains
@pytest.mark.parametrize("kind", [Kind.RESET, Kind.DELAY, Kind.BAD_GATEWAY, Kind.BUSY, Kind.NOT_JSON, Kind.TRUNCATED])
def test_07_a_reply_that_is_lost_or_late_sends_nothing_twice(far: Far, kind: Kind) -> None:
    lost = Fault(kind=kind, method="eth_sendRawTransaction", forwards=True, delay_s=1.5)
    far.faults.inject(lost)
    key = far.accepted(far.buy(ALICE))
    assert far.worker.broadcast() == 1
    assert far.state(key) is State.BROADCAST
    for _ in range(3):
        far.now_s += RESEND_AFTER_S
        assert far.worker.broadcast() == 0  # the node is asked for it, and has it
    mined(far)
    assert far.state(key) is State.INCLUDED
    assert (len(far.faults.sends), far.nonce(ALICE)) == (1, 1)


@on_both_chains
def test_07_what_never_arrived_is_sent_again(far: Far) -> None:
    far.faults.inject(Fault(kind=Kind.RESET, method="eth_sendRawTransaction"))
    key = far.accepted(far.buy(ALICE))
    far.worker.broadcast()
    assert far.faults.sends == []
    far.now_s += RESEND_AFTER_S
    assert far.worker.broadcast() == 1
    mined(far)
    assert far.state(key) is State.INCLUDED


@on_anvil
def test_07_what_anvil_has_stranded_is_dropped_there_and_sent_again(far: Far) -> None:
    raws = [far.buy(ALICE, nonce=nonce) for nonce in (2, 3)]
    for raw in raws:
        far.chain.web3.eth.send_raw_transaction(raw)
    far.chain.request("anvil_setNonce", [ALICE.address, "0x2"])  # as a block does that is made while they come
    keys = [far.accepted(raw) for raw in raws]
    far.worker.broadcast()  # "already imported"
    mined(far)
    assert [far.state(key) for key in keys] == [State.BROADCAST] * 2
    far.now_s += RESEND_AFTER_S
    assert far.worker.broadcast() == 2
    mined(far)
    assert [far.state(key) for key in keys] == [State.INCLUDED] * 2
    assert far.nonce(ALICE) == 4


@on_ganache
def test_07_where_the_chain_executes_nonce_0_twice_the_effect_is_single(far: Far) -> None:
    """Ganache 7.9.2: a first transaction that is handed over twice is executed twice."""
    far.join(ALICE)
    far.step()
    register(far)
    far.worker.compose()
    (batch,) = (one for one in far.store.unsettled() if one.sender == OPERATOR.address)
    far.chain.web3.eth.send_raw_transaction(batch.newest.raw)
    far.worker.broadcast()
    mined(far)
    assert far.chain.web3.eth.get_transaction_count(OPERATOR.address) == 2
    assert far.get(f"/v1/accounts/{ALICE.address}")["unbonding"] == TOKEN


class Clock(threading.Event):
    """Stops a worker after an hour of its rig's time, which passes only while the worker waits."""

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        self.rig = rig
        self.end_s = rig.now_s + 3600
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0)
        self.rig.now_s += timeout or 0
        if self.rig.now_s >= self.end_s:
            self.set()
        return self.is_set()


@on_both_chains
def test_08_a_node_that_is_down_for_an_hour_is_not_stormed_and_gets_all_in_order(far: Far) -> None:
    keys = far.join(ALICE)
    far.faults.go_down()
    hour = Clock(far)
    far.worker.run(hour, interval_s=1.0, jitter=lambda: 0.5)
    assert len(hour.waits) < 90  # a step every 45 s, not every second
    assert hour.waits[:4] == [1.5, 3.0, 6.0, 12.0]
    far.faults.come_up()
    far.now_s += RESEND_AFTER_S
    assert far.worker.broadcast() == 3
    sent = [far.store.submission(key).newest.raw for key in keys]
    assert far.faults.sends == ["0x" + raw.hex() for raw in sent]
    mined(far)
    assert {far.state(key) for key in keys} == {State.INCLUDED}


@on_both_chains
@pytest.mark.parametrize("kind", [Kind.ALREADY_KNOWN, Kind.NONCE_TOO_LOW])
def test_09_what_sounds_like_a_refusal_after_our_own_publish_is_looked_up_first(far: Far, kind: Kind) -> None:
    far.faults.inject(Fault(kind=kind, method="eth_sendRawTransaction", forwards=True))
    key = far.accepted(far.buy(ALICE))
    far.worker.broadcast()
    assert (far.state(key), far.store.submission(key).note) == (State.BROADCAST, None)
    far.now_s += RESEND_AFTER_S
    far.worker.broadcast()
    mined(far)
    assert far.state(key) is State.INCLUDED
    assert len(far.faults.sends) == 1


# -- 10, 11, 12: nonces -----------------------------------------------------------------------------------------------


@on_both_chains
def test_10_what_comes_out_of_order_waits_for_what_is_before_it(far: Far) -> None:
    last, middle = (far.accepted(far.buy(ALICE, nonce=nonce)) for nonce in (2, 1))
    assert far.worker.broadcast() == 0
    assert "waits for nonce 0" in far.get(f"/v1/transactions/{last}")["note"]
    first = far.accepted(far.buy(ALICE, nonce=0))
    assert far.worker.broadcast() == 3
    raws = ["0x" + far.store.submission(key).newest.raw.hex() for key in (first, middle, last)]
    assert far.faults.sends == raws
    mined(far)
    assert {far.state(key) for key in (first, middle, last)} == {State.INCLUDED}


@on_anvil
def test_11_a_gap_at_the_head_is_filled_for_the_operator_and_told_to_a_device(far: Far) -> None:
    staked(far)
    before = far.chain.request("evm_snapshot")
    register(far)
    far.step()
    second = register(far, nonce=2)
    far.worker.compose()  # holds nonce 2
    # The batch with nonce 1 is lost from the records, as by a restored backup; and the chain drops its block.
    with far.database.write() as db:
        db.exec_driver_sql(f"DELETE FROM submissions WHERE sender = '{OPERATOR.address}' AND nonce = 1")
    assert far.chain.request("evm_revert", [before])
    far.mine(far.chain.time_s + 7)
    mined(far)
    far.worker.broadcast()
    fills = [one for one in far.store.unsettled() if one.note == GAP_NOTE]
    assert [(one.sender, one.nonce, one.function) for one in fills] == [(OPERATOR.address, 1, "")]
    for _ in range(2):
        far.now_s += RESEND_AFTER_S
        far.worker.broadcast()
        mined(far)
    assert far.chain.web3.eth.get_transaction_count(OPERATOR.address) == 3
    assert operation(far, second)["state"] == "included"
    assert far.state(fills[0].id) is State.INCLUDED
    # A device is told which nonce is missing, by its transaction and by its account.
    waiting = far.accepted(far.buy(BOB, nonce=3, wei=7))
    far.worker.broadcast()
    assert "nonce 0" in far.get(f"/v1/transactions/{waiting}")["note"]
    assert far.get(f"/v1/accounts/{BOB.address}")["next_nonce"] == 0


@on_both_chains
def test_12_a_key_that_is_used_elsewhere_makes_the_operator_sign_anew_and_a_device_superseded(far: Far) -> None:
    far = staked(far)
    key = register(far)
    far.worker.compose()
    device = far.accepted(far.buy(BOB))
    for who, nonce in ((BOB, 0), (OPERATOR, 1)):
        if who is BOB:
            raw = far.sign(BOB, b"", nonce=0, to=ALICE.address, value=1, maxPriorityFeePerGas=2 * GWEI)
        else:
            raw, _ = OPERATOR.sign(
                chain_id=1337,
                nonce=nonce,
                target=BOB.address,
                data=b"",
                gas=21_000,
                fees=Fees(tip_wei=5 * GWEI, max_fee_wei=100 * GWEI),
            )
        far.chain.web3.eth.send_raw_transaction(raw)
    far.mine()
    far.mine_many(DEEP.finality_depth_blocks)
    far.worker.confirm()
    far.worker.broadcast()
    assert far.state(device) is State.SUPERSEDED
    assert far.get(f"/v1/transactions/{device}")["note"] == TAKEN_NOTE
    assert operation(far, key)["state"] == "waiting"
    far.step()
    assert operation(far, key)["state"] == "included"
    assert far.get(f"/v1/accounts/{ALICE.address}")["unbonding"] == TOKEN


# -- 13, 14, 15: fees -------------------------------------------------------------------------------------------------


def stranded(far: Far) -> str:
    """A batch whose offer is below the base fee by now: no block takes it."""
    key = register(far)
    far.worker.compose()
    far.worker.broadcast()
    return key


def newest(far: Rig) -> Fees:
    (batch,) = (one for one in far.store.unsettled() if one.sender == OPERATOR.address and one.state is not State.FINAL)
    return batch.newest.fees


@on_anvil
def test_13_a_batch_that_no_block_takes_is_offered_more_until_one_does(far: Far) -> None:
    staked(far)
    far.chain.request("anvil_setNextBlockBaseFeePerGas", [hex(GWEI)])
    mined(far)
    key = stranded(far)
    first = newest(far)
    far.chain.request("anvil_setNextBlockBaseFeePerGas", [hex(20 * GWEI)])
    mined(far)
    assert operation(far, key)["state"] == "broadcast"
    far.now_s += RESEND_AFTER_S
    assert far.worker.broadcast() == 1
    second = newest(far)
    assert second.tip_wei >= -(-first.tip_wei * 11 // 10)
    assert second.max_fee_wei >= 20 * GWEI + second.tip_wei  # the market's price, which is more than a tenth above
    mined(far)
    assert operation(far, key)["state"] == "included"
    batch = far.store.submission(str(operation(far, key)["transaction"]))
    assert (len(batch.attempts), batch.mined) == (2, batch.attempts[1].hash)


@on_ganache
def test_13_the_offer_is_raised_by_what_the_chain_asks_of_a_replacement(far: Far) -> None:
    staked(far)
    key = stranded(far)
    far.now_s += RESEND_AFTER_S
    assert far.worker.broadcast() == 1
    assert far.store.submission(str(operation(far, key)["transaction"])).note is None  # it was taken
    mined(far)
    assert operation(far, key)["state"] == "included"
    assert far.chain.web3.eth.get_transaction_count(OPERATOR.address) == 2


@on_anvil
def test_13_at_the_cap_it_is_sent_on_as_it_is_and_told(far: Far) -> None:
    staked(far)
    far.chain.request("anvil_setNextBlockBaseFeePerGas", [hex(GWEI)])
    mined(far)
    key = stranded(far)
    cap = PROFILES["anvil"].fee_cap_gwei
    for _ in range(3):
        far.chain.request("anvil_setNextBlockBaseFeePerGas", [hex(2 * cap * GWEI)])
        mined(far)
        far.now_s += RESEND_AFTER_S
        far.worker.broadcast()
    assert newest(far).max_fee_wei == cap * GWEI
    batch = far.store.submission(str(operation(far, key)["transaction"]))
    assert len(batch.attempts) == 2
    assert batch.note == CAP_NOTE or "base fee" in batch.note  # what the node says goes before
    assert b"idml_gateway_at_fee_cap_total 2.0" in far.client.get("/metrics").data
    far.chain.request("anvil_dropTransaction", [batch.newest.hash])  # the node forgets it
    far.chain.request("anvil_setNextBlockBaseFeePerGas", [hex(GWEI)])
    mined(far)
    far.now_s += RESEND_AFTER_S
    assert far.worker.broadcast() == 1
    mined(far)
    assert operation(far, key)["state"] == "included"


@on_anvil
def test_13_a_device_raises_its_own_offer_by_handing_the_same_call_in_for_more(far: Far) -> None:
    cheap = {"maxFeePerGas": GWEI, "maxPriorityFeePerGas": 1000}
    first = far.accepted(far.sign(ALICE, calls.encode_buy(), nonce=0, to=far.deployment.token, value=5, **cheap))
    far.worker.broadcast()
    little = {"maxFeePerGas": GWEI + 1, "maxPriorityFeePerGas": 1001}
    low = far.post(far.sign(ALICE, calls.encode_buy(), nonce=0, to=far.deployment.token, value=5, **little))
    assert (low.status_code, low.json["error"]["code"]) == (409, "nonce_taken")
    assert "higher by a tenth" in low.json["error"]["message"]
    more = {"maxFeePerGas": 50 * GWEI, "maxPriorityFeePerGas": GWEI}
    other = far.post(far.sign(ALICE, calls.encode_buy(), nonce=0, to=far.deployment.token, value=6, **more))
    assert other.status_code == 409  # it does something else
    again = far.post(far.sign(ALICE, calls.encode_buy(), nonce=0, to=far.deployment.token, value=5, **more))
    assert (again.status_code, again.json["id"], len(again.json["transactions"])) == (202, first, 2)
    assert far.worker.broadcast() == 1
    mined(far)
    told = far.get(f"/v1/transactions/{again.json['transactions'][1]}")
    assert (told["id"], told["state"], told["mined"]) == (first, "included", again.json["transactions"][1])


@on_both_chains
def test_14_an_earlier_attempt_that_is_mined_after_all_counts(far: Far) -> None:
    staked(far)
    key = stranded(far)
    far.now_s += RESEND_AFTER_S
    far.faults.inject(Fault(kind=Kind.RESET, method="eth_sendRawTransaction"))  # the higher offer never arrives
    far.worker.broadcast()
    batch = far.store.submission(str(operation(far, key)["transaction"]))
    assert len(batch.attempts) == 2
    mined(far)
    told = far.store.submission(batch.id)
    assert (told.state, told.mined) == (State.INCLUDED, batch.attempts[0].hash)
    assert operation(far, key)["state"] == "included"


@on_anvil
def test_15_below_the_nodes_tip_floor_the_offer_is_raised_to_it_at_once(far: Far) -> None:
    staked(far)
    far.faults.view = View(tip_floor_wei=25 * GWEI)
    key = stranded(far)
    batch = far.store.submission(str(operation(far, key)["transaction"]))
    assert "minimum needed 25000000000" in batch.note
    assert far.worker.broadcast() == 1  # not after a while
    assert newest(far).tip_wei == 25 * GWEI
    mined(far)
    assert operation(far, key)["state"] == "included"


@on_anvil
def test_15_the_profile_of_amoy_offers_and_takes_what_its_nodes_take(far: Far, tmp_path: Path) -> None:
    staked(far)
    far.faults.view = View(tip_floor_wei=25 * GWEI, poa=True)
    profile = replace(PROFILES["amoy"], chain_id=1337)
    (tmp_path / "amoy").mkdir()
    web3 = connect(far.faults.url, profile)
    amoy = Rig(chain=far.chain, deployment=far.deployment, folder=tmp_path / "amoy", profile=profile, web3=web3)
    amoy.worker.confirm()
    key = register(amoy)
    amoy.worker.compose()
    assert newest(amoy).tip_wei == 30 * GWEI
    amoy.worker.broadcast()
    amoy.mine()
    amoy.worker.confirm()
    assert operation(amoy, key)["state"] == "included"
    refused = amoy.post(amoy.buy(BOB))  # a tip of 1 wei
    assert (refused.status_code, refused.json["error"]["code"]) == (422, "fee_below_floor")
    amoy.database.close()


# -- 16, 18 -----------------------------------------------------------------------------------------------------------


@on_both_chains
def test_16_without_coin_it_is_tried_again_after_a_top_up_and_told_before(far: Far) -> None:
    staked(far)
    raw = far.sign(POOR, calls.encode_stake(1), nonce=0)
    far.faults.go_down()  # or it would be tried, and refused
    poor = far.accepted(raw)
    far.faults.come_up()
    far.worker.broadcast()
    assert "insufficient funds" in far.store.submission(poor).note.lower()
    set_balance = "anvil_setBalance" if far.chain.kind == "anvil" else "evm_setAccountBalance"
    far.chain.request(set_balance, [OPERATOR.address, hex(10**15)])
    assert [one["kind"] for one in far.status()["alarms"]] == ["operator_low"]
    far.chain.request(set_balance, [OPERATOR.address, "0x1"])
    key = register(far)
    assert far.worker.compose() == 0
    assert "send it coin" in str(operation(far, key)["note"])
    far.chain.fund([OPERATOR.address, POOR.address], 10**18)
    far.now_s += RESEND_AFTER_S
    far.worker.confirm()
    far.step()
    assert operation(far, key)["state"] == "included"
    assert far.state(poor) is State.INCLUDED


@on_both_chains
def test_18_of_two_gateways_on_one_database_one_works_and_the_other_takes_over(far: Far) -> None:
    def worker(holder: str, lasts_s: float) -> Worker:
        return Worker(
            far.database,
            far.node,
            far.deployment,
            operator=OPERATOR,
            now_s=lambda: far.now_s,
            resend_after_s=RESEND_AFTER_S,
            lease=Lease(far.database, holder=holder, lasts_s=lasts_s),
        )

    first, second = worker("first", 2), worker("second", 60)
    key = far.accepted(far.buy(ALICE))
    assert first.broadcast() == 1
    assert second.broadcast() == 0
    assert second.confirm() == 0
    far.mine()
    waited = threading.Event()
    while not second.confirm():  # the first one has stopped: its lease ends
        waited.wait(0.05)
    assert far.state(key) is State.INCLUDED
    assert first.broadcast() == 0
    assert len(far.faults.sends) == 1


@on_both_chains
def test_18_two_gateways_for_one_device_lead_to_one_execution(far: Far, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Rig(chain=far.chain, deployment=far.deployment, folder=tmp_path / "other", profile=DEEP, web3=far.web3)
    keys = far.join(PERSONS[3])
    for key in keys:
        assert other.accepted(far.store.submission(key).newest.raw) == key
    far.worker.broadcast()
    other.worker.broadcast()
    far.mine()
    for rig in (far, other):
        rig.worker.confirm()
        assert {rig.state(key) for key in keys} == {State.INCLUDED}
    assert far.nonce(PERSONS[3]) == 3 or far.chain.kind == "ganache"  # which executes nonce 0 at every broadcast
    assert far.get(f"/v1/accounts/{PERSONS[3].address}")["free"] == STAKE
    other.database.close()
