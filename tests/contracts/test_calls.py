from dataclasses import fields

import pytest
from contract_strategies import addresses, agreed_terms, words
from hypothesis import given
from hypothesis import strategies as st
from test_settlement import parameter_sets
from web3 import Web3

from contracts import calls, panel
from contracts.abi import artifact
from contracts.errors import ContractsError, MalformedCalldata, UnknownCall
from contracts.settlement import ParameterSet
from contracts.states import ActionKind, VoteReason
from contracts.terms import Terms


def value_of(python: object, solidity: str) -> st.SearchStrategy[object]:
    """Any value of one member of a call."""
    if python in (VoteReason, ActionKind):
        return st.sampled_from(list(python))
    if python == tuple[int, ...]:
        return st.lists(st.integers(1, 2**24 - 1), max_size=8).map(tuple)
    known = {
        Terms: agreed_terms(),
        ParameterSet: parameter_sets(),
        calls.Action: actions,
        str: addresses,
        bool: st.booleans(),
    }
    if python in known:
        return known[python]
    if solidity == "bytes[]":
        return st.lists(st.binary(max_size=70), max_size=3).map(tuple)
    if solidity.startswith("bytes"):
        return words if solidity == "bytes32" else st.binary(max_size=200)
    return st.integers(0, 2 ** int(solidity.removeprefix("uint")) - 1)


def calls_of(kind: type[calls.Call]) -> st.SearchStrategy[calls.Call]:
    types = calls._FUNCTIONS[kind][1]
    members = zip(fields(kind), types, strict=True)
    return st.builds(kind, **{one.name: value_of(one.type, solidity) for one, solidity in members})


actions = st.builds(
    calls.Action,
    account=addresses,
    kind=st.sampled_from(ActionKind),
    amount=st.integers(0, 2**96 - 1),
    nonce=st.integers(0, 2**32 - 1),
    deadline=st.integers(0, 2**40 - 1),
)
any_call = st.one_of(*(calls_of(kind) for kind in calls._FUNCTIONS))


def flat(python: object, value: object) -> object:
    if isinstance(value, Terms):
        return value.as_tuple()
    if isinstance(value, ParameterSet | calls.Action):
        return tuple(getattr(value, name) for name in type(value).__slots__)
    if python == tuple[int, ...]:
        return panel.pack(value)
    return value


@given(any_call)
def test_every_call_is_encoded_as_web3_encodes_it_and_read_back(call: calls.Call) -> None:
    name = calls.function_name(call)
    owner = next(one for one in ("IdmlEscrow", "IdmlToken") if name in {f.get("name") for f in artifact(one).abi})
    contract = Web3().eth.contract(abi=artifact(owner).abi)
    values = [flat(one.type, getattr(call, one.name)) for one in fields(call)]
    data = calls.encode(call)
    assert contract.encode_abi(name, values) == "0x" + data.hex()
    assert calls.decode(data) == call


@given(st.binary(max_size=500))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedCalldata):
        calls.decode(data)


@given(any_call, st.binary(min_size=1, max_size=40))
def test_trailing_and_missing_bytes_are_refused(call: calls.Call, extra: bytes) -> None:
    data = calls.encode(call)
    with pytest.raises(MalformedCalldata):
        calls.decode(data + extra)
    with pytest.raises(MalformedCalldata):
        calls.decode(data[:-1])


@given(any_call, st.data())
def test_a_changed_byte_is_refused_or_read_as_another_call(call: calls.Call, data: st.DataObject) -> None:
    good = bytearray(calls.encode(call))
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] ^= data.draw(st.integers(1, 255))
    try:
        read = calls.decode(bytes(good))
    except ContractsError:
        return
    assert read != call
    assert calls.encode(read) == bytes(good)


def test_an_unknown_selector_is_named() -> None:
    with pytest.raises(UnknownCall, match="0xdeadbeef"):
        calls.decode(bytes.fromhex("deadbeef"))


def test_a_value_too_large_is_refused() -> None:
    with pytest.raises(MalformedCalldata, match="stake"):
        calls.encode_stake(2**96)


def test_every_function_that_changes_something_has_a_call() -> None:
    ours = {name for name, _ in calls._FUNCTIONS.values()}
    left_out = {"transferFrom", "transferOwnership", "renounceOwnership"}
    for one in ("IdmlEscrow", "IdmlToken"):
        for entry in artifact(one).abi:
            if entry["type"] == "function" and entry["stateMutability"] in ("nonpayable", "payable"):
                assert entry["name"] in ours | left_out
