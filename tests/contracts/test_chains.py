"""The local chains: equal ids, commanded time, equal outcomes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from contract_field import LEARNER, NEIGHBOR, PERSONS, TOKEN, Field
from eth_account import Account
from web3.exceptions import TransactionNotFound

from contracts import events
from contracts.chain import PROFILES, Finality, profile_for
from contracts.deploy import EscrowSettings
from contracts.errors import ChainMismatch, ChainUnreachable, ToolMissing
from contracts.localchain import FEE_CAP_WEI, LocalChain, open_chain
from contracts.settlement import DEFAULT_PARAMETERS

KINDS = [
    "embedded",
    pytest.param("ganache", marks=pytest.mark.chain),
    pytest.param("anvil", marks=pytest.mark.chain),
]
CHAIN_ID_OPCODE = bytes.fromhex("466000526020" + "6000f3")  # returns block.chainid from a constructor


@pytest.fixture(params=KINDS, scope="module")
def each(request: pytest.FixtureRequest) -> Iterator[LocalChain]:
    with open_chain(request.param) as opened:
        yield opened


def signed(chain: LocalChain, nonce: int, **changes: object) -> bytes:
    fields = {
        "chainId": chain.chain_id,
        "nonce": nonce,
        "gas": 21_000,
        "maxFeePerGas": FEE_CAP_WEI,
        "maxPriorityFeePerGas": 1,
        "value": 1,
        "to": "0x" + "11" * 20,
    }
    return bytes(chain.deployer.sign_transaction(fields | changes).raw_transaction)


def test_opcode_node_and_profile_name_the_same_chain(each: LocalChain) -> None:
    receipt = each.transact(to=None, data=CHAIN_ID_OPCODE, gas=200_000)
    stored = bytes(each.web3.eth.get_code(receipt["contractAddress"]))
    assert int.from_bytes(stored, "big") == each.chain_id == PROFILES[each.kind].chain_id


def test_a_block_is_made_only_when_asked_and_at_that_time(each: LocalChain) -> None:
    before = each.web3.eth.block_number
    start = each.time_s
    nonce = each.web3.eth.get_transaction_count(each.deployer.address)
    hashes = [each.web3.eth.send_raw_transaction(signed(each, nonce + n)) for n in range(3)]
    assert each.web3.eth.block_number == before
    each.mine(start + 1_000)
    block = each.web3.eth.get_block("latest")
    assert (block["number"], block["timestamp"]) == (before + 1, start + 1_000)
    assert list(block["transactions"]) == hashes
    with pytest.raises(ValueError, match="not later"):
        each.mine(start + 1_000)


def test_a_reverted_transaction_is_in_its_block(each: LocalChain) -> None:
    reverting = bytes.fromhex("60006000fd")
    receipt = each.transact(to=None, data=reverting, gas=100_000)
    assert receipt["status"] == 0
    assert each.web3.eth.get_transaction(receipt["transactionHash"])["blockNumber"] == receipt["blockNumber"]


def test_funding_reaches_everyone(each: LocalChain) -> None:
    people = [Account.create().address for _ in range(5)]
    each.fund(people, 7)
    assert [each.web3.eth.get_balance(one) for one in people] == [7] * 5


def life(chain: LocalChain) -> list[object]:
    """The eight transactions of one encounter; everything there is to see of it."""
    settings = EscrowSettings(parameters=DEFAULT_PARAMETERS)
    field = Field.build(chain, validators=5, settings=settings)
    agreed = field.terms(previous=bytes(32), reward=TOKEN + 7, open_by=field.now + 600, report_by=field.now + 900)
    seen: list[object] = [field.deployment.escrow, field.id(agreed), chain.time_s]
    seen += field.check_in(agreed, LEARNER) + field.check_in(agreed, NEIGHBOR)
    seen += field.report(agreed, NEIGHBOR) + field.report(agreed, LEARNER)
    for position, valid in enumerate([True, False, True]):
        seen += field.vote(agreed, position, valid=valid)
    seen += field.send(PERSONS[LEARNER], field.finalise(agreed))
    field.check_conservation()
    return [*seen, field.balances(), dict(field.gas)]


@pytest.mark.chain
@pytest.mark.parametrize("kind", ["ganache", "anvil"])
def test_a_whole_encounter_is_the_same_on_every_chain(kind: str) -> None:
    with open_chain("embedded") as embedded, open_chain(kind) as other:
        expected = life(embedded)
        assert life(other) == expected
    assert any(isinstance(one, events.Settled) for one in expected)


@pytest.mark.chain
@pytest.mark.parametrize("kind", ["ganache", "anvil"])
def test_a_running_node_is_taken_over_by_its_url(kind: str) -> None:
    with open_chain(kind) as started:
        url = started.web3.provider.endpoint_uri
        with open_chain(url) as attached:
            assert attached.kind == kind
            attached.mine(attached.time_s + 50)
            assert attached.time_s == started.time_s
        with pytest.raises(ChainMismatch, match="chain id"), open_chain(url, chain_id=5):
            pass
    with pytest.raises(ChainUnreachable, match="no node"), open_chain(url):
        pass


@pytest.mark.chain
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_an_anvil_is_started_again_as_it_was_saved(tmp_path: Path, kill: bool) -> None:
    saved, payee = tmp_path / "anvil.json", "0x" + "11" * 20
    with open_chain("anvil") as chain:
        mined = [chain.transact(to=payee, value_wei=1)["transactionHash"] for _ in range(70)]
        before = blocks(chain)
        chain.save(saved)
        later = chain.transact(to=payee, value_wei=1)["transactionHash"]
        pending = chain.send(to=payee, value_wei=1)
        chain.restart(saved, kill=kill)

        assert blocks(chain) == before
        assert chain.web3.eth.get_block("finalized")["number"] == len(mined) - 64
        assert [chain.web3.eth.get_transaction_receipt(one)["status"] for one in mined] == [1] * len(mined)
        assert chain.web3.eth.get_balance(payee, len(mined) - 8) == len(mined) - 8
        for gone in (later, pending):
            with pytest.raises(TransactionNotFound):
                chain.web3.eth.get_transaction(gone)
        chain.request("anvil_reorg", [8, []])
        assert chain.transact(to=payee, value_wei=1)["blockNumber"] == len(mined) + 1


def blocks(chain: LocalChain) -> list[bytes]:
    return [bytes(chain.web3.eth.get_block(n)["hash"]) for n in range(chain.web3.eth.block_number + 1)]


@pytest.mark.chain
def test_only_an_anvil_that_was_started_here_is_started_again(tmp_path: Path) -> None:
    with (
        open_chain("anvil") as chain,
        open_chain(chain.web3.provider.endpoint_uri) as other,
        pytest.raises(ChainUnreachable, match="not started here"),
    ):
        other.restart(tmp_path / "anvil.json")


def test_a_missing_program_names_the_command_that_installs_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("contracts.toolchain.MODULES", tmp_path)
    for kind in ("ganache", "anvil"):
        with pytest.raises(ToolMissing, match="idml-contracts toolchain"), open_chain(kind):
            pass


def test_an_unknown_chain_is_refused() -> None:
    with pytest.raises(ChainUnreachable, match="neither"):
        profile_for("mainet")
    with pytest.raises(ChainUnreachable, match="no local chain"), open_chain("amoy"):
        pass


def test_profiles() -> None:
    amoy = profile_for("amoy")
    assert (amoy.chain_id, amoy.poa, amoy.tip_floor_gwei, amoy.finality) == (
        80002,
        True,
        25,
        Finality.FINALIZED_TAG,
    )
    assert profile_for("http://127.0.0.1:8545").url == "http://127.0.0.1:8545"
    assert len({PROFILES[kind].chain_id for kind in ("embedded", "ganache", "anvil")}) == 1
