"""Enrolment and signed requests: a token works once, a request is served once, and only to whom it was signed for."""

import asyncio
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from gateway_rig import ALICE, BOB, Rig, on_both_databases
from signed_requests import DAY_S, SignedDevice, code, enrolled, identity

from contracts.requests import enrolment_digest
from device_agent.errors import GatewayRefused, GatewayUnreachable
from device_agent.gateway import GatewayClient
from device_agent.loopback.world import InProcessTransport
from device_agent.transport import Request
from gateway.config import Access, DoorSettings
from gateway.door import PUBLIC
from gateway.enrolment import Enrolment
from gateway.errors import Refusal

FAR_AWAY = {"REMOTE_ADDR": "192.0.2.1"}
MODEL = b"model" * 100
MODEL_PATH = f"/v1/models/{hashlib.sha256(MODEL).hexdigest()}"


def redemption(token: str, who: Any = ALICE) -> dict[str, str]:
    signature = identity(who).sign_digest(enrolment_digest(token=token, account=who.address))
    return {"token": token, "account": who.address, "signature": "0x" + signature.hex()}


# Tokens


@on_both_databases
def test_a_token_enrols_one_device_once(rig: Rig) -> None:
    (token,) = Enrolment(rig.database).issue(1, name="lab", valid_s=DAY_S, now_s=rig.now_s)
    first = rig.client.post("/v1/devices", json=redemption(token))
    assert (first.status_code, first.json["account"], first.json["counter"]) == (201, ALICE.address, 0)
    again = rig.client.post("/v1/devices", json=redemption(token))
    assert (again.status_code, again.json) == (200, first.json)
    other = rig.client.post("/v1/devices", json=redemption(token, BOB))
    assert (other.status_code, code(other)) == (403, "token_refused")
    (device,) = Enrolment(rig.database).devices()
    assert (device.account, device.name, device.revoked) == (ALICE.address, "lab", False)


@on_both_databases
def test_a_token_enrols_one_of_many_who_race_for_it(rig: Rig) -> None:
    (token,) = Enrolment(rig.database).issue(1, name=None, valid_s=DAY_S, now_s=rig.now_s)
    accounts = [f"0x{n:040x}" for n in range(12)]

    def redeem(account: str) -> bool:
        try:
            return Enrolment(rig.database).redeem(token, account, now_s=rig.now_s)[1]
        except Refusal:
            return False

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(redeem, accounts)) == 1
    assert len(Enrolment(rig.database).devices()) == 1


def test_a_token_expires(rig: Rig) -> None:
    (token,) = Enrolment(rig.database).issue(1, name=None, valid_s=60, now_s=rig.now_s)
    rig.now_s += 61
    refused = rig.client.post("/v1/devices", json=redemption(token))
    assert (refused.status_code, code(refused)) == (403, "token_refused")


@pytest.mark.parametrize(
    ("changes", "status", "expected"),
    [
        ({"token": "guessed"}, 400, "bad_signature"),
        ({"account": BOB.address}, 400, "bad_signature"),
        ({"signature": "0x00"}, 400, "bad_signature"),
        ({"signature": "0xz"}, 400, "bad_request"),
        ({"account": "0x12"}, 400, "bad_request"),
        ({"more": "x"}, 400, "bad_request"),
        ({"token": "x" * 2_000}, 413, "body_too_large"),
    ],
)
def test_a_redemption_that_is_none_enrols_nobody(rig: Rig, changes: dict[str, str], status: int, expected: str) -> None:
    (token,) = Enrolment(rig.database).issue(1, name=None, valid_s=DAY_S, now_s=rig.now_s)
    refused = rig.client.post("/v1/devices", json=redemption(token) | changes)
    assert (refused.status_code, code(refused)) == (status, expected)
    assert Enrolment(rig.database).devices() == []


def test_a_guessed_token_is_refused(rig: Rig) -> None:
    refused = rig.client.post("/v1/devices", json=redemption("guessed"))
    assert (refused.status_code, code(refused)) == (403, "token_refused")


# Signed requests


