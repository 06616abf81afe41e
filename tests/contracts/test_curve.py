"""Our use of the curve against the one of another library, and numbers that no signature has."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from contracts import curve
from contracts.addresses import checksum_address
from contracts.identity import Fees, Identity

KEYS = st.integers(1, curve.ORDER - 1).map(lambda number: number.to_bytes(32))
DIGESTS = st.binary(min_size=32, max_size=32)


@given(key=KEYS, digest=DIGESTS)
def test_signatures_are_those_of_eth_account(key: bytes, digest: bytes) -> None:
    theirs: Any = Account.from_key(key)
    made, signed = curve.sign(key, digest), theirs.unsafe_sign_hash(digest)
    assert (made.r, made.s, made.y_parity) == (signed.r, signed.s, signed.v - 27)
    assert curve.signer(digest, made) == curve.address(key) == bytes.fromhex(theirs.address[2:])


@given(
    key=KEYS,
    chain_id=st.integers(1, 2**40),
    nonce=st.integers(0, 2**40),
    data=st.binary(max_size=100),
    value_wei=st.integers(0, 2**100),
    tip_wei=st.integers(0, 2**60),
)
def test_transactions_are_those_of_eth_account(
    key: bytes, chain_id: int, nonce: int, data: bytes, value_wei: int, tip_wei: int
) -> None:
    target = checksum_address(b"\x5a" * 20)
    signed = Account.from_key(key).sign_transaction(
        {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "to": target,
            "data": data,
            "value": value_wei,
            "gas": 21_000,
            "maxPriorityFeePerGas": tip_wei,
            "maxFeePerGas": 2**61,
        }
    )
    fees = Fees(tip_wei=tip_wei, max_fee_wei=2**61)
    ours = Identity(key).sign(
        chain_id=chain_id, nonce=nonce, target=target, data=data, gas=21_000, fees=fees, value_wei=value_wei
    )
    assert ours == (bytes(signed.raw_transaction), bytes(signed.hash))


@given(digest=DIGESTS, r=st.integers(0, 2**256 - 1), s=st.integers(0, 2**256 - 1), y_parity=st.integers(0, 3))
def test_any_numbers_have_one_signer_or_none(digest: bytes, r: int, s: int, y_parity: int) -> None:
    found = curve.signer(digest, curve.Signature(r=r, s=s, y_parity=y_parity))
    assert found is None or len(found) == 20


@pytest.mark.parametrize(
    "changed",
    [{"r": 0}, {"s": 0}, {"r": curve.ORDER}, {"s": curve.ORDER // 2 + 1}, {"y_parity": 2}, {"r": 5}],
    ids=str,
)
def test_numbers_out_of_range_and_points_that_are_none_have_no_signer(changed: dict[str, int]) -> None:
    good = curve.sign(b"\x01" * 32, b"\x02" * 32)
    numbers = {"r": good.r, "s": good.s, "y_parity": good.y_parity} | changed
    assert curve.signer(b"\x02" * 32, curve.Signature(**numbers)) is None


@pytest.mark.parametrize("key", [b"", b"\x01" * 31, b"\x01" * 33, bytes(32), curve.ORDER.to_bytes(32)])
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        curve.address(key)
