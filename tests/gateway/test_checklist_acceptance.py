"""What the relay must survive, points 1 to 6 of 35: acceptance, on real chains behind a proxy."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import rlp
from behind_proxy import Far, on_both_chains
from eth_keys.constants import SECPK1_N
from gateway_rig import ALICE, BOB, STAKE, TOKEN
from rpc_view import View
from signed_calls import act
from werkzeug.test import TestResponse

from contracts import calls
from contracts.states import ActionKind
from gateway.submission import State

pytestmark = pytest.mark.chain


def code(response: TestResponse) -> tuple[int, str]:
    assert response.json is not None, response.text
    assert set(response.json["error"]) == {"code", "message", "retry"}
    return response.status_code, response.json["error"]["code"]


@on_both_chains
def test_01_the_same_payload_is_one_record_and_another_under_its_key_a_conflict(far: Far) -> None:
    raw = far.buy(ALICE)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: far.post(raw, far.gateway.app.test_client()), range(20)))
    assert sorted(one.status_code for one in answers) == [200] * 19 + [202]
    (key,) = {one.json["id"] for one in answers if one.json}
    assert code(far.post(far.buy(ALICE, wei=5))) == (409, "nonce_taken")
    assert far.worker.broadcast() == 1
    far.mine()
    far.worker.confirm()
    assert far.post(raw).json["id"] == key
    assert far.worker.broadcast() == 0
    assert (len(far.faults.sends), far.nonce(ALICE)) == (1, 1)


def high_s(raw: bytes) -> bytes:
    members = rlp.decode(raw[1:])
    members[11] = (SECPK1_N - int.from_bytes(members[11])).to_bytes(32)
    members[9] = b"" if members[9] else b"\1"
    return raw[:1] + rlp.encode(members)


REFUSED: dict[str, tuple[Callable[[Far], bytes], tuple[int, str]]] = {
    "wrong chain": (lambda far: far.sign(ALICE, calls.encode_stake(1), nonce=0, chainId=5), (422, "wrong_chain")),
    "foreign target": (
        lambda far: far.sign(ALICE, calls.encode_stake(1), nonce=0, to=BOB.address),
        (422, "foreign_target"),
    ),
    "foreign selector": (lambda far: far.sign(ALICE, b"\1\2\3\4", nonce=0), (422, "unknown_call")),
    "value above the cap": (lambda far: far.buy(ALICE, wei=10**19 + 1), (422, "value_above_cap")),
    "gas above the cap": (
        lambda far: far.sign(ALICE, calls.encode_stake(1), nonce=0, gas=1_000_001),
        (422, "gas_above_cap"),
    ),
    "gas below what any block takes": (
        lambda far: far.sign(ALICE, calls.encode_stake(1), nonce=0, gas=21_000),
        (422, "gas_too_low"),
    ),
    "fee above the cap": (
        lambda far: far.sign(ALICE, calls.encode_stake(1), nonce=0, maxFeePerGas=10**13),
        (422, "fee_above_cap"),
    ),
    "high s": (lambda far: high_s(far.buy(ALICE)), (400, "bad_signature")),
    "too many bytes": (lambda far: b"\2" + bytes(60_000), (413, "body_too_large")),
    "no transaction": (lambda far: b"\2\xc0", (400, "malformed_transaction")),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("far", ["anvil"], indirect=True)
def test_04_what_is_not_relayed_is_refused_with_a_stable_code_and_never_sent(far: Far, what: str) -> None:
    make, expected = REFUSED[what]
    assert code(far.post(make(far))) == expected
    far.worker.broadcast()
    assert far.faults.sends == []


@on_both_chains
@pytest.mark.parametrize("off_s", [-86_400, 86_400])
def test_05_deadlines_are_the_chains_whatever_the_clocks_say(far: Far, off_s: int) -> None:
    far.now_s = far.chain.time_s + off_s
    domain = far.deployment.domain
    far.join(ALICE)
    far.step()
    in_time = act(ALICE, domain, ActionKind.UNBOND, amount=TOKEN, nonce=1, deadline=far.chain.time_s + 60)
    answer = far.client.post("/v1/operations", json={"call": "0x" + calls.encode(in_time).hex()})
    assert answer.status_code == 202, answer.json
    far.step()
    assert far.get(f"/v1/accounts/{ALICE.address}")["unbonding"] == TOKEN
    late = act(ALICE, domain, ActionKind.UNBOND, amount=TOKEN, nonce=2, deadline=far.chain.time_s + 5)
    key = far.client.post("/v1/operations", json={"call": "0x" + calls.encode(late).hex()}).json["id"]
    far.mine(far.chain.time_s + 6)
    far.worker.confirm()
    far.step()
    assert far.get(f"/v1/operations/{key}")["state"] == "over"
    assert far.get(f"/v1/accounts/{ALICE.address}")["free"] == STAKE - TOKEN


def bad_version(far: Far) -> Any:
    data = bytearray(calls.encode(act(ALICE, far.deployment.domain, ActionKind.STAKE, amount=1, nonce=1)))
    data[:4] = b"\xff\xff\xff\xff"
    return far.client.post("/v1/operations", json={"call": "0x" + bytes(data).hex()})


@pytest.mark.parametrize("far", ["anvil"], indirect=True)
def test_35_an_operation_of_an_unknown_version_is_told_apart(far: Far) -> None:
    response = bad_version(far)
    assert code(response) == (400, "unknown_operation")
    assert response.json["error"]["retry"] is False  # the device keeps it, and may ask a newer gateway


@on_both_chains
def test_17_what_would_be_reverted_is_told_before_its_nonce_is_used(far: Far) -> None:
    response = far.post(far.sign(ALICE, calls.encode_unbond(1, 0), nonce=0))
    assert code(response) == (422, "would_revert")
    assert "InsufficientFree: free stake 0 does not cover 1" in response.json["error"]["message"]
    assert far.get(f"/v1/accounts/{ALICE.address}")["next_nonce"] == 0
    far.join(ALICE)  # what comes after others on their way is not tried
    assert far.worker.broadcast() == 3


@on_both_chains
def test_17_a_node_that_lags_refuses_nothing(far: Far) -> None:
    far.join(ALICE)
    far.step()
    far.faults.view = View(lag_blocks=1)  # it has not heard of the stake
    key = far.accepted(far.sign(ALICE, calls.encode_unbond(1, 1), nonce=3))
    far.faults.calm()
    far.step()
    assert far.state(key) is State.INCLUDED
    assert far.store.submission(key).succeeded
