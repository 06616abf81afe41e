"""What the relay must survive, points 29 to 34 of 35: liveness."""

from dataclasses import replace
from pathlib import Path

import pytest
from behind_proxy import Far, on_anvil, on_both_chains
from gateway_rig import ALICE, BOB, SALTS, STAKE, TOKEN, UPDATED, Rig
from signed_calls import half, opening

from contracts import calls
from contracts.settlement import DEFAULT_PARAMETERS
from gateway.encounters import GRACE_S
from gateway.reaper import KEEP_S
from gateway.submission import State

pytestmark = pytest.mark.chain
DAY_S = 86_400


def joined(far: Rig) -> None:
    for who in (ALICE, BOB):
        far.join(who)
    far.step()


def stake(far: Rig, who: object) -> dict[str, int]:
    return far.get(f"/v1/accounts/{who.address}")  # type: ignore[attr-defined]


def later(far: Rig, at_s: int) -> None:
    """Let the chain's time pass, and the gateway see it."""
    far.mine(at_s)
    far.worker.confirm()


@on_both_chains
def test_29_the_keeper_expires_what_both_sides_have_left(far: Far) -> None:
    joined(far)
    agreed = far.terms()
    for who in (ALICE, BOB):
        far.accepted(far.sign(who, calls.encode_check_in(agreed), nonce=3))
        far.step()
    assert far.get(f"/v1/encounters/{far.id(agreed)}")["state"] == "open"
    assert stake(far, ALICE)["free"] == STAKE - TOKEN
    later(far, agreed.report_by + 1)
    assert far.worker.compose() == 0  # those whom it concerns come first
    later(far, agreed.report_by + GRACE_S)
    far.step()
    assert far.get(f"/v1/encounters/{far.id(agreed)}")["state"] == "expired"
    assert (stake(far, ALICE)["free"], stake(far, BOB)["free"]) == (STAKE, STAKE)


@on_both_chains
def test_29_the_keeper_closes_the_reporting_and_finalises(far: Far) -> None:
    """The Learner never reports, nobody finalises: without validators the Neighbor is believed."""
    joined(far)
    agreed = far.terms()
    for who in (ALICE, BOB):
        far.accepted(far.sign(who, calls.encode_check_in(agreed), nonce=3))
        far.step()
    far.accepted(far.sign(BOB, calls.encode_report(agreed, UPDATED, *SALTS), nonce=4))
    far.step()
    assert far.get(f"/v1/encounters/{far.id(agreed)}")["state"] == "neighbor_reported"
    later(far, agreed.report_by + DEFAULT_PARAMETERS.vote_time_s + GRACE_S)
    far.step()
    assert far.get(f"/v1/encounters/{far.id(agreed)}")["state"] == "reported"
    later(far, far.chain.time_s + 2 * DEFAULT_PARAMETERS.vote_time_s + GRACE_S)
    far.step()
    assert far.get(f"/v1/encounters/{far.id(agreed)}")["state"] == "settled"
    assert stake(far, ALICE)["locked"] == stake(far, BOB)["locked"] == 0


@on_anvil
def test_29_an_encounter_opened_by_signatures_is_expired_too(far: Far) -> None:
    joined(far)
    agreed = replace(far.terms(), nonce=16)
    call = opening(agreed, far.deployment.domain, ALICE, BOB)
    assert far.client.post("/v1/operations", json={"call": "0x" + calls.encode(call).hex()}).status_code == 202
    far.step()
    later(far, agreed.report_by + DEFAULT_PARAMETERS.vote_time_s + GRACE_S)
    far.step()
    assert far.get(f"/v1/encounters/{far.id(agreed)}")["state"] == "expired"
    late = far.client.post(
        "/v1/operations", json={"call": "0x" + calls.encode(half(agreed, far.deployment.domain, BOB)).hex()}
    )
    assert (late.status_code, late.json["error"]["code"]) == (409, "wrong_state")


@on_both_chains
def test_30_a_device_that_was_gone_for_weeks_is_told_what_became_of_its_work(far: Far) -> None:
    far.now_s = float(far.chain.time_s)
    keys = far.join(ALICE)
    far.step()
    far.mine_many(60)
    far.worker.confirm()
    for _ in range(8):
        far.now_s += 7 * DAY_S
        later(far, far.chain.time_s + 7 * DAY_S)
        far.worker.reap()
    for key in keys:
        told = far.get(f"/v1/transactions/{key}")
        assert (told["state"], told["mined"]) == ("final", key)
    staked = [one for one in far.get("/v1/events")["events"] if one["name"] == "Staked"]
    assert [one["transaction"] for one in staked] == [keys[2]]
    assert far.get(f"/v1/accounts/{ALICE.address}")["next_nonce"] == 3


@on_anvil
def test_34_what_nobody_asks_for_any_more_is_forgotten(far: Far) -> None:
    far.now_s = float(far.chain.time_s)
    joined(far)
    agreed = far.terms()
    for who in (ALICE, BOB):
        far.accepted(far.sign(who, calls.encode_check_in(agreed), nonce=3))
        far.step()
    stuck = far.accepted(far.buy(BOB, nonce=9))
    later(far, agreed.report_by + GRACE_S)
    far.step()
    assert far.get(f"/v1/encounters/{far.id(agreed)}")["state"] == "expired"
    far.mine_many(60)
    far.worker.confirm()
    unsettled = far.store.unsettled()
    assert [one.id for one in unsettled] == [stuck]
    far.now_s += KEEP_S + DAY_S
    later(far, far.chain.time_s + int(KEEP_S) + DAY_S)
    assert far.worker.reap() > 0
    assert far.state(stuck) is State.EXPIRED  # the nonces before it were never filled
    far.now_s += 3601
    far.worker.reap()
    with far.database.read() as db:
        left = {
            table: db.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
            for table in ("submissions", "attempts", "operations", "encounters", "terms", "salts")
        }
        names = set(db.exec_driver_sql("SELECT DISTINCT name FROM events").scalars())
    assert left == dict.fromkeys(left, 0)
    assert names == {"ParameterSetAdded"}
    assert (far.folder / "gateway.sqlite-wal").stat().st_size == 0
    assert far.get("/v1/chain")["parameter_sets"]  # what says how things stand now is kept


def test_34_a_database_that_is_reaped_stays_of_one_size(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store._KEPT_BLOCKS", 4)
    rig.now_s = float(rig.chain.time_s)
    sizes = []
    for nonce in range(30):
        rig.accepted(rig.buy(ALICE, nonce=nonce, wei=1))
        rig.step()
        rig.now_s += KEEP_S / 4
        rig.mine(rig.chain.time_s + int(KEEP_S / 4))
        rig.worker.confirm()
        rig.worker.reap()
        sizes.append((tmp_path / "gateway.sqlite").stat().st_size)
    assert sum(rig.store.counts().values()) <= 6
    assert max(sizes[12:]) == sizes[12]
