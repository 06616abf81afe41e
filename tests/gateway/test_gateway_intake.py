"""Transactions, which are taken in front of Flask: all that is around a request is as it is around any other."""

import logging

import pytest
from flask import Flask
from gateway_rig import ALICE, Rig

from gateway.intake import is_transaction
from gateway.submission import State


def test_flask_is_not_asked_about_a_transaction(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flask, "request_context", lambda *_: 1 / 0)
    assert rig.post(rig.buy(ALICE)).status_code == 202
    with pytest.raises(ZeroDivisionError):
        rig.client.get("/v1/chain")


def test_no_other_request_is_one(rig: Rig) -> None:
    def asks(method: str, path: str) -> bool:
        return is_transaction({"REQUEST_METHOD": method, "PATH_INFO": path})

    assert asks("POST", "/v1/transactions")
    assert not any(asks(method, "/v1/transactions") for method in ("GET", "PUT", "DELETE", "OPTIONS"))
    assert not any(asks("POST", path) for path in ("/v1/transactions/", "/v1/operations", "/v1"))
    assert rig.client.get("/v1/transactions").status_code == 405
    assert rig.client.post("/v1/transactions/").status_code == 404


def test_a_fault_of_ours_is_a_500_without_details(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(rig.store, "accept", lambda *_, **__: 1 / 0)
        response = rig.post(rig.buy(ALICE))
    assert (response.status_code, response.json["error"]["code"]) == (500, "internal")
    assert "division" not in response.text
    assert [one.exc_info is not None for one in caplog.records if one.levelno == logging.ERROR] == [True]


def test_it_is_named_and_counted_as_any_other(rig: Rig) -> None:
    raw = rig.buy(ALICE)
    answers = [rig.post(raw), rig.post(raw), rig.post(b"\x02")]
    assert [one.status_code for one in answers] == [202, 200, 400]
    assert len({one.headers["X-Request-Id"] for one in answers}) == 3
    counted = rig.client.get("/metrics").text
    for status in (202, 200, 400):
        name = f'idml_gateway_http_request_seconds_count{{method="POST",route="/v1/transactions",status="{status}"}}'
        assert f"{name} 1.0" in counted


def test_what_is_taken_is_there_before_it_is_answered(rig: Rig) -> None:
    answer = rig.post(rig.buy(ALICE))
    rig.restart()
    assert rig.state(answer.json["id"]) is State.ACCEPTED
