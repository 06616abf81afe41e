"""Several requests in one JSON-RPC batch: each transaction is told its own, whatever befalls the others."""

from collections.abc import Iterator

import pytest
from gateway_rig import ALICE, BOB, Rig, sign
from rpc_proxy import Fault, Kind, Proxy, open_proxy

from contracts.chain import PROFILES
from contracts.localchain import LocalChain, open_chain
from gateway.answers import Outcome
from gateway.compose import connect
from gateway.node import Node

pytestmark = pytest.mark.chain
SEND = "eth_sendRawTransaction"


@pytest.fixture(scope="module", params=["anvil", "ganache"])
def chain(request: pytest.FixtureRequest) -> Iterator[LocalChain]:
    with open_chain(request.param) as opened:
        opened.fund([ALICE.address, BOB.address], 10**20)
        # Ganache executes an account's first transaction as often as it is handed over: that one is made here.
        opened.web3.eth.send_raw_transaction(sign(ALICE, b"", to=BOB.address, nonce=0, gas=21_000))
        opened.mine(opened.time_s + 1)
        yield opened


@pytest.fixture
def proxy(chain: LocalChain) -> Iterator[Proxy]:
    snapshot = chain.request("evm_snapshot")
    with open_proxy(str(chain.web3.provider.endpoint_uri)) as opened:  # type: ignore[attr-defined]
        yield opened
    chain.mine(chain.time_s + 1)  # what waits would outlive the snapshot
    chain.request("evm_revert", [snapshot])


@pytest.fixture
def node(proxy: Proxy) -> Node:
    profile = PROFILES["anvil"]
    return Node(connect(proxy.url, profile, timeout_s=1.0), profile)


def pay(place: int, **fields: int) -> bytes:
    """What comes in the given place."""
    return sign(ALICE, b"", to=BOB.address, nonce=1 + place, value=1, gas=21_000, **fields)


def test_a_batch_is_taken_in_order(chain: LocalChain, node: Node, proxy: Proxy) -> None:
    raws = [pay(place) for place in range(70)]  # more than fit one batch
    assert [one.outcome for one in node.send(raws)] == [Outcome.TAKEN] * 70
    assert proxy.sends == ["0x" + raw.hex() for raw in raws]
    chain.mine(chain.time_s + 1)
    while node.nonce(ALICE.address) < 71:
        chain.mine(chain.time_s + 1)
    assert node.nonces([BOB.address, ALICE.address]) == {BOB.address: 0, ALICE.address: 71}


def test_one_that_is_refused_is_told_apart(node: Node) -> None:
    told = node.send([pay(0), pay(1, chainId=9), pay(1)])
    assert [one.outcome for one in told] == [Outcome.TAKEN, Outcome.NEVER, Outcome.TAKEN]
    assert told[1].words


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.TRUNCATED, Kind.NOT_JSON, Kind.OTHER_SHAPE, Kind.BAD_GATEWAY])
def test_an_answer_that_is_lost_leaves_all_in_doubt_and_the_next_batch_is_one_again(
    node: Node, proxy: Proxy, kind: Kind
) -> None:
    proxy.inject(Fault(kind=kind, method=SEND, forwards=True))
    assert [one.outcome for one in node.send([pay(0), pay(1)])] == [Outcome.NO_ANSWER] * 2
    assert proxy.sends == ["0x" + pay(0).hex()]  # the first had reached the node
    asked = proxy.batches
    assert [one.words for one in node.send([pay(1), pay(2)])] == [""] * 2
    assert proxy.batches == asked + 1


def test_a_busy_node_is_handed_no_further_batch(node: Node, proxy: Proxy) -> None:
    proxy.inject(Fault(kind=Kind.BUSY, method=SEND))
    assert [one.outcome for one in node.send([pay(place) for place in range(70)])] == [Outcome.BUSY] * 64
    assert proxy.sends == []


def test_a_node_that_takes_no_batches_is_asked_one_by_one(node: Node, proxy: Proxy) -> None:
    proxy.takes_batches = False
    assert [one.outcome for one in node.send([pay(0), pay(1)])] == [Outcome.TAKEN] * 2
    assert node.nonces([ALICE.address, BOB.address]) == {ALICE.address: 1, BOB.address: 0}
    assert proxy.batches == 1


def test_a_chain_in_this_process_is_asked_one_by_one(rig: Rig) -> None:
    raws = [rig.buy(ALICE, nonce=nonce) for nonce in range(2)]
    assert [one.outcome for one in rig.node.send(raws)] == [Outcome.TAKEN] * 2
    assert rig.node.nonces([ALICE.address, BOB.address]) == {ALICE.address: 0, BOB.address: 0}
