from dataclasses import fields

import pytest
from contract_strategies import addresses, words
from eth_abi.abi import encode as abi_encode
from hypothesis import given
from hypothesis import strategies as st
from test_settlement import parameter_sets
from web3 import Web3

from contracts import events, panel
from contracts.abi import artifact
from contracts.errors import MalformedLog
from contracts.settlement import ParameterSet
from contracts.states import EncounterState, VoteReason

ABI = {
    entry["name"]: entry
    for name in ("IdmlEscrow", "IdmlToken")
    for entry in artifact(name).abi
    if entry["type"] == "event"
}


def value_of(kind: str, python: object) -> st.SearchStrategy[object]:
    if python in (VoteReason, EncounterState):
        return st.sampled_from(list(python))
    known = {
        "address": addresses,
        "bytes32": words,
        "bool": st.booleans(),
        "bytes": st.binary(max_size=100),
        "uint192": st.lists(st.integers(1, 2**24 - 1), max_size=8).map(tuple),
        "(uint8,uint16,uint16,uint16,uint32,uint32,bool,bool)": parameter_sets(),
    }
    if kind in known:
        return known[kind]
    return st.integers(0, 2 ** int(kind.removeprefix("uint")) - 1)


def plain(value: object) -> object:
    if isinstance(value, tuple):
        return panel.pack(value)
    if isinstance(value, ParameterSet):
        return tuple(getattr(value, name) for name in ParameterSet.__slots__)
    return value


@pytest.mark.parametrize("kind", events.KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_event_is_read_as_it_was_emitted(kind: type[events.Event], data: st.DataObject) -> None:
    event = kind(**{one.name: data.draw(value_of(one.metadata["type"], one.type)) for one in fields(kind)})
    topics = [events.TOPICS[kind]]
    body: list[tuple[str, object]] = []
    for one in fields(kind):
        solidity, value = one.metadata["type"], plain(getattr(event, one.name))
        if one.metadata["indexed"]:
            topics.append(abi_encode([solidity], [value]))
        else:
            body.append((solidity, value))
    encoded = abi_encode([solidity for solidity, _ in body], [value for _, value in body])
    assert events.decode(topics, encoded) == event
    if encoded and kind is not events.Skipped:  # its reason may have lost zeros and still be one
        with pytest.raises(MalformedLog):
            events.decode(topics, encoded[:-32])
    with pytest.raises(MalformedLog):
        events.decode([*topics, bytes(32)], encoded)


def test_every_event_of_the_contracts_is_known_with_its_shape() -> None:
    for name, entry in ABI.items():
        if name in ("EIP712DomainChanged", "OwnershipTransferred"):
            continue
        kind = getattr(events, name)
        assert "0x" + events.TOPICS[kind].hex() == Web3.to_hex(Web3.keccak(text=events.signature(kind)))
        types = [_canonical(one) for one in entry["inputs"]]
        assert events.signature(kind) == f"{name}({','.join(types)})"
        assert [one["indexed"] for one in entry["inputs"]] == [one.metadata["indexed"] for one in fields(kind)]


def _canonical(one: dict[str, object]) -> str:
    if one["type"] != "tuple":
        return str(one["type"])
    return "(" + ",".join(_canonical(inner) for inner in one["components"]) + ")"


def test_foreign_logs_are_none() -> None:
    assert events.decode([], b"") is None
    assert events.decode([bytes(32)], b"") is None
