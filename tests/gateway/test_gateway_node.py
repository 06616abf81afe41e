"""The chain's node: whatever it answers, the gateway gets what it asked for or `NodeUnavailable`."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from gateway_rig import ALICE, BOB
from rpc_proxy import Fault, Kind, Proxy, open_proxy

from contracts.chain import PROFILES, Finality
from contracts.deploy import deploy_local, record
from contracts.localchain import open_chain
from gateway.compose import connect, open_gateway
from gateway.config import GatewayConfig
from gateway.errors import NodeUnavailable
from gateway.node import Node

pytestmark = pytest.mark.chain
MINED = replace(PROFILES["anvil"], finality=Finality.FINALIZED_TAG)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Node, bytes, GatewayConfig]]:
    """A node that can be made to answer anything, with the hash of a transaction that it has."""
    with open_chain("anvil") as chain, open_proxy(chain.web3.provider.endpoint_uri) as proxy:
        folder = tmp_path_factory.mktemp("gateway")
        place = record(deploy_local(chain), folder)
        config = GatewayConfig(chain="anvil", rpc_url=proxy.url, data=folder, deployment=place)
        receipt = chain.transact(to=ALICE.address, value_wei=1, gas=21_000)
        yield proxy, Node(connect(proxy.url, MINED), MINED), bytes(receipt["transactionHash"]), config


QUESTIONS: dict[str, Callable[[Node, bytes], object]] = {
    "chain_id": lambda node, _: node.chain_id(),
    "height": lambda node, _: node.height(),
    "final_height": lambda node, _: node.final_height(1),
    "block": lambda node, _: node.block(1),
    "block_hash": lambda node, _: node.block_hash(1),
    "receipt": lambda node, key: node.receipt("0x" + key.hex()),
    "logs": lambda node, _: node.logs(1, 1, [ALICE.address]),
    "nonce": lambda node, _: node.nonce(ALICE.address),
    "nonces": lambda node, _: node.nonces([ALICE.address, BOB.address]),
    "free_stranded": lambda node, _: node.free_stranded(ALICE.address),
    "balance_wei": lambda node, _: node.balance_wei(ALICE.address),
    "fees": lambda node, _: node.fees(),
    "block_gas_limit": lambda node, _: node.block_gas_limit(),
    "read": lambda node, _: node.read(ALICE.address, b""),
    "refusal": lambda node, _: node.refusal(ALICE.address, b"", sender=ALICE.address),
}
NONSENSE = (Kind.OTHER_SHAPE, Kind.NOT_JSON, Kind.TRUNCATED, Kind.BUSY, Kind.BAD_GATEWAY, Kind.RESET)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("kind", NONSENSE)
def test_an_answer_that_is_none_is_an_unavailable_node(
    faulty: tuple[Proxy, Node, bytes, GatewayConfig], question: str, kind: Kind
) -> None:
    proxy, node, key, _ = faulty
    proxy.calm()
    # web3 asks for the chain's id before it calls.
    proxy.inject(Fault(kind=kind, method="eth_call" if question in ("read", "refusal") else None))
    with pytest.raises(NodeUnavailable):
        QUESTIONS[question](node, key)
    QUESTIONS[question](node, key)  # and the next one is as it was


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_gateway_does_not_start_on_nonsense(faulty: tuple[Proxy, Node, bytes, GatewayConfig], kind: Kind) -> None:
    proxy, _, _, config = faulty
    proxy.calm()
    proxy.inject(Fault(kind=kind, times=None))
    with pytest.raises(NodeUnavailable):
        open_gateway(config)
    proxy.calm()
    open_gateway(config).close()
