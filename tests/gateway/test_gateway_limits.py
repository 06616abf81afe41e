"""How much may come: a noisy device is stopped and starves nobody, and what waits is bounded."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from gateway_rig import ALICE, BOB, NO_HURRY, OPERATOR, Rig, on_both_databases
from signed_calls import permit
from signed_requests import code, enrolled

from contracts import calls
from contracts.terms import Domain
from gateway.config import Access, DoorSettings, Limits

JOBS = f"/v1/jobs?validator={ALICE.address}"


def limited(rig: Rig, **limits: float) -> Rig:
    rig.limits = NO_HURRY.model_copy(update=limits)
    rig.restart()
    return rig


def another(rig: Rig) -> FlaskClient:
    return rig.client.application.test_client()


def test_a_noisy_device_starves_nobody(closed: Rig) -> None:
    """All come from one address and at the same time; only the noisy one is ever refused."""
    limited(closed, requests_per_s=1, requests_burst=20, peer_requests_per_s=1, peer_requests_burst=5)
    noisy, quiet = enrolled(closed, ALICE), enrolled(closed, BOB)
    asked = [(noisy, noisy.headers("GET", JOBS)) for _ in range(60)]
    for place in range(0, 60, 6):
        asked.insert(place, (quiet, quiet.headers("GET", JOBS)))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: (one[0], another(closed).get(JOBS, headers=one[1])), asked))
    assert [answer.status_code for who, answer in answers if who is quiet] == [200] * 10
    heard = [answer for who, answer in answers if who is noisy]
    assert sorted(answer.status_code for answer in heard) == [200] * 20 + [429] * 40
    refused = next(answer for answer in heard if answer.status_code == 429)
    assert (code(refused), refused.json["error"]["retry"]) == ("too_many_requests", True)
    assert int(refused.headers["Retry-After"]) == 1


def test_who_waits_as_told_is_served(closed: Rig) -> None:
    limited(closed, requests_per_s=0.1, requests_burst=1)
    device = enrolled(closed)
    assert device.ask("GET", JOBS).status_code == 200
    refused = device.ask("GET", JOBS)
    assert refused.status_code == 429
    closed.now_s += int(refused.headers["Retry-After"])
    assert device.ask("GET", JOBS).status_code == 200


def test_nobody_uses_up_the_bucket_of_another(closed: Rig) -> None:
    limited(closed, requests_per_s=0.1, requests_burst=3)
    device = enrolled(closed)
    forged = device.headers("GET", "/v1/elsewhere")
    for _ in range(10):
        assert code(closed.client.get(JOBS, headers=forged)) == "bad_request_signature"
    replayed = device.headers("GET", JOBS)
    assert [closed.client.get(JOBS, headers=replayed).status_code for _ in range(5)] == [200] + [401] * 4
    assert device.ask("GET", JOBS).status_code == 200


@pytest.mark.parametrize("access", list(Access))
def test_an_address_that_only_makes_faults_is_turned_away(rig: Rig, access: Access) -> None:
    rig.door = DoorSettings(access=access)
    limited(rig, peer_requests_per_s=0.1, peer_requests_burst=4)
    answers = [rig.client.post("/v1/transactions", json={"raw": "0x02"}) for _ in range(6)]
    assert [one.status_code == 429 for one in answers] == [False] * 4 + [True] * 2
    assert rig.client.get("/v1/chain").status_code == 429
    assert rig.client.get("/healthz").status_code == 200


def test_open_to_all_work_is_counted_for_who_signed_it(rig: Rig) -> None:
    limited(rig, requests_per_s=0.1, requests_burst=2, peer_requests_per_s=0.1, peer_requests_burst=1)
    assert [rig.post(rig.buy(ALICE)).status_code for _ in range(3)] == [202, 200, 429]
    assert rig.post(rig.buy(BOB)).status_code == 202


def test_all_together_are_bounded(rig: Rig) -> None:
    limited(rig, all_requests_per_s=0.5, all_requests_burst=3)
    answers = [rig.client.get("/v1/events") for _ in range(4)]
    assert [one.status_code for one in answers] == [200] * 3 + [429]
    assert answers[-1].headers["Retry-After"] == "2"


@on_both_databases
def test_an_account_may_hand_in_so_much_that_is_not_done(rig: Rig) -> None:
    limited(rig, undone_per_account=2)
    raws = [rig.buy(ALICE, nonce=nonce) for nonce in range(3)]
    answers = [rig.post(raw) for raw in raws]
    assert [one.status_code for one in answers] == [202, 202, 429]
    assert code(answers[-1]) == "too_much_undone"
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert rig.post(raws[0]).status_code == 200  # it is known
    assert rig.post(rig.buy(BOB)).status_code == 202
    rig.step()
    assert rig.post(raws[2]).status_code == 202


@on_both_databases
def test_all_that_is_not_done_is_bounded(rig: Rig) -> None:
    limited(rig, undone_in_all=2)
    assert [rig.post(rig.buy(who)).status_code for who in (ALICE, BOB)] == [202, 202]
    call = calls.encode(permit(BOB, Domain(chain_id=1337, escrow=rig.deployment.token), OPERATOR.address, 1))
    refused = rig.client.post("/v1/operations", json={"call": "0x" + call.hex()})
    assert (refused.status_code, code(refused)) == (429, "too_much_undone")


def test_false_permits_do_not_fill_up_an_account(rig: Rig) -> None:
    """Nobody but the chain can tell that a permit is false."""
    limited(rig, undone_per_account=1)
    token = Domain(chain_id=1337, escrow=rig.deployment.token)
    for amount in (1, 2, 3):
        call = calls.encode(permit(BOB, token, OPERATOR.address, amount))
        assert rig.client.post("/v1/operations", json={"call": "0x" + call.hex()}).status_code == 202
    assert rig.post(rig.buy(BOB)).status_code == 202


def test_the_limits_of_a_fresh_gateway_bound_everything() -> None:
    limits = Limits()
    assert 0 < limits.requests_per_s < limits.peer_requests_per_s < limits.all_requests_per_s
    assert limits.undone_per_account < limits.undone_in_all
