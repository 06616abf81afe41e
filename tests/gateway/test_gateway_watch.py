"""What is asked in the background: it keeps nobody waiting, and remembers what it was told last."""

import hashlib
import threading
from collections.abc import Iterator

import pytest
import requests
from gateway_rig import ALICE, OPERATOR, Rig, reverting
from rpc_proxy import Fault, Kind, Proxy, open_proxy
from web3 import Web3
from web3.exceptions import Web3RPCError

from contracts.chain import PROFILES
from contracts.localchain import open_chain
from gateway.compose import connect
from gateway.metrics import Metrics
from gateway.node import Node
from gateway.node_requests import NodeFault, count_requests
from gateway.watch import Watch


@pytest.fixture
def watch(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr("gateway.watch._FRESH_S", 0.0)
    monkeypatch.setattr("gateway.watch._PATIENCE_S", 10.0)
    return Watch(node=rig.node, shelf=rig.shelf, operator=OPERATOR.address, now_s=lambda: rig.now_s)


def test_the_node_and_the_models_are_asked(rig: Rig, watch: Watch) -> None:
    for n in range(3):
        body = b"model" * (n + 1)
        rig.shelf.put(hashlib.sha256(body).hexdigest(), [body], size_bytes=len(body))
    found = watch.latest()
    assert (found.models, found.model_bytes, found.fault) == (3, 30, None)
    assert found.facts.height == found.facts.final_height == rig.chain.web3.eth.block_number
    assert found.facts.operator_wei == rig.chain.web3.eth.get_balance(OPERATOR.address)


def test_a_silent_node_is_told_beside_what_it_last_said(rig: Rig, watch: Watch) -> None:
    before = watch.latest()
    rig.provider.down = True
    rig.now_s += 60
    after = watch.latest()
    assert (after.facts, after.at_s) == (before.facts, before.at_s)
    assert "secret" not in after.fault
    rig.provider.down = False
    assert watch.latest().fault is None
    assert watch.latest().at_s == rig.now_s


def test_a_node_that_was_never_there(rig: Rig, watch: Watch) -> None:
    rig.provider.down = True
    found = watch.latest()
    assert (found.facts, found.at_s) == (None, rig.now_s)
    assert found.fault is not None


def test_a_node_that_hangs_keeps_nobody_waiting(rig: Rig, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    before = watch.latest()
    goes_on, asked = threading.Event(), []

    def hang(_: Node) -> int:
        asked.append(1)
        goes_on.wait(30)
        return 7

    monkeypatch.setattr(Node, "height", hang)
    monkeypatch.setattr("gateway.watch._PATIENCE_S", 0.01)
    assert [watch.latest() for _ in range(3)] == [before] * 3
    assert asked == [1]  # nobody asks again while one is waiting
    goes_on.set()
    monkeypatch.setattr("gateway.watch._PATIENCE_S", 10.0)
    assert watch.latest().facts.height == 7


# -- counting requests ------------------------------------------------------------------------------------------------


def errors(metrics: Metrics) -> dict[str, float]:
    return {
        one.labels["fault"]: one.value
        for family in metrics.node_errors.collect()
        for one in family.samples
        if one.name.endswith("_total")
    }


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with open_chain("anvil") as chain, open_proxy(chain.web3.provider.endpoint_uri) as opened:
        yield opened


@pytest.mark.chain
@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (Kind.BUSY, NodeFault.BUSY),
        (Kind.BAD_GATEWAY, NodeFault.HTTP),
        (Kind.RESET, NodeFault.NO_CONNECTION),
        (Kind.TRUNCATED, NodeFault.NO_CONNECTION),
        (Kind.NOT_JSON, NodeFault.MALFORMED),
        (Kind.DELAY, NodeFault.TIME_OUT),
        (Kind.NONCE_TOO_LOW, NodeFault.REFUSED),
    ],
)
def test_a_fault_of_the_node_is_counted_by_its_kind(proxy: Proxy, kind: Kind, fault: NodeFault) -> None:
    metrics, web3 = Metrics(), connect(proxy.url, PROFILES["anvil"], timeout_s=0.2)
    count_requests(web3, metrics)
    proxy.inject(Fault(kind=kind, delay_s=2))
    with pytest.raises((requests.RequestException, ValueError, Web3RPCError)):
        _ = web3.eth.block_number
    assert errors(metrics) == {fault.value: 1}
    assert web3.eth.block_number == 0
    sample = metrics.registry.get_sample_value
    assert sample("idml_gateway_node_request_seconds_count", {"method": "eth_blockNumber"}) == 2
    assert errors(metrics) == {fault.value: 1}


def test_a_call_that_the_contract_refuses_is_no_fault_of_the_node(rig: Rig) -> None:
    metrics, web3 = Metrics(), Web3(rig.provider)
    count_requests(web3, metrics)
    count_requests(web3, metrics)  # two gateways may share a client
    node = Node(web3, rig.profile)
    assert node.refusal(rig.deployment.escrow, b"\0" * 4, sender=ALICE.address) is not None
    assert node.send([reverting(rig)])[0].words == ""
    assert errors(metrics) == {}
