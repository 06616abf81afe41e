"""Our own encoding of calls, addresses and transactions, held against the libraries for all of it."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from eth_abi.abi import decode as library_decode
from eth_abi.abi import encode as library_encode
from eth_utils.address import to_checksum_address
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.addresses import checksum_address
from contracts.encoding import RLP_DEPTH, abi_decode, abi_encode, rlp_decode, rlp_encode, rlp_list, rlp_members

ADDRESSES = st.binary(min_size=20, max_size=20)
STATIC: dict[str, st.SearchStrategy[Any]] = {
    "address": ADDRESSES.map(lambda raw: "0x" + raw.hex()),
    "bool": st.booleans(),
    "bytes32": st.binary(min_size=32, max_size=32),
    **{f"uint{bits}": st.integers(0, (1 << bits) - 1) for bits in (8, 16, 24, 32, 40, 96, 192, 256)},
}
DYNAMIC: dict[str, st.SearchStrategy[Any]] = {
    "bytes": st.binary(max_size=100),
    "bytes[]": st.lists(st.binary(max_size=70), max_size=4).map(tuple),
}


@st.composite
def typed(draw: st.DrawFn) -> tuple[list[str], list[Any]]:
    """Types as our calls have them, and values of them."""
    kinds, values = [], []
    for _ in range(draw(st.integers(0, 5))):
        if draw(st.integers(0, 4)) == 0:
            members = draw(st.lists(st.sampled_from(sorted(STATIC)), min_size=1, max_size=4))
            kinds.append(f"({','.join(members)})")
            values.append(tuple(draw(STATIC[one]) for one in members))
        else:
            kind = draw(st.sampled_from(sorted(STATIC | DYNAMIC)))
            kinds.append(kind)
            values.append(draw((STATIC | DYNAMIC)[kind]))
    return kinds, values


@given(typed())
def test_values_are_encoded_as_the_library_does_and_come_back(both: tuple[list[str], list[Any]]) -> None:
    kinds, values = both
    data = abi_encode(kinds, values)
    assert data == library_encode(kinds, values)
    assert list(abi_decode(kinds, data)) == values


@given(typed(), st.data())
def test_of_changed_bytes_no_other_values_are_read_than_the_library_reads(
    both: tuple[list[str], list[Any]], data: st.DataObject
) -> None:
    kinds, values = both
    honest = abi_encode(kinds, values)
    at, end = sorted((data.draw(st.integers(0, len(honest))), data.draw(st.integers(0, len(honest)))))
    changed = honest[:at] + data.draw(st.binary(max_size=40)) + honest[end:]
    try:
        found = abi_decode(kinds, changed)
        again = abi_encode(kinds, found)
    except ValueError:
        return
    if again == changed:
        assert library_decode(kinds, changed) == found


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("uint8", 256),
        ("uint8", -1),
        ("uint8", True),
        ("uint8", 1.0),
        ("uint256", 1 << 256),
        ("bool", 1),
        ("bytes32", bytes(31)),
        ("bytes32", "00" * 32),
        ("address", "0x12"),
        ("address", "0x" + "z" * 40),
        ("address", bytes(20)),
        ("bytes", "text"),
        ("bytes[]", ["text"]),
        ("(uint8,bool)", (1,)),
        ("string", "text"),
    ],
)
def test_what_a_type_cannot_hold_is_refused(kind: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"is no |argument"):
        abi_encode([kind], [value])


@pytest.mark.parametrize("length", [1 << 255, 1 << 64, 1000])
def test_an_array_that_claims_much_is_not_even_begun(length: int) -> None:
    words = [(32).to_bytes(32), length.to_bytes(32), bytes(32)]
    with pytest.raises(ValueError, match=r"cut off|an array of"):
        abi_decode(["bytes[]"], b"".join(words))
    with pytest.raises(ValueError, match="cut off"):
        abi_decode(["bytes"], b"".join(words))


def test_parts_that_lie_at_the_same_place_are_not_copied_over_and_over() -> None:
    count, part = 2000, bytes(64 << 10)
    place = 32 * count
    words = [(32).to_bytes(32), count.to_bytes(32), place.to_bytes(32) * count, len(part).to_bytes(32), part]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="overlap"):
            abi_decode(["bytes[]"], b"".join(words))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


NESTED = st.recursive(
    st.integers(0, 1 << 300) | st.binary(max_size=80),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=12,
)


@given(NESTED)
@example(b"\x7f")
@example(b"\x80")
@example(bytes(55))
@example(bytes(56))
@example([bytes(1000)] * 70)
def test_rlp_is_as_the_library_writes_it(value: Any) -> None:
    assert rlp_encode(value) == rlp.encode(value)


@given(ADDRESSES)
def test_an_address_has_the_librarys_checksum_however_it_came(raw: bytes) -> None:
    expected = to_checksum_address(raw)
    for one in (raw, raw.hex(), "0x" + raw.hex(), "0x" + raw.hex().upper(), expected):
        assert checksum_address(one) == expected


@pytest.mark.parametrize("other", ["", "0x", "0x12", "0x" + "0" * 41, "0x" + "g" * 40, bytes(19), bytes(21)])
def test_what_is_no_address_has_no_checksum(other: str | bytes) -> None:
    with pytest.raises(ValueError, match="no address"):
        checksum_address(other)


WRITTEN = st.recursive(st.binary(max_size=80), lambda inner: st.lists(inner, max_size=5), max_leaves=12).map(rlp.encode)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """The encoding of something, of which one byte is another."""
    data = bytearray(draw(WRITTEN))
    data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@given(WRITTEN | changed() | st.binary(max_size=80))
@example(b"")
@example(b"\x81\x05")
@example(b"\xb8\x05hello")
@example(b"\xb9\x00\x38" + bytes(56))
@example(b"\xc0\xc0")
def test_rlp_is_read_where_it_is_the_one_encoding(data: bytes) -> None:
    try:
        expected = rlp.decode(data)
        if rlp.encode(expected) != data:
            expected = None
    except rlp.DecodingError:
        expected = None
    if expected is None:
        with pytest.raises(ValueError, match=r"bytes|cut off|shortest|deep"):
            rlp_decode(data)
    else:
        assert rlp_decode(data) == expected


@given(members=st.lists(st.binary(max_size=80), max_size=12))
def test_rlp_of_a_list_is_that_of_its_members_in_a_row(members: list[bytes]) -> None:
    in_a_row = b"".join(map(rlp.encode, members))
    assert rlp_list(in_a_row) == rlp.encode(members)
    assert rlp_members(rlp.encode(members)) == in_a_row


@pytest.mark.parametrize("data", ["b838" + "00" * 56, "b90100" + "00" * 256])
def test_rlp_of_long_bytes_is_read(data: str) -> None:
    assert rlp_decode(bytes.fromhex(data)) == bytes((len(data) // 2) - (2 if data.startswith("b8") else 3))


def test_rlp_too_deep_is_not_read() -> None:
    deep: Any = []
    for _ in range(RLP_DEPTH - 1):
        deep = [deep]
    assert rlp_decode(rlp.encode(deep)) == deep
    with pytest.raises(ValueError, match="deep"):
        rlp_decode(rlp.encode([deep]))
    with pytest.raises(ValueError, match="cut off"):
        rlp_decode(b"\xf9\x0f\xff" * 2_000)
