"""What the direct door costs, step by step, in steady state."""

import json
from collections.abc import Iterator

import pytest
from contract_field import LEARNER, PERSONS, Field

from contracts import calls
from contracts.localchain import open_chain

PAPER = 457_225


def gas_by_step(field: Field) -> dict[str, int]:
    """The eight transactions of a second encounter: all slots of the participants are in use."""
    for _ in range(2):
        field.gas.clear()
        agreed = field.reported(reward=10**18)
        for position in range(3):
            field.vote(agreed, position, valid=True)
        field.send(PERSONS[LEARNER], calls.encode_finalise(agreed))
    steps = {
        f"{name} {number + 1}" if len(spent) > 1 else name: gas
        for name, spent in field.gas.items()
        for number, gas in enumerate(spent)
    }
    return steps | {"all": sum(steps.values())}


@pytest.fixture(params=["embedded", pytest.param("anvil", marks=pytest.mark.chain)])
def steady(request: pytest.FixtureRequest) -> Iterator[Field]:
    with open_chain(request.param) as chain:
        yield Field.build(chain)


def test_a_direct_encounter_with_three_validators_costs_less_than_the_papers(steady: Field) -> None:
    steps = gas_by_step(steady)
    print(json.dumps({steady.chain.kind: steps}, indent=1))
    assert len(steps) == 9
    assert steps["all"] < PAPER
