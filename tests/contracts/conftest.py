from collections.abc import Iterator

import pytest
from contract_field import Field

from contracts.localchain import LocalChain, open_chain


@pytest.fixture(scope="session")
def embedded_field() -> Iterator[Field]:
    with open_chain("embedded") as chain:
        yield Field.build(chain)


@pytest.fixture
def field(embedded_field: Field) -> Iterator[Field]:
    """Two parties and ten validators with stake; everything is undone after the test."""
    snapshot = embedded_field.chain.request("evm_snapshot")
    yield embedded_field
    embedded_field.check_conservation()
    assert embedded_field.chain.request("evm_revert", [snapshot])


@pytest.fixture
def chain() -> Iterator[LocalChain]:
    with open_chain("embedded") as opened:
        yield opened
