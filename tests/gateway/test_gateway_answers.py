"""What nodes say to a raw transaction is understood: heard from the real programs, and read in their sources."""

from collections.abc import Iterator

import pytest
from gateway_rig import ALICE, BOB, PERSONS
from hypothesis import given
from hypothesis import strategies as st

from contracts.chain import PROFILES
from contracts.localchain import LocalChain, open_chain
from gateway.answers import SAYINGS, Outcome, meaning, needed_tip_wei
from gateway.node import Node

POOR = PERSONS[7]


@pytest.fixture(
    scope="module", params=["embedded", *(pytest.param(one, marks=pytest.mark.chain) for one in ("anvil", "ganache"))]
)
def chain(request: pytest.FixtureRequest) -> Iterator[LocalChain]:
    with open_chain(request.param) as opened:
        opened.fund([ALICE.address], 10**20)
        yield opened


def heard(chain: LocalChain) -> dict[str, Outcome]:
    """Do everything wrong that one can, and note what the node's words are taken for."""
    node = Node(chain.web3, PROFILES[chain.kind])

    def send(who: object = ALICE, **changes: int) -> Outcome:
        fields = {
            "chainId": 1337,
            "nonce": 1,
            "gas": 30_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
            "value": 1,
            "to": BOB.address,
        }
        return node.send([bytes(who.sign_transaction(fields | changes).raw_transaction)])[0].outcome  # type: ignore[attr-defined]

    first = send(nonce=0)  # Ganache takes that nonce any number of times
    chain.mine(chain.time_s + 1)
    waiting = {"first": first, "taken": send(), "again": send(), "cheaper": send(maxFeePerGas=10**11 - 1)}
    chain.mine(chain.time_s + 1)
    return waiting | {
        "used nonce": send(value=2),
        "no funds": send(POOR, nonce=0),
        "too little gas": send(nonce=2, gas=20_000),
        "too much gas": send(nonce=2, gas=40_000_000),
        "other chain": send(nonce=2, chainId=5),
    }


def test_the_words_of_the_real_programs_are_in_the_table(chain: LocalChain) -> None:
    found = heard(chain)
    expected = {
        "first": Outcome.TAKEN,
        "taken": Outcome.TAKEN,
        "again": Outcome.KNOWN,
        "cheaper": Outcome.UNDERPRICED,
        "used nonce": Outcome.NONCE_USED,
        "no funds": Outcome.NO_FUNDS,
        "too little gas": Outcome.NEVER,
        "too much gas": Outcome.NEVER,
        "other chain": Outcome.NEVER,
    }
    if chain.kind == "ganache":
        expected["again"] = Outcome.UNDERPRICED  # it does not compare hashes
    assert found == expected


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ("already known", Outcome.KNOWN),
        ("known transaction: 0xabc", Outcome.KNOWN),
        ("nonce too low: next nonce 9, tx nonce 8", Outcome.NONCE_USED),
        ("replacement transaction underpriced", Outcome.UNDERPRICED),
        ("transaction underpriced: gas tip cap 1, minimum needed 25000000000", Outcome.UNDERPRICED),
        ("max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1", Outcome.UNDERPRICED),
        ("insufficient funds for gas * price + value: balance 0", Outcome.NO_FUNDS),
        ("txpool is full", Outcome.POOL_FULL),
        ("exceeds block gas limit", Outcome.NEVER),
        ("429 Too Many Requests", Outcome.BUSY),
        ("something nobody has said before", Outcome.REFUSED),
    ],
)
def test_the_words_of_others_are_too(words: str, outcome: Outcome) -> None:
    assert meaning(words) is outcome


def test_every_saying_names_who_says_it() -> None:
    for one in SAYINGS:
        assert "(source)" in one.who or "(seen)" in one.who or one.outcome is Outcome.BUSY


def test_the_tip_that_a_node_needs_is_read_from_its_words() -> None:
    assert needed_tip_wei("the node: transaction underpriced: gas tip cap 1, minimum needed 25000000000") == 25 * 10**9
    assert needed_tip_wei("intrinsic gas too low: gas 20000, minimum needed 21000") == 0


@given(st.text(max_size=400))
def test_whatever_a_node_says_means_something(words: str) -> None:
    assert isinstance(meaning(words), Outcome)
    assert needed_tip_wei(words) >= 0
