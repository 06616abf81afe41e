import pytest
from contract_strategies import addresses, agreed_terms, amounts, words
from hypothesis import given
from hypothesis import strategies as st
from test_settlement import parameter_sets
from web3 import Web3

from contracts import calls
from contracts.abi import artifact
from contracts.calls import VoteReason
from contracts.errors import ContractsError, MalformedCalldata, UnknownCall
from contracts.settlement import ParameterSet
from contracts.terms import Terms

any_call = st.one_of(
    st.builds(calls.CheckIn, terms=agreed_terms()),
    st.builds(calls.Report, terms=agreed_terms(), updated=words, learner_salt=words, neighbor_salt=words),
    st.builds(calls.CloseReporting, terms=agreed_terms()),
    st.builds(
        calls.Vote,
        encounter=words,
        updated=words,
        position=st.integers(0, 255),
        valid=st.booleans(),
        reason=st.sampled_from(VoteReason),
    ),
    st.builds(calls.Finalise, terms=agreed_terms()),
    st.builds(calls.Expire, terms=agreed_terms()),
    *(st.builds(kind, amount=amounts) for kind in (calls.Stake, calls.Unbond, calls.Sell, calls.Burn)),
    *(
        st.builds(kind)
        for kind in (
            calls.Withdraw,
            calls.RegisterValidator,
            calls.LeaveValidator,
            calls.BurnFines,
            calls.Buy,
        )
    ),
    st.builds(calls.AddParameterSet, parameters=parameter_sets()),
    st.builds(calls.RetireParameterSet, number=st.integers(0, 2**16 - 1)),
    st.builds(calls.Approve, spender=addresses, amount=amounts),
    st.builds(calls.Transfer, to=addresses, amount=amounts),
)


def flat(value: object) -> object:
    if isinstance(value, Terms):
        return value.as_tuple()
    if isinstance(value, ParameterSet):
        return tuple(getattr(value, name) for name in ParameterSet.__slots__)
    return value


@given(any_call)
def test_every_call_is_encoded_as_web3_encodes_it_and_read_back(call: calls.Call) -> None:
    name = calls.function_name(call)
    owner = next(one for one in ("IdmlEscrow", "IdmlToken") if name in {f.get("name") for f in artifact(one).abi})
    contract = Web3().eth.contract(abi=artifact(owner).abi)
    values = [flat(getattr(call, field)) for field in type(call).__slots__]
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
    left_out = {"permit", "transferFrom", "transferOwnership", "renounceOwnership"}
    for one in ("IdmlEscrow", "IdmlToken"):
        for entry in artifact(one).abi:
            if entry["type"] == "function" and entry["stateMutability"] in ("nonpayable", "payable"):
                assert entry["name"] in ours | left_out
