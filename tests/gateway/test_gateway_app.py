"""The HTTP interface: what it takes, what it answers, and that nothing is acknowledged that is not on disk."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from flask import Flask, abort
from gateway_rig import ALICE, BOB, STAKE, Rig, on_both_databases

from contracts import calls
from contracts.settlement import DEFAULT_PARAMETERS
from gateway.answering import answer_errors, code_of
from gateway.submission import State


def code(response) -> str:
    return response.json["error"]["code"]


@on_both_databases
def test_a_stake_flow_becomes_final(rig: Rig) -> None:
    keys = rig.join(ALICE, validator=True)
    assert [rig.state(key) for key in keys] == [State.ACCEPTED] * 4
    rig.step()
    shown = [rig.get(f"/v1/transactions/{key}") for key in keys]
    assert [one["state"] for one in shown] == ["final"] * 4
    assert [one["function"] for one in shown] == ["buy", "approve", "stake", "registerValidator"]
    account = rig.get(f"/v1/accounts/{ALICE.address.lower()}")
    assert account["address"] == ALICE.address
    assert (account["free"], account["seat"], account["active"], account["next_nonce"]) == (STAKE, 1, True, 4)
    names = [one["name"] for one in rig.get("/v1/events")["events"]]
    assert [one for one in names if one in ("Bought", "Staked", "ValidatorRegistered")] == [
        "Bought",
        "Staked",
        "ValidatorRegistered",
    ]


@on_both_databases
def test_the_same_bytes_again_are_the_same_record(rig: Rig) -> None:
    raw = rig.buy(ALICE)
    first, second = rig.post(raw), rig.post(raw)
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json == second.json
    rig.step()
    assert rig.post(raw).json["state"] == "final"
    assert rig.nonce(ALICE) == 1


@on_both_databases
def test_twenty_threads_at_once_make_one_record(rig: Rig) -> None:
    raw, clients = rig.buy(ALICE), [rig.client.application.test_client() for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda one: rig.post(raw, one), clients))
    assert sorted(one.status_code for one in answers) == [200] * 19 + [202]
    assert len({one.json["id"] for one in answers}) == 1
    assert sum(rig.store.counts().values()) == 1


@on_both_databases
def test_twenty_threads_with_other_bytes_share_no_nonce(rig: Rig) -> None:
    raws = [rig.buy(ALICE, wei=n + 1) for n in range(20)]
    clients = [rig.client.application.test_client() for _ in raws]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(rig.post, raws, clients))
    assert sorted(one.status_code for one in answers) == [202] + [409] * 19
    assert {code(one) for one in answers if one.status_code == 409} == {"nonce_taken"}
    assert sum(rig.store.counts().values()) == 1


def test_other_bytes_with_a_final_nonce_are_told_who_has_it(rig: Rig) -> None:
    key = rig.accepted(rig.buy(ALICE))
    rig.step()
    refused = rig.post(rig.buy(ALICE, wei=7))
    assert (refused.status_code, code(refused)) == (409, "nonce_taken")
    assert key in refused.json["error"]["message"]


@on_both_databases
def test_the_next_nonce_fills_a_gap_first(rig: Rig) -> None:
    rig.accepted(rig.buy(ALICE, nonce=0))
    rig.accepted(rig.buy(ALICE, nonce=2))
    assert rig.get(f"/v1/accounts/{ALICE.address}")["next_nonce"] == 1
    rig.accepted(rig.buy(ALICE, nonce=1))
    assert rig.get(f"/v1/accounts/{ALICE.address}")["next_nonce"] == 3


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (b"nonsense", 400, "bad_request"),
        (b"[]", 400, "bad_request"),
        (b'{"raw": 5}', 400, "bad_request"),
        (b'{"raw": "0x0g"}', 400, "bad_request"),
        (b'{"raw": "0x02", "more": 1}', 400, "bad_request"),
        (b'{"raw": "0x02"}', 400, "malformed_transaction"),
        (b'{"raw": "' + b"0" * 70_000 + b'"}', 413, "body_too_large"),
        ("{\"raw\": \"\N{GREEK SMALL LETTER ALPHA}\"}".encode(), 400, "bad_request"),
        ('{"raw": "0x02"}'.encode("utf-16"), 400, "bad_request"),  # JSON between programs is UTF-8 (RFC 8259)
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_refused(rig: Rig, body: bytes, status: int, expected: str) -> None:
    response = rig.client.post("/v1/transactions", data=body, content_type="application/json")
    assert (response.status_code, code(response)) == (status, expected)
    assert rig.store.unsettled() == []


@pytest.mark.parametrize(
    ("method", "path", "status", "expected"),
    [
        ("GET", "/v1/transactions/0x12", 404, "not_found"),
        ("GET", "/v1/nowhere", 404, "not_found"),
        ("PUT", "/v1/transactions", 405, "method_not_allowed"),
        ("GET", "/v1/accounts/nobody", 400, "bad_request"),
        ("GET", "/v1/accounts/0x" + "aB" * 20, 400, "bad_request"),
        ("GET", "/v1/encounters/0x12", 400, "bad_request"),
        ("GET", "/v1/jobs", 400, "bad_request"),
        ("GET", "/v1/events?after=-1", 400, "bad_request"),
        ("GET", "/v1/events?after=" + "9" * 30, 400, "bad_request"),
        ("GET", "/v1/events?after=%C2%B2", 400, "bad_request"),
        ("GET", "/v1/models/" + "a" * 64, 404, "not_found"),
        ("GET", "/v1/models/..%2F..%2Fgateway.sqlite", 404, "not_found"),
        ("PUT", "/v1/models/ABC", 400, "bad_request"),
        ("OPTIONS", "/v1/transactions", 405, "method_not_allowed"),
    ],
)
def test_every_error_is_json_with_a_code(rig: Rig, method: str, path: str, status: int, expected: str) -> None:
    response = rig.client.open(path, method=method, data=b"")
    assert (response.status_code, code(response)) == (status, expected)


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_of_another_kind_is_refused(rig: Rig, media: str) -> None:
    response = rig.client.post("/v1/transactions", data=b'{"raw": "0x02"}', content_type=media)
    assert (response.status_code, code(response)) == (415, "unsupported_media_type")


def test_a_method_that_is_not_offered_is_told_which_are(rig: Rig) -> None:
    response = rig.client.delete("/v1/transactions")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("status", [400, 405, 406, 408, 411, 413, 414, 415, 416, 429, 431, 501, 503])
def test_whatever_the_framework_refuses_has_a_code_of_its_own(status: int) -> None:
    app = Flask("broken")
    answer_errors(app)
    app.add_url_rule("/", view_func=lambda: abort(status))
    shown = code(app.test_client().get("/"))
    assert shown == code_of(status)
    assert (shown == "bad_request") == (status == 400)


def test_models_are_kept_by_digest(rig: Rig) -> None:
    body = bytes(range(256)) * 40
    digest = hashlib.sha256(body).hexdigest()
    path = f"/v1/models/{digest}"
    assert rig.client.put(path, data=body).status_code == 201
    assert rig.client.put(path, data=body).status_code == 200
    assert rig.client.get(path, buffered=True).data == body
    part = rig.client.get(path, buffered=True, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.data) == (206, body[10:20])
    beyond = rig.client.get(path, buffered=True, headers={"Range": "bytes=99999-"})
    assert (beyond.status_code, code(beyond)) == (416, "range_not_satisfiable")
    assert beyond.headers["Content-Range"] == f"bytes */{len(body)}"
    assert rig.client.get(path, buffered=True, headers={"If-None-Match": f'"{digest}"'}).status_code == 304
    wrong = rig.client.put(path, data=body + b"x")
    assert (wrong.status_code, code(wrong)) == (422, "digest_mismatch")


def test_a_model_arrives_in_parts(rig: Rig) -> None:
    body = bytes(range(256)) * 40
    path = f"/v1/models/{hashlib.sha256(body).hexdigest()}"

    def put(first: int, last: int) -> tuple[int, dict[str, object]]:
        headers = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
        response = rig.client.put(path, data=body[first : last + 1], headers=headers)
        return response.status_code, response.json

    assert put(0, 999) == (202, {"digest": path[-64:], "received_bytes": 1000})
    assert put(0, 999)[0] == 409
    assert rig.get(f"{path}/upload")["received_bytes"] == 1000
    assert rig.client.get(path).status_code == 404
    assert put(1000, len(body) - 1)[0] == 201
    assert rig.client.get(path, buffered=True).data == body
    assert rig.get(f"{path}/upload")["received_bytes"] == len(body)


@pytest.mark.parametrize(
    ("content_range", "status"),
    [
        ("bytes 0-8/10", 400),
        ("bytes 0-10/10", 400),
        ("bytes 9-0/10", 400),
        ("bytes 0-9/*", 400),
        ("bytes */10", 400),
        ("items 0-9/10", 400),
        (f"bytes 0-9/{10**15}", 400),
        (f"bytes 0-9/{10**14}", 413),
    ],
)
def test_a_part_that_is_none_is_refused(rig: Rig, content_range: str, status: int) -> None:
    path = "/v1/models/" + "0" * 64
    response = rig.client.put(path, data=bytes(10), headers={"Content-Range": content_range})
    assert response.status_code == status
    assert rig.get(f"{path}/upload")["received_bytes"] == 0


@pytest.mark.parametrize(
    ("wanted", "status", "size_bytes"),
    [
        ("bytes=0-0", 206, 1),
        ("bytes=-1", 206, 1),
        ("bytes=9990-", 206, 10),
        ("bytes=0-99999999999999999999", 206, 10_000),
        ("bytes=-99999999999999999999", 416, None),
        ("bytes=10000-", 416, None),
        ("bytes=5-2", 416, None),
        ("bytes=0-1,3-4", 416, None),
        pytest.param("bytes=" + ",".join(["0-"] * 1_000), 416, None, id="a thousand ranges"),
        ("bytes=a-b", 416, None),
        ("lines=0-1", 416, None),
    ],
)
def test_any_range_is_answered_with_no_more_than_the_model(
    rig: Rig, wanted: str, status: int, size_bytes: int | None
) -> None:
    body = bytes(10_000)
    path = f"/v1/models/{hashlib.sha256(body).hexdigest()}"
    rig.client.put(path, data=body)
    response = rig.client.get(path, headers={"Range": wanted}, buffered=True)
    assert response.status_code == status
    if size_bytes is not None:
        assert len(response.data) == size_bytes


def test_a_model_above_the_cap_is_refused(rig: Rig) -> None:
    rig.client.application.config["MAX_CONTENT_LENGTH"] = 1024
    response = rig.client.put("/v1/models/" + "0" * 64, data=bytes(1025))
    assert (response.status_code, code(response)) == (413, "body_too_large")


def test_the_chain_is_described(rig: Rig) -> None:
    rig.worker.confirm()
    chain = rig.get("/v1/chain")
    assert (chain["chain_id"], chain["escrow"]) == (1337, rig.deployment.escrow)
    assert chain["parameter_sets"]["0"]["validators"] == DEFAULT_PARAMETERS.validators
    assert chain["max_fee_wei"] > chain["tip_wei"] > 0
    retire = rig.sign(rig.chain.deployer, calls.encode_retire_parameter_set(0), nonce=rig.nonce(rig.chain.deployer))
    refused = rig.post(retire)
    assert (refused.status_code, code(refused)) == (422, "unknown_call")
    rig.chain.web3.eth.send_raw_transaction(retire)
    rig.step()
    assert rig.get("/v1/chain")["parameter_sets"]["0"]["retired"] is True


def test_a_full_disk_acknowledges_nothing(rig: Rig) -> None:
    rig.accepted(rig.buy(ALICE))

    @sa.event.listens_for(rig.store._db._engine, "begin")
    def _full(connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")

    raws = [rig.buy(BOB, nonce=n) for n in range(400)]
    stored = 1
    for raw in raws:
        response = rig.post(raw)
        if response.status_code != 202:
            break
        stored += 1
    assert (response.status_code, code(response)) == (503, "store_unavailable")
    assert response.json["error"]["retry"] is True
    sa.event.remove(rig.store._db._engine, "begin", _full)
    rig.restart()
    assert sum(rig.store.counts().values()) == stored
    assert rig.post(raw).status_code == 202


def test_a_database_that_takes_no_writes_acknowledges_nothing(rig: Rig) -> None:
    rig.database.close()

    @sa.event.listens_for(rig.database._engine, "connect")
    def _read_only(connection, _record) -> None:
        connection.execute("PRAGMA query_only = ON")

    refused = rig.post(rig.buy(ALICE))
    assert (refused.status_code, code(refused)) == (503, "store_unavailable")
    assert rig.get("/v1/events") == {"events": []}  # reading goes on
    rig.restart()
    assert rig.store.unsettled() == []


def test_a_silent_node_is_told_without_its_url(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.provider.down = True
    for path in ("/v1/chain", f"/v1/accounts/{ALICE.address}", "/readyz"):
        response = rig.client.get(path, buffered=True)
        assert (response.status_code, code(response)) == (503, "node_unavailable")
    assert rig.post(rig.buy(ALICE)).status_code == 202  # taking work needs no node
    assert rig.client.get("/healthz").status_code == 200
    assert "secret" not in caplog.text


def test_ready_tells_how_far_it_is_behind(rig: Rig) -> None:
    behind = rig.get("/readyz")["blocks_behind"]
    assert behind > 0
    rig.worker.confirm()
    assert rig.get("/readyz")["blocks_behind"] == 0


def test_a_fault_of_ours_is_a_500_without_details(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.store, "counts", lambda: 1 / 0)
    response = rig.client.get("/readyz")
    assert (response.status_code, code(response)) == (500, "internal")
    assert "division" not in response.text
