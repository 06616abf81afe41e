"""Bytes of strangers: honest ones, changed in the ways in which bytes go wrong, or are made to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

_MOST_CHANGES = 4
_MOST_BYTES = 40
_MARK = "put something else here"
_DEEP = 400

RAW_JSON = (
    "null", "true", "false", "0", "-0", "-1", "1.5", "1e2", "1e400", "NaN", "-Infinity", "9" * 5000, str(1 << 64),
    '""', '"\\u0000"', '"\\ud800"', '"\\u00e9"', '"' + "0" * 3000 + '"', "[]", "[[]]", "{}", '{"a": 1}', "",
    "[" * _DEEP + "]" * _DEEP, '{"a":' * _DEEP + "1" + "}" * _DEEP, "[" * 100_000,
)  # fmt: skip
"""What may stand where something else should; not all of it is JSON, and no writer of JSON would give us the rest."""

TOKENS = (
    b"\0",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b" ",
    b'"',
    b"\\",
    b"{",
    b"[",
    b"}",
    b"-",
    b"9" * 40,
    b"\xff",
    b"%00",
    b":",
    b",",
)
"""What parsers stumble over."""


@st.composite
def mangled(draw: st.DrawFn, honest: bytes) -> bytes:
    """Bytes with up to four changes: some flipped, cut out, put in, said again, or moved."""
    data = honest
    for _ in range(draw(st.integers(1, _MOST_CHANGES))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + _MOST_BYTES)))
        before, found, after = data[:begin], data[begin:end], data[end:]
        match draw(st.sampled_from(("flip", "cut", "end", "insert", "repeat", "move"))):
            case "flip":
                bits = draw(st.integers(1, 255))
                data = before + bytes(one ^ bits for one in found[:1]) + found[1:] + after
            case "cut":
                data = before + after
            case "end":
                data = before
            case "insert":
                data = before + draw(st.sampled_from(TOKENS) | st.binary(max_size=8)) + found + after
            case "repeat":
                data = before + found * draw(st.integers(2, 50)) + after
            case _:
                data = before + after + found
    return data


@st.composite
def mangled_json(draw: st.DrawFn, honest: bytes) -> bytes:
    """JSON with one value or more that is another, or missing, or stands beside one that nobody asked for."""
    values = json.loads(honest)
    raw = []
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(values))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(("raw", "raw", "other", "drop", "more"))):
            case "raw":
                raw.append(draw(st.sampled_from(RAW_JSON)))
                holder[key] = f"{_MARK} {len(raw)}"
            case "other":
                holder[key] = draw(_near(holder[key]))
            case "drop":
                del holder[key]
            case _ if isinstance(holder, dict):
                holder[draw(st.text(max_size=12))] = draw(st.none() | st.integers() | st.text(max_size=8))
            case _:
                holder.append(draw(st.sampled_from(holder)))
    text = json.dumps(values, separators=draw(st.sampled_from(((",", ":"), (", ", ": ")))))
    for number, other in enumerate(raw, start=1):
        text = text.replace(f'"{_MARK} {number}"', other)
    return text.encode()


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    """Where a value stands in values: in what, and under which key."""
    keys = list(values) if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()
    for key in keys:
        yield values, key
        yield from _places(values[key])


def _near(value: object) -> st.SearchStrategy[Any]:
    """A value of the same type, where there are such: it is the bounds that it may break."""
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, int):
        return st.integers() | st.sampled_from([1 << bits for bits in (8, 16, 24, 32, 40, 48, 62, 63, 96, 128, 256)])
    if isinstance(value, str) and value:
        return st.sampled_from([value.upper(), value[:-1], value + value[-1], value + "\n", value.removeprefix("0x")])
    return st.just([value])


def hostile(honest: bytes) -> st.SearchStrategy[bytes]:
    """What may arrive in the place of honest JSON."""
    return st.binary(max_size=300) | mangled(honest) | mangled_json(honest)
