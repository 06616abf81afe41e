"""Values as bytes: as much of the contract ABI as our calls use, and RLP as transactions are written in it.

Devices load this in the place of libraries for all of the ABI, which take a sixth of a small device's agent. The tests
hold it against those. https://docs.soliditylang.org/en/latest/abi-spec.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

WORD: Final = 32
RLP_DEPTH: Final = 8
"""Lists within lists that are read; what transactions hold is less deep."""

_RLP_BYTES: Final = 0x80
_RLP_LIST: Final = 0xC0
_RLP_SHORT: Final = 55
"""Bytes up to which a length is part of the first byte."""

_DYNAMIC: Final = frozenset({"bytes", "bytes[]"})
_UINT: Final = re.compile(r"uint(8|16|24|32|40|96|192|256)")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")


def abi_encode(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """Encode values: of address, bool, uint, bytes32, tuples of these, bytes and bytes[].

    Raises ValueError for a value that its type cannot hold.
    """
    heads, tails = [], b""
    head_bytes = WORD * sum(_words(kind) for kind in types)
    for kind, value in zip(types, values, strict=True):
        if kind in _DYNAMIC:
            heads.append(_word(head_bytes + len(tails)))
            tails += _length_and_content(kind, value)
        else:
            heads.append(_static(kind, value))
    return b"".join(heads) + tails


def abi_decode(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Decode values, addresses in lower case. Raises ValueError for what cannot be any.

    Not all that it takes is as `abi_encode` writes it: who must know encodes the values again and compares.
    """
    return tuple(_decoded(types, data))


def rlp_encode(value: int | bytes | Sequence[Any]) -> bytes:
    """Encode a whole number, bytes, or a list of such (the yellow paper, appendix B)."""
    if isinstance(value, int):
        return rlp_encode(value.to_bytes((value.bit_length() + 7) // 8))
    if isinstance(value, bytes):
        return value if len(value) == 1 and value[0] < _RLP_BYTES else _prefixed(_RLP_BYTES, value)
    return rlp_list(b"".join(map(rlp_encode, value)))


def rlp_list(encoded: bytes) -> bytes:
    """Encode a list, given the encodings of its members one after the other."""
    return _prefixed(_RLP_LIST, encoded)


def rlp_members(encoded: bytes) -> bytes:
    """Return what `rlp_list` was given, of bytes that `rlp_decode` takes for a list."""
    return encoded[1 + max(0, encoded[0] - _RLP_LIST - _RLP_SHORT) :]


def rlp_decode(data: bytes) -> bytes | list[Any]:
    """Decode bytes or a list of such from their one encoding: what comes out is encoded as it came in.

    Raises ValueError for all else, and for lists nested more than `RLP_DEPTH` deep.
    """
    value, end = _rlp_item(data, 0, len(data), RLP_DEPTH)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes too many")
    return value


def _rlp_item(data: bytes, at: int, end: int, depth: int) -> tuple[bytes | list[Any], int]:
    """The value that begins at `at`, and where it ends."""
    if at >= end:
        raise ValueError("cut off")
    first = data[at]
    if first < _RLP_BYTES:
        return data[at : at + 1], at + 1
    kind = _RLP_BYTES if first < _RLP_LIST else _RLP_LIST
    start, size = at + 1, first - kind
    if size > _RLP_SHORT:
        written = _cut(data, start, size - _RLP_SHORT)
        start, size = start + len(written), int.from_bytes(written)
        if size <= _RLP_SHORT or written[0] == 0:
            raise ValueError("a length that is not written in the shortest way")
    stop = start + size
    if stop > end:
        raise ValueError("cut off")
    if kind == _RLP_BYTES:
        if size == 1 and data[start] < _RLP_BYTES:
            raise ValueError("a byte that is not written in the shortest way")
        return data[start:stop], stop
    if not depth:
        raise ValueError("lists nested too deeply")
    items: list[Any] = []
    while start < stop:
        item, start = _rlp_item(data, start, stop, depth - 1)
        items.append(item)
    return items, stop


def _prefixed(kind: int, content: bytes) -> bytes:
    if len(content) <= _RLP_SHORT:
        return bytes([kind + len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes([kind + _RLP_SHORT + len(length)]) + length + content


def _members(kind: str) -> list[str]:
    return kind[1:-1].split(",")


def _words(kind: str) -> int:
    """How many words a value takes where it stands; a dynamic one takes the word that says where it is."""
    return len(_members(kind)) if kind.startswith("(") else 1


def _word(number: int) -> bytes:
    return number.to_bytes(WORD)


def _static(kind: str, value: Any) -> bytes:
    if kind.startswith("("):
        return b"".join(_static(one, member) for one, member in zip(_members(kind), value, strict=True))
    if kind == "bytes32" and isinstance(value, bytes) and len(value) == WORD:
        return value
    if kind == "bool" and isinstance(value, bool):
        return _word(value)
    if kind == "address" and isinstance(value, str) and _ADDRESS.fullmatch(value):
        return bytes.fromhex(value[2:]).rjust(WORD, b"\0")
    uint = _UINT.fullmatch(kind)
    if uint and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << int(uint[1]):
        return _word(value)
    raise ValueError(f"{repr(value)[:80]} is no {kind}")


def _length_and_content(kind: str, value: Any) -> bytes:
    if kind == "bytes[]":
        return _word(len(value)) + abi_encode(["bytes"] * len(value), value)
    if isinstance(value, bytes):
        return _word(len(value)) + value + bytes(-len(value) % WORD)
    raise ValueError(f"{repr(value)[:80]} is no {kind}")


def _decoded(types: Sequence[str], data: bytes) -> Iterator[Any]:
    at = 0
    for kind in types:
        if kind.startswith("("):
            yield tuple(_decoded(_members(kind), _cut(data, at, WORD * _words(kind))))
        elif kind in _DYNAMIC:
            yield _dynamic(kind, data, _number(data, at))
        else:
            yield _value(kind, _cut(data, at, WORD))
        at += WORD * _words(kind)


def _value(kind: str, word: bytes) -> Any:
    number = int.from_bytes(word)
    if kind == "bytes32":
        return word
    if kind == "address" and number < 1 << 160:
        return "0x" + word[12:].hex()
    if kind == "bool" and number < 2:
        return bool(number)
    if (uint := _UINT.fullmatch(kind)) and number < 1 << int(uint[1]):
        return number
    raise ValueError(f"0x{word.hex()} is no {kind}")


def _dynamic(kind: str, data: bytes, at: int) -> Any:
    length = _number(data, at)
    start = at + WORD
    if kind == "bytes":
        return _cut(data, start, length)
    if start + WORD * length > len(data):  # before as many are begun
        raise ValueError(f"an array of {length} in {len(data)} bytes")
    items, left = [], len(data)
    for one in _decoded(["bytes"] * length, data[start:]):
        items.append(one)
        left -= len(one)
        if left < 0:  # many that say they lie at the same place would be many copies of it
            raise ValueError("an array of parts that overlap")
    return tuple(items)


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(_cut(data, at, WORD))


def _cut(data: bytes, start: int, length: int) -> bytes:
    if start + length > len(data):
        raise ValueError(f"cut off: {len(data)} bytes, not {start + length}")
    return data[start : start + length]
