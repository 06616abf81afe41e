import pytest
from eth_abi.abi import encode as abi_encode
from hypothesis import given
from hypothesis import strategies as st

from contracts import reverts
from contracts.abi import artifact
from contracts.errors import ContractRevert, decode_revert

CUSTOM = {
    entry["name"]: [one["type"] for one in entry["inputs"]]
    for name in ("IdmlEscrow", "IdmlToken")
    for entry in artifact(name).abi
    if entry["type"] == "error"
}


def sample(kind: str) -> object:
    if kind == "address":
        return "0x" + "11" * 20
    if kind == "bytes32":
        return bytes(32)
    return {"bool": True, "string": "why", "bytes": b"why"}.get(kind, 3)


@pytest.mark.parametrize("name", sorted(CUSTOM))
def test_every_custom_error_has_its_own_exception_that_advises(name: str) -> None:
    kind = getattr(reverts, name)
    assert list(kind.types()) == CUSTOM[name]
    data = kind.selector() + abi_encode(CUSTOM[name], [sample(one) for one in CUSTOM[name]])
    error = decode_revert(data)
    assert type(error) is kind
    assert str(error).startswith(f"{name}: ")
    assert "{" not in str(error)
    assert list(error.values) == list(kind.names())
    if CUSTOM[name]:
        assert isinstance(decode_revert(data[:-32]), reverts.UnknownRevert)


def test_no_exception_is_left_of_an_error_that_is_gone() -> None:
    known = {kind.__name__ for kind in reverts.CustomError.__subclasses__()}
    assert known - {"Error", "Panic"} == CUSTOM.keys()
    assert len({kind.selector() for kind in reverts.CustomError.__subclasses__()}) == len(known)


@pytest.mark.parametrize("name", sorted(CUSTOM))
def test_an_advice_says_what_is_and_what_to_do_and_shows_every_argument(name: str) -> None:
    kind = getattr(reverts, name)
    happened, _, advised = kind.advice.partition(": ")
    assert happened
    assert advised
    assert all(f"{{{argument}}}" in kind.advice for argument in kind.names())


def test_a_parameter_is_shown_by_name() -> None:
    data = reverts.ParameterOutOfRange.selector() + abi_encode(["bytes32", "uint256"], [b"seats", 7])
    assert str(decode_revert(data)).startswith("ParameterOutOfRange: seats cannot be 7: ")


def test_the_reason_of_a_refused_permit_is_told() -> None:
    inner = reverts.ERC2612ExpiredSignature.selector() + abi_encode(["uint256"], [9])
    data = reverts.PermitFailed.selector() + abi_encode(["address", "bytes"], ["0x" + "11" * 20, inner])
    assert "(ERC2612ExpiredSignature: the permit ended at 9: sign a new one)" in str(decode_revert(data))


def test_a_state_is_shown_by_name() -> None:
    data = reverts.WrongState.selector() + abi_encode(["bytes32", "uint8"], [bytes(32), 7])
    assert "is SETTLED" in str(decode_revert(data))


@given(st.binary(max_size=100))
def test_any_bytes_become_an_exception(data: bytes) -> None:
    assert isinstance(decode_revert(data), ContractRevert)


def test_no_data_points_at_gas_and_address() -> None:
    assert "gas limit" in str(decode_revert(b""))