@on_both_databases
def test_signed_requests_of_an_enrolled_device_are_served(closed: Rig) -> None:
    device = enrolled(closed)
    assert device.ask("PUT", MODEL_PATH, MODEL).status_code == 201
    assert device.ask("GET", MODEL_PATH).data == MODEL
    assert device.ask("GET", f"/v1/jobs?validator={ALICE.address}").status_code == 200
    headers = device.headers("POST", "/v1/transactions", body := raw_body(closed))
    taken = closed.client.post("/v1/transactions", data=body, headers=headers, content_type="application/json")
    assert taken.status_code == 202


def raw_body(rig: Rig) -> bytes:
    return json.dumps({"raw": "0x" + rig.buy(ALICE).hex()}).encode()


def test_nothing_but_public_facts_is_served_unsigned(closed: Rig) -> None:
    app = closed.client.application
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<digest>", "0" * 64).replace("<account>", "0x" + "00" * 20)
        path = path.replace("<address>", ALICE.address)
        for method in sorted((rule.methods or set()) - {"HEAD"}):
            response = closed.client.open(path, method=method, buffered=True, environ_overrides=FAR_AWAY)
            if rule.endpoint in PUBLIC:
                assert response.status_code != 401, path
            else:
                assert (response.status_code, code(response)) == (401, "not_signed"), path
                assert response.headers["WWW-Authenticate"].startswith('iDML realm="')
    assert {rule.endpoint for rule in app.url_map.iter_rules()} >= PUBLIC


@pytest.mark.parametrize("path", ["/metrics", "/v1/status", "/dashboard"])
def test_how_the_gateway_stands_is_told_on_its_own_machine(closed: Rig, path: str) -> None:
    assert closed.client.get(path).status_code == 200
    assert closed.client.get(path, environ_overrides=FAR_AWAY).status_code == 401


@on_both_databases
def test_the_same_request_is_not_served_twice(closed: Rig) -> None:
    device = enrolled(closed)
    path = f"/v1/jobs?validator={ALICE.address}"
    headers = device.headers("GET", path)
    assert closed.client.get(path, headers=headers).status_code == 200
    for _ in range(2):
        again = closed.client.get(path, headers=headers)
        assert (again.status_code, code(again), again.json["error"]["retry"]) == (401, "replayed", True)
        closed.restart()  # it is remembered on disk


@on_both_databases
def test_of_many_copies_at_once_one_is_served(closed: Rig) -> None:
    device = enrolled(closed)
    path = f"/v1/jobs?validator={ALICE.address}"
    headers = device.headers("GET", path)
    clients = [closed.client.application.test_client() for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda one: one.get(path, headers=headers).status_code, clients))
    assert sorted(statuses) == [200] + [401] * 11


def test_requests_under_way_at_once_are_all_served(closed: Rig) -> None:
    device = enrolled(closed)
    path = f"/v1/jobs?validator={ALICE.address}"
    made = [device.headers("GET", path) for _ in range(20)]
    assert [closed.client.get(path, headers=one).status_code for one in reversed(made)] == [200] * 20


@pytest.mark.parametrize(
    "changes",
    [
        {"realm": "another gateway"},
        {"method": "POST"},
        {"target": "/v1/jobs"},
        {"body_sha256": bytes(32)},
        {"account": BOB.address},
    ],
)
def test_a_signature_of_something_else_is_refused(closed: Rig, changes: dict[str, Any]) -> None:
    device = enrolled(closed)
    refused = device.ask("GET", f"/v1/jobs?validator={ALICE.address}", changes=changes)
    assert (refused.status_code, code(refused)) == (401, "bad_request_signature")
    assert Enrolment(closed.database).device(ALICE.address).counter == 0


@pytest.mark.parametrize("access", list(Access))
def test_a_wrong_signature_is_told_wherever_it_is_given(rig: Rig, access: Access) -> None:
    rig.door = DoorSettings(access=access)
    rig.restart()
    refused = rig.client.get("/v1/chain", headers={"Authorization": "Bearer x"})
    assert (refused.status_code, code(refused)) == (401, "bad_request_signature")


