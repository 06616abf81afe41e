"""What devices sign for a gateway: each part of a request changes the digest, and headers are read strictly."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.requests import (
    MAX_COUNTER,
    Proof,
    enrolment_digest,
    read_content_digest,
    read_proof,
    request_digest,
    write_content_digest,
    write_proof,
)

ACCOUNT = "0x" + "aB" * 20
REQUEST = {
    "realm": "r",
    "account": ACCOUNT,
    "counter": 7,
    "method": "GET",
    "target": "/v1/jobs?validator=0x1",
    "body_sha256": bytes(32),
}
CHANGES = {
    "realm": "s",
    "account": "0x" + "aC" * 20,
    "counter": 8,
    "method": "PUT",
    "target": "/v1/jobs?validator=0x2",
    "body_sha256": b"\1" * 32,
}


@pytest.mark.parametrize("part", REQUEST)
def test_every_part_of_a_request_is_signed(part: str) -> None:
    assert request_digest(**REQUEST | {part: CHANGES[part]}) != request_digest(**REQUEST)


def test_a_token_is_redeemed_for_one_account() -> None:
    one = enrolment_digest(token="t", account=ACCOUNT)
    assert one != enrolment_digest(token="u", account=ACCOUNT)
    assert one != enrolment_digest(token="t", account=CHANGES["account"])


@given(counter=st.integers(1, MAX_COUNTER), signature=st.binary(min_size=64, max_size=64))
def test_a_proof_is_read_as_it_was_written(counter: int, signature: bytes) -> None:
    proof = Proof(account=ACCOUNT, counter=counter, signature=signature)
    assert read_proof(write_proof(proof)) == proof


@given(st.binary())
def test_a_content_digest_is_read_as_it_was_written(body: bytes) -> None:
    sha256 = hashlib.sha256(body).digest()
    assert read_content_digest(write_content_digest(sha256)) == sha256


@given(st.text())
def test_any_other_header_is_a_value_error(text: str) -> None:
    for read in (read_proof, read_content_digest):
        with pytest.raises(ValueError, match="must be"):
            read(text)


@pytest.mark.parametrize(
    "text",
    [
        f"iDML account={ACCOUNT}, counter=0, signature={'0' * 128}",
        f"iDML account={ACCOUNT}, counter={MAX_COUNTER + 1}, signature={'0' * 128}",
        f"iDML account={ACCOUNT}, counter=\N{ARABIC-INDIC DIGIT ONE}, signature={'0' * 128}",
        f"iDML account={ACCOUNT}, counter=1, signature={'0' * 127}",
        f"iDML account={ACCOUNT}, counter=1, signature={'0' * 128}\n",
        f"Bearer account={ACCOUNT}, counter=1, signature={'0' * 128}",
    ],
)
def test_a_proof_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_proof(text)
