"""What a gateway writes about itself: lines that programs and people can read, and no secrets."""

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from gateway_rig import ALICE, BOB, Rig
from hypothesis import given
from hypothesis import strategies as st
from rpc_proxy import Fault, Kind, Proxy, open_proxy
from signed_calls import act

from contracts import calls, deploy
from contracts.deploy import deploy_local
from contracts.localchain import LocalChain, open_chain
from contracts.states import ActionKind
from gateway import logs
from gateway.compose import Gateway, open_gateway
from gateway.config import GatewayConfig, LogFormat
from gateway.logs import Recent, Redactor, event

_log = logging.getLogger("gateway.test")
TOKEN, PASSWORD = "4f6a9bTOKEN77aa", "hunter2-and-more"
KEY = hashlib.sha256(b"key of the operator").hexdigest()


class Stderr:
    """What was written there so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._seen = ""

    def text(self) -> str:
        self._seen += self._capsys.readouterr().err
        return self._seen

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Stderr:
    return Stderr(capsys)


# -- lines ------------------------------------------------------------------------------------------------------------


def test_a_line_for_people(stderr: Stderr) -> None:
    logs.configure(LogFormat.TEXT, "info")
    event(_log, logging.INFO, "batch composed", submission="0x12", calls=50)
    event(_log, logging.DEBUG, "not of interest")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO gateway\.test: batch composed submission=0x12 calls=50\n",
        stderr.text(),
    )


def test_a_line_for_programs(stderr: Stderr) -> None:
    logs.configure(LogFormat.JSON, "debug")
    event(_log, logging.DEBUG, "batch composed", submission="0x12", calls=50, block=None, level="mine")
    (line,) = stderr.lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "debug",
        "logger": "gateway.test",
        "event": "batch composed",
        "submission": "0x12",
        "calls": 50,
        "block": None,
    }  # an event cannot pretend to be of another level


def test_configuring_again_takes_the_place_of_what_was(stderr: Stderr) -> None:
    for form in (LogFormat.TEXT, LogFormat.JSON, LogFormat.JSON):
        logs.configure(form, "info")
    _log.info("once")
    assert [line["event"] for line in stderr.lines()] == ["once"]


@given(words=st.text())
def test_whatever_a_client_writes_is_one_line(words: str) -> None:
    record = _log.makeRecord("gateway.test", logging.INFO, "", 0, "it said %s", (words,), None)
    assert len(logs.TextLines(Redactor()).format(record).splitlines()) == 1
    assert json.loads(logs.JsonLines(Redactor()).format(record))["logger"] == "gateway.test"


@pytest.mark.parametrize("form", LogFormat)
def test_a_traceback_goes_with_its_event(stderr: Stderr, form: LogFormat) -> None:
    logs.configure(form, "info", secrets=[TOKEN])
    fault = RuntimeError(f"no answer from https://node.example/{TOKEN}")
    _log.error("unexpected fault", exc_info=fault)
    written = stderr.text()
    assert "RuntimeError: no answer from https://node.example/***" in written
    assert TOKEN not in written


def test_what_happens_in_a_request_bears_its_id(rig: Rig, stderr: Stderr) -> None:
    logs.configure(LogFormat.JSON, "info")
    rig.provider.down = True
    answers = [rig.client.get("/v1/chain"), rig.client.get("/v1/nowhere")]
    ids = [one.headers["X-Request-Id"] for one in answers]
    assert len(set(ids)) == 2
    written = [(one["request"], one["event"]) for one in stderr.lines()]
    assert [request for request, _ in written] == [ids[0], ids[0], ids[1]]
    assert [event for _, event in written if event == "answered"] == ["answered"] * 2
    (told,) = [one for one in stderr.lines() if one.get("route") == "/v1/chain"]
    assert (told["method"], told["status"], told["level"]) == ("GET", 503, "info")
    _log.info("outside")
    assert "request" not in stderr.lines()[-1]


def test_the_life_of_a_batch_can_be_read_in_the_log(deep: Rig, stderr: Stderr) -> None:
    deep.join(ALICE)
    for _ in range(4):
        deep.step()
    logs.configure(LogFormat.JSON, "debug")
    call = act(ALICE, deep.deployment.domain, ActionKind.UNBOND, amount=1, nonce=100)
    assert deep.client.post("/v1/operations", json={"call": "0x" + calls.encode(call).hex()}).status_code == 202
    snapshot = deep.chain.request("evm_snapshot")
    deep.step()
    assert deep.chain.request("evm_revert", [snapshot])
    for _ in range(2):
        deep.mine(deep.chain.time_s + 7)
    deep.worker.confirm()
    (batch,) = deep.gateway.store.unsettled()
    written = [one for one in stderr.lines() if one["logger"].startswith("gateway.") and "request" not in one]
    height = deep.chain.web3.eth.block_number
    told = [{key: one[key] for key in one.keys() - {"time", "logger", "level"}} for one in written]
    assert told == [
        {"event": "batch composed", "submission": batch.id, "nonce": 0, "calls": 1},
        {"event": "sent", "submission": batch.id, "nonce": 0, "outcome": "taken"},
        {"event": "block read", "block": height - 1, "included": 1, "events": 1},
        {"event": "chain reorganised", "block": height - 2, "blocks_forgotten": 1},
        {"event": "block read", "block": height - 1, "included": 0, "events": 0},
        {"event": "block read", "block": height, "included": 0, "events": 0},
    ]
    assert [level for _, level, _ in logs.recent()] == ["warning"]
    assert logs.recent()[0][2] == f"chain reorganised block={height - 2} blocks_forgotten=1"


def test_looking_at_a_gateway_fills_no_log(rig: Rig, stderr: Stderr) -> None:
    logs.configure(LogFormat.JSON, "info")
    for path in ("/healthz", "/readyz", "/metrics", "/v1/status"):
        assert rig.client.get(path).status_code == 200
    assert stderr.lines() == []


def test_the_last_warnings_are_remembered() -> None:
    recent = Recent([TOKEN])
    log = logging.Logger("apart")
    log.addHandler(recent)
    log.info("no warning")
    for number in range(30):
        log.warning("fault %d of %s", number, TOKEN)
    kept = recent.newest_first()
    assert [words for _, _, words in kept] == [f"fault {number} of ***" for number in range(29, 9, -1)]
    assert {level for _, level, _ in kept} == {"warning"}


# -- secrets ----------------------------------------------------------------------------------------------------------

RAW = "0x02" + "f8" * 180


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (f"POST /v2/{TOKEN} HTTP/1.1", "POST /v2/*** HTTP/1.1"),
        ("at https://user:pass@node.example:8545/v3/abc?key=def", "at https://***@node.example:8545/***"),
        ("postgresql+psycopg://idml:pw@db:5432/idml refused", "postgresql+psycopg://***@db:5432/idml refused"),
        (f"params ['{RAW}']", "params ['<bytes>']"),
        (f"params {bytes.fromhex(RAW[2:])!r}", "params <bytes>"),
        (f"""(b"it's{"x" * 40}")""", "(<bytes>)"),
        (f"signature of {'ab' * 64}", "signature of <bytes>"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("{'X-Idml-Signature': 'abc'}", "{'X-Idml-Signature': ***'}"),
        ("api_key=abc password: 'x y'", "api_key=*** password: *** y'"),
        (f"key {KEY}", "key ***"),
    ],
)
def test_what_looks_like_a_secret_is_not_written(text: str, written: str) -> None:
    assert Redactor([TOKEN, KEY, ""])(text) == written


@pytest.mark.parametrize(
    "text",
    [
        f"submission 0x{'ab' * 32} in block 12",
        f"account {ALICE.address}",
        "nonce 5 of the operator is missing",
        "http://127.0.0.1:8545 gave no answer",
        "b'short'",
        "sqlite:////var/lib/idml/gateway.sqlite",
    ],
)
def test_what_an_operator_needs_is_left_alone(text: str) -> None:
    assert Redactor([TOKEN, "ab"])(text) == text


def test_the_secrets_of_settings(tmp_path: Path) -> None:
    key = tmp_path / "key"
    config = GatewayConfig(
        chain="anvil",
        rpc_url=f"https://user:{PASSWORD}@node.example/v3/{TOKEN}?auth=query77",
        database_url="postgresql+psycopg://idml:p%40ss@db/idml",
        operator_key=key,
    )
    found = {"user", PASSWORD, "v3", TOKEN, "query77", "p@ss"}
    assert logs.secrets_of(config) == found
    key.write_text(f"0x{KEY}\n")
    assert logs.secrets_of(config) == found | {KEY}


# -- a whole life -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[LocalChain, Proxy]]:
    with open_chain("anvil") as chain, open_proxy(chain.web3.provider.endpoint_uri) as proxy:
        yield chain, proxy


def handed_in(gateway: Gateway, member: str, data: bytes) -> str:
    path = {"raw": "/v1/transactions", "call": "/v1/operations"}[member]
    answer = gateway.app.test_client().post(path, json={member: "0x" + data.hex()})
    assert answer.status_code < 500
    return data.hex()


@pytest.mark.chain
@pytest.mark.parametrize("form", LogFormat)
def test_a_whole_life_at_debug_level_writes_no_secret(
    node: tuple[LocalChain, Proxy],
    tmp_path: Path,
    stderr: Stderr,
    form: LogFormat,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Raw transactions and operations, refusals, batches, a failing node and a failing database."""
    chain, proxy = node
    deployment = deploy_local(chain)
    chain.fund([ALICE.address, BOB.address, Account.from_key(KEY).address], 10**20)
    (tmp_path / "operator.key").write_text(KEY + "\n")
    config = GatewayConfig(
        chain="anvil",
        rpc_url=proxy.url.replace("://", f"://user:{PASSWORD}@") + f"/v3/{TOKEN}?auth={TOKEN}",
        data=tmp_path,
        deployment=deploy.record(deployment, tmp_path / "deployments"),
        resend_after_s=0.001,
    )
    for name in ("web3", "urllib3", "sqlalchemy.engine", "sqlalchemy.pool"):
        caplog.set_level(logging.DEBUG, name)
    logs.configure(form, "debug", secrets=logs.secrets_of(config))
    nonce = chain.web3.eth.get_transaction_count(ALICE.address)
    secrets = [TOKEN, PASSWORD, KEY]
    with open_gateway(config) as gateway:

        def step() -> None:
            for part in (gateway.worker.confirm, gateway.worker.compose, gateway.worker.broadcast):
                try:
                    part()
                except Exception:
                    _log.exception("a step failed")

        buy = {"to": deployment.token, "value": 10**15, "data": calls.encode_buy(), "nonce": nonce}
        fees = {"chainId": 1337, "gas": 400_000, "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 1}
        raw = bytes(ALICE.sign_transaction(buy | fees).raw_transaction)
        step()
        secrets += [
            handed_in(gateway, "raw", raw),
            handed_in(gateway, "raw", raw[:-1]),
            handed_in(gateway, "call", calls.encode(act(BOB, deployment.domain, ActionKind.REGISTER, nonce=3))),
            handed_in(gateway, "call", calls.encode(act(BOB, deployment.domain, ActionKind.UNBOND, amount=0, nonce=4))),
        ]
        for kind in (Kind.RESET, Kind.NOT_JSON, Kind.BUSY, Kind.OTHER_SHAPE):
            proxy.inject(Fault(kind=kind, times=2))
            step()
        proxy.inject(Fault(kind=Kind.NONCE_TOO_LOW, method="eth_sendRawTransaction"))
        proxy.go_down()
        step()
        proxy.come_up()
        proxy.calm()
        for _ in range(3):
            step()
            chain.mine(chain.time_s + 1)
        assert gateway.store.counts()["final"] >= 1
        gateway.app.test_client().get("/v1/chain")
        gateway.store.counts = lambda: 1 / 0  # type: ignore[method-assign]
        assert gateway.app.test_client().get("/readyz").status_code == 500
    written = stderr.text().lower()
    for one in secrets:
        assert one.lower() not in written
    assert repr(raw)[2:40].lower() not in written
    for library in ("web3", "urllib3", "sqlalchemy", "gateway"):
        assert library in written  # each had its say