def test_another_body_than_the_signed_one_is_refused(closed: Rig) -> None:
    device = enrolled(closed)
    body = raw_body(closed)
    headers = device.headers("POST", "/v1/transactions", b"{}")
    refused = closed.client.post("/v1/transactions", data=body, headers=headers, content_type="application/json")
    assert (refused.status_code, code(refused)) == (400, "body_differs")
    headers = device.headers("PUT", MODEL_PATH, b"")
    del headers["Content-Digest"]
    refused = closed.client.put(MODEL_PATH, data=MODEL, headers=headers)
    assert (refused.status_code, code(refused)) == (400, "body_differs")
    assert closed.store.unsettled() == []


def test_a_revoked_device_is_not_served(closed: Rig) -> None:
    device = enrolled(closed)
    assert Enrolment(closed.database).revoke(ALICE.address)
    refused = device.ask("GET", MODEL_PATH)
    assert (refused.status_code, code(refused)) == (403, "not_enrolled")
    assert code(closed.client.get(f"/v1/devices/{ALICE.address}")) == "not_enrolled"
    stranger = SignedDevice(closed, identity(BOB))
    assert code(stranger.ask("GET", MODEL_PATH)) == "not_enrolled"


def test_who_is_enrolled_anew_goes_on_counting(closed: Rig) -> None:
    device = enrolled(closed)
    old = device.headers("GET", MODEL_PATH)
    assert closed.client.get(MODEL_PATH, headers=old).status_code == 404
    Enrolment(closed.database).revoke(ALICE.address)
    enrolled(closed)
    assert code(closed.client.get(MODEL_PATH, headers=old)) == "replayed"


# The device's client


def client(rig: Rig, who: Any = ALICE, **options: Any) -> GatewayClient:
    transport = InProcessTransport(rig.client.application)
    return GatewayClient("http://gateway", transport=transport, identity=identity(who), **options)


def test_the_client_enrols_and_signs(closed: Rig) -> None:
    (token,) = Enrolment(closed.database).issue(1, name=None, valid_s=DAY_S, now_s=closed.now_s)
    digest = hashlib.sha256(MODEL).digest()

    async def live() -> None:
        one = client(closed)
        standing = await one.enrol(token)
        await one.put_model(digest, MODEL)
        await asyncio.gather(*(one.jobs(ALICE.address) for _ in range(10)))
        assert await one.get_model(digest, max_bytes=len(MODEL)) == MODEL
        await one.submit(closed.buy(ALICE))
        # After a restart it goes on from what the gateway has seen.
        anew = client(closed, realm=standing.realm)
        await anew.jobs(ALICE.address)
        # Both at once: the one that falls behind asks where to go on.
        await asyncio.gather(*(each.jobs(ALICE.address) for each in (one, anew) * 5))

    asyncio.run(live())
    assert len(closed.store.unsettled()) == 1


def test_the_client_signs_for_no_gateway_but_its_own(closed: Rig) -> None:
    enrolled(closed)
    with pytest.raises(GatewayUnreachable, match="realm"):
        asyncio.run(client(closed, realm="another").jobs(ALICE.address))
    assert Enrolment(closed.database).device(ALICE.address).counter == 0


def test_the_client_of_a_stranger_is_refused(closed: Rig) -> None:
    with pytest.raises(GatewayRefused) as caught:
        asyncio.run(client(closed, BOB).jobs(BOB.address))
    assert (caught.value.status, caught.value.code) == (404, "not_found")


def test_the_client_goes_on_with_an_upload_that_broke_off(closed: Rig) -> None:
    enrolled(closed)
    digest = hashlib.sha256(MODEL).digest()
    first = {"Content-Range": f"bytes 0-99/{len(MODEL)}"}

    async def live() -> None:
        one = client(closed)
        await one._json(Request(method="PUT", target=MODEL_PATH, body=MODEL[:100], headers=first))
        await client(closed).put_model(digest, MODEL, part_bytes=150)
        assert await one.get_model(digest, max_bytes=len(MODEL)) == MODEL
        await one.put_model(digest, MODEL, part_bytes=150)  # it is there: nothing is sent

    asyncio.run(live())


def test_models_are_charged_to_the_device_that_signed(closed: Rig) -> None:
    device = enrolled(closed)
    device.ask("PUT", MODEL_PATH, MODEL)
    marks = [mark.parent.name for mark in (closed.folder / "models" / "owners").glob("*/*")]
    assert marks == [ALICE.address]
