"""An account's word for a link's key: whose it is, how long it counts, and that hostile bytes are refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from agent_values import LEARNING, WORKING
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from contracts.identity import Identity
from contracts.requests import enrolment_digest
from device_agent.errors import PeerFault
from device_agent.vouching import LEEWAY_S, MAX_BYTES, VALID_S, Vouching, read, verify, vouch, write

NOW_S = 1_790_000_000
LINK_KEY = bytes(range(32))
STATEMENT = vouch(LEARNING, LINK_KEY, now_s=NOW_S)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=140),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=12,
)


def test_an_account_vouches_for_a_key_for_thirty_days() -> None:
    assert (STATEMENT.account, STATEMENT.link_key) == (LEARNING.address, LINK_KEY)
    assert STATEMENT.expires_s - NOW_S == VALID_S == 30 * 86_400
    verify(STATEMENT, now_s=NOW_S)


@pytest.mark.parametrize("now_s", [NOW_S - LEEWAY_S, NOW_S + VALID_S + LEEWAY_S])
def test_clocks_may_be_wrong_by_two_days(now_s: int) -> None:
    assert LEEWAY_S == 2 * 86_400
    verify(STATEMENT, now_s=now_s)


def test_it_ends() -> None:
    with pytest.raises(PeerFault, match="ended 2 days ago"):
        verify(STATEMENT, now_s=NOW_S + VALID_S + LEEWAY_S + 1)


def test_one_that_is_good_for_longer_than_any_is_refused() -> None:
    with pytest.raises(PeerFault, match="longer than any"):
        verify(STATEMENT, now_s=NOW_S - LEEWAY_S - 1)


@pytest.mark.parametrize(
    "change",
    [
        {"account": WORKING.address},
        {"link_key": LINK_KEY[::-1]},
        {"expires_s": STATEMENT.expires_s + 1},
        {"signature": vouch(WORKING, LINK_KEY, now_s=NOW_S).signature},
        {"signature": bytes(64)},
        {"signature": b"\xff" * 64},
        {"signature": b""},
    ],
    ids=["account", "key", "end", "of another account", "zero", "ones", "none"],
)
def test_every_part_of_it_is_signed_by_its_account(change: dict[str, object]) -> None:
    with pytest.raises(PeerFault, match="not signed by its account"):
        verify(dataclasses.replace(STATEMENT, **change), now_s=NOW_S)  # type: ignore[arg-type]


def test_what_is_signed_begins_with_words_of_its_own() -> None:
    lines = ("iDML vouching", LEARNING.address, LINK_KEY.hex(), str(STATEMENT.expires_s))
    assert STATEMENT.signature == LEARNING.sign_digest(keccak("\n".join(lines).encode()))


def test_what_is_signed_for_something_else_vouches_for_nothing() -> None:
    enrolment = enrolment_digest(token=LINK_KEY.hex(), account=LEARNING.address)
    others = (enrolment, keccak(LINK_KEY), LINK_KEY)
    for digest in others:
        forged = dataclasses.replace(STATEMENT, signature=LEARNING.sign_digest(digest))
        with pytest.raises(PeerFault, match="not signed by its account"):
            verify(forged, now_s=NOW_S)


@given(st.binary(min_size=32, max_size=32), st.integers(0, (1 << 39)))
def test_it_comes_back_as_it_went(link_key: bytes, now_s: int) -> None:
    one = vouch(LEARNING, link_key, now_s=now_s)
    data = write(one)
    assert len(data) <= MAX_BYTES
    assert read(data) == one
    verify(one, now_s=now_s)


@given(st.integers(0, len(write(STATEMENT)) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(at: int, change: int) -> None:
    data = bytearray(write(STATEMENT))
    data[at] ^= change
    with pytest.raises(PeerFault):
        verify(read(bytes(data)), now_s=NOW_S)


@given(st.integers(0, len(write(STATEMENT)) - 1))
def test_a_cut_one_is_refused(length: int) -> None:
    with pytest.raises(PeerFault):
        read(write(STATEMENT)[:length])


@given(st.binary(max_size=2 * MAX_BYTES) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_other_bytes_are_the_peers_fault(data: bytes) -> None:
    with pytest.raises(PeerFault):
        read(data)


@given(st.sampled_from(["account", "link_key", "expires_s", "signature"]), JSON)
def test_a_member_of_another_kind_is_refused_or_another_statement(member: str, value: object) -> None:
    values = json.loads(write(STATEMENT)) | {member: value}
    try:
        taken = read(json.dumps(values, separators=(",", ":")).encode())
    except PeerFault:
        return
    assert isinstance(taken, Vouching)
    assert member == "expires_s"


@pytest.mark.parametrize(
    "rewritten",
    [
        json.dumps,
        lambda values: json.dumps(values, separators=(",", ":")) + "\n",
        lambda values: json.dumps(dict(reversed(values.items())), separators=(",", ":")),
        lambda values: json.dumps(values | {"more": 1}, separators=(",", ":")),
        lambda values: json.dumps(values, separators=(",", ":"))[:-1] + f',"expires_s":{values["expires_s"]}}}',
        lambda values: json.dumps(values, separators=(",", ":")).replace("account", "\\u0061ccount"),
    ],
    ids=["spaces", "line end", "order", "more", "twice", "escaped"],
)
def test_it_has_one_form_only(rewritten: Callable[[dict[str, Any]], str]) -> None:
    with pytest.raises(PeerFault):
        read(rewritten(json.loads(write(STATEMENT))).encode())


def test_an_address_is_written_with_its_checksum() -> None:
    with pytest.raises(PeerFault, match="checksum"):
        read(write(dataclasses.replace(STATEMENT, account=LEARNING.address.lower())))


def test_one_that_is_too_large_is_not_even_looked_at() -> None:
    with pytest.raises(PeerFault, match=f"at most {MAX_BYTES}"):
        read(write(STATEMENT) + b" " * MAX_BYTES)


def test_another_device_with_the_same_link_key_needs_its_own_statement() -> None:
    other = vouch(Identity(b"\x03" * 32), LINK_KEY, now_s=NOW_S)
    assert other.signature != STATEMENT.signature
    verify(other, now_s=NOW_S)
