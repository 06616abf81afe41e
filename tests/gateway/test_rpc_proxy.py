"""The misbehaving node that other tests stand on: it does what it says, and nothing else."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import requests
from gateway_rig import ALICE, PERSONS, sign
from rpc_proxy import HUGE_BYTES, RETRY_AFTER_S, Fault, Kind, Proxy, open_proxy
from rpc_view import Answer, View
from web3 import HTTPProvider, Web3
from web3.exceptions import ExtraDataLengthError, TransactionNotFound, Web3RPCError
from web3.middleware import ExtraDataToPOAMiddleware

from contracts.localchain import LocalChain, open_chain

pytestmark = pytest.mark.chain
CHAIN_ID = {"jsonrpc": "2.0", "id": 5, "method": "eth_chainId", "params": []}


@pytest.fixture(scope="module", params=["anvil", "ganache"])
def chain(request: pytest.FixtureRequest) -> Iterator[LocalChain]:
    with open_chain(request.param) as opened:
        opened.fund([one.address for one in PERSONS], 10**20)
        for _ in range(3):
            opened.mine(opened.time_s + 1)
        yield opened


@pytest.fixture
def proxy(chain: LocalChain) -> Iterator[Proxy]:
    with open_proxy(chain.web3.provider.endpoint_uri) as opened:
        yield opened


@pytest.fixture
def web3(proxy: Proxy) -> Web3:
    return Web3(HTTPProvider(proxy.url, request_kwargs={"timeout": 5}, exception_retry_configuration=None))


def transfer(chain: LocalChain, *, tip_wei: int = 1) -> bytes:
    nonce = chain.web3.eth.get_transaction_count(ALICE.address)
    to = PERSONS[1].address
    return sign(ALICE, b"", to=to, nonce=nonce, value=1, maxPriorityFeePerGas=tip_wei)


def ask(proxy: Proxy, timeout_s: float = 5) -> requests.Response:
    return requests.post(proxy.url, json=CHAIN_ID, timeout=timeout_s)


def test_without_faults_it_is_the_node(chain: LocalChain, proxy: Proxy, web3: Web3) -> None:
    assert web3.eth.chain_id == 1337
    assert web3.eth.get_block("latest") == chain.web3.eth.get_block("latest")
    digest = web3.eth.send_raw_transaction(transfer(chain))
    chain.mine(chain.time_s + 1)
    assert web3.eth.get_transaction_receipt(digest) == chain.web3.eth.get_transaction_receipt(digest)
    assert web3.eth.get_transaction_count(ALICE.address) == chain.web3.eth.get_transaction_count(ALICE.address)
    with pytest.raises(TransactionNotFound):
        web3.eth.get_transaction(bytes(32))
    assert (proxy.requests["eth_chainId"], proxy.distinct_sends, proxy.injected.total()) == (1, 1, 0)


def test_a_fault_hits_the_next_requests_of_its_method(proxy: Proxy, web3: Web3) -> None:
    proxy.inject(Fault(kind=Kind.BAD_GATEWAY, method="eth_blockNumber", times=2))
    assert web3.eth.chain_id == 1337
    for _ in range(2):
        with pytest.raises(requests.HTTPError, match="502"):
            _ = web3.eth.block_number
    assert web3.eth.block_number > 0
    assert proxy.injected == {Kind.BAD_GATEWAY: 2}


def test_faults_without_an_end_last_until_it_is_calm(proxy: Proxy) -> None:
    proxy.inject(Fault(kind=Kind.BAD_GATEWAY, times=None))
    assert [ask(proxy).status_code for _ in range(3)] == [502] * 3
    proxy.calm()
    assert ask(proxy).json()["result"] == hex(1337)


def test_what_each_fault_looks_like(proxy: Proxy) -> None:
    def told(kind: Kind) -> requests.Response:
        proxy.inject(Fault(kind=kind))
        return ask(proxy)

    busy = told(Kind.BUSY)
    assert (busy.status_code, busy.headers["Retry-After"]) == (429, str(RETRY_AFTER_S))
    assert told(Kind.BAD_GATEWAY).status_code == 502
    with pytest.raises(requests.JSONDecodeError):
        told(Kind.NOT_JSON).json()
    assert isinstance(told(Kind.OTHER_SHAPE).json()["result"], dict)
    assert len(told(Kind.HUGE).content) > HUGE_BYTES
    assert told(Kind.ALREADY_KNOWN).json()["error"]["message"] == "already known"
    assert told(Kind.NONCE_TOO_LOW).json()["error"]["message"].startswith("nonce too low")
    with pytest.raises(requests.ConnectionError, match="reset"):
        told(Kind.RESET)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        told(Kind.TRUNCATED)
    shown = {Kind.BUSY, Kind.BAD_GATEWAY, Kind.NOT_JSON, Kind.OTHER_SHAPE, Kind.HUGE, Kind.RESET, Kind.TRUNCATED}
    assert proxy.injected == dict.fromkeys(shown | {Kind.ALREADY_KNOWN, Kind.NONCE_TOO_LOW}, 1)


@pytest.mark.parametrize("forwards", [True, False])
def test_the_node_took_what_the_reply_of_is_lost(
    chain: LocalChain, proxy: Proxy, web3: Web3, *, forwards: bool
) -> None:
    raw = transfer(chain)
    before = chain.web3.eth.get_transaction_count(ALICE.address)
    proxy.inject(Fault(kind=Kind.RESET, method="eth_sendRawTransaction", forwards=forwards))
    with pytest.raises(requests.ConnectionError):
        web3.eth.send_raw_transaction(raw)
    chain.mine(chain.time_s + 1)
    assert chain.web3.eth.get_transaction_count(ALICE.address) == before + forwards
    assert proxy.sends == ["0x" + raw.hex()] * forwards


def test_a_slow_reply_comes_after_the_node_took_it(chain: LocalChain, proxy: Proxy) -> None:
    raw = "0x" + transfer(chain).hex()
    proxy.inject(Fault(kind=Kind.DELAY, forwards=True, delay_s=60))
    with pytest.raises(requests.ReadTimeout):
        requests.post(proxy.url, json=CHAIN_ID | {"method": "eth_sendRawTransaction", "params": [raw]}, timeout=0.3)
    assert proxy.sends == [raw]
    chain.mine(chain.time_s + 1)


def test_a_late_request_reaches_the_node_after_the_client_gave_up(chain: LocalChain, proxy: Proxy) -> None:
    raw = "0x" + transfer(chain).hex()
    proxy.inject(Fault(kind=Kind.DELAY, delay_s=60))
    with pytest.raises(requests.ReadTimeout):
        requests.post(proxy.url, json=CHAIN_ID | {"method": "eth_sendRawTransaction", "params": [raw]}, timeout=0.3)
    assert proxy.sends == []
    proxy.close()  # ends every delay
    assert proxy.sends == [raw]
    chain.mine(chain.time_s + 1)


def test_it_goes_down_and_comes_up_at_the_same_place(proxy: Proxy, web3: Web3) -> None:
    assert web3.eth.chain_id == 1337
    proxy.go_down()
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            _ = web3.eth.chain_id
    proxy.come_up()
    assert web3.eth.chain_id == 1337
    assert proxy.requests["eth_chainId"] == 2  # what it did not hear it does not count


def test_a_node_that_is_gone_is_a_bad_gateway(proxy: Proxy) -> None:
    proxy.node_url = "http://127.0.0.1:9"
    assert ask(proxy).status_code == 502


def test_a_lagging_node_has_not_heard_of_the_newest_blocks(chain: LocalChain, proxy: Proxy, web3: Web3) -> None:
    nonce, wei = (of(ALICE.address) for of in (web3.eth.get_transaction_count, web3.eth.get_balance))
    digest = web3.eth.send_raw_transaction(transfer(chain))
    chain.mine(chain.time_s + 1)
    chain.mine(chain.time_s + 1)
    height = chain.web3.eth.block_number
    proxy.view = View(lag_blocks=2)
    assert web3.eth.block_number == height - 2
    assert web3.eth.get_block("latest")["number"] == height - 2
    assert web3.eth.get_transaction_count(ALICE.address) == nonce
    assert web3.eth.get_balance(ALICE.address) == wei
    for read in (web3.eth.get_transaction_receipt, web3.eth.get_transaction):
        with pytest.raises(TransactionNotFound):
            read(digest)
    with pytest.raises(Web3RPCError, match="header not found"):
        web3.eth.get_balance(ALICE.address, height - 1)
    assert requests.post(
        proxy.url, json=CHAIN_ID | {"method": "eth_getBlockByNumber", "params": [hex(height), False]}, timeout=5
    ).json() == {"jsonrpc": "2.0", "id": 5, "result": None}
    proxy.view = View(lag_blocks=1)
    assert web3.eth.get_transaction_receipt(digest)["blockNumber"] == height - 1
    assert web3.eth.get_transaction_count(ALICE.address) == nonce + 1


def test_finality_can_be_held_back(chain: LocalChain, proxy: Proxy, web3: Web3) -> None:
    finalized = chain.web3.eth.get_block("finalized")["number"]
    assert web3.eth.get_block("finalized")["number"] == finalized
    proxy.view = View(finalized_at=0)
    assert web3.eth.get_block("finalized")["number"] == 0
    assert web3.eth.get_block("latest")["number"] > 0


def test_headers_of_proof_of_authority(proxy: Proxy, web3: Web3) -> None:
    proxy.view = View(poa=True)
    with pytest.raises(ExtraDataLengthError):
        web3.eth.get_block("latest")
    web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    assert len(web3.eth.get_block("latest")["proofOfAuthorityData"]) >= 97


def test_a_tip_below_the_floor_is_refused_in_bors_words(chain: LocalChain, proxy: Proxy, web3: Web3) -> None:
    proxy.view = View(tip_floor_wei=25 * 10**9)
    with pytest.raises(Web3RPCError, match="underpriced: gas tip cap 24999999999, minimum needed 25000000000"):
        web3.eth.send_raw_transaction(transfer(chain, tip_wei=25 * 10**9 - 1))
    assert proxy.sends == []
    web3.eth.send_raw_transaction(transfer(chain, tip_wei=25 * 10**9))
    assert proxy.distinct_sends == 1
    chain.mine(chain.time_s + 1)


def test_transactions_and_receipts_can_be_hidden(chain: LocalChain, proxy: Proxy, web3: Web3) -> None:
    digest = web3.eth.send_raw_transaction(transfer(chain))
    chain.mine(chain.time_s + 1)
    key = "0x" + bytes(digest).hex()
    proxy.view = View(hidden_receipts=frozenset({key}))
    assert web3.eth.get_transaction(digest)["blockNumber"]
    with pytest.raises(TransactionNotFound):
        web3.eth.get_transaction_receipt(digest)
    proxy.view = View(hidden_transactions=frozenset({key}))
    for read in (web3.eth.get_transaction_receipt, web3.eth.get_transaction):
        with pytest.raises(TransactionNotFound):
            read(digest)


def test_logs_end_where_the_view_ends() -> None:
    asked: list[dict[str, str]] = []

    def ask(method: str, params: Sequence[Any]) -> Answer:
        if method == "eth_getLogs":
            asked.append(params[0])
        return {"result": "0x9"}

    view = View(lag_blocks=2)
    for wanted in ({}, {"fromBlock": "0x1", "toBlock": "0x8"}, {"fromBlock": "0x1", "toBlock": "0x5"}):
        view.answer("eth_getLogs", [wanted], ask)
    assert asked == [
        {"fromBlock": "0x7", "toBlock": "0x7"},
        {"fromBlock": "0x1", "toBlock": "0x7"},
        {"fromBlock": "0x1", "toBlock": "0x5"},
    ]
    assert view.answer("eth_getLogs", [{"fromBlock": "0x8", "toBlock": "0x8"}], ask) == {"result": []}
    assert len(asked) == 3
