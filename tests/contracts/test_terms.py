import json
from dataclasses import replace

import pytest
from contract_strategies import agreed_terms, words
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import MalformedTerms
from contracts.terms import (
    TERMS_FIELDS,
    Domain,
    Terms,
    algorithm_label,
    both_salts,
    commitment,
    encounter_id,
    terms_from_json,
    terms_to_json,
)

ESCROW = "0x" + "Ab" * 20


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


@given(agreed_terms(), st.integers(1, 2**64))
def test_the_encounter_id_is_the_typed_data_hash(terms: Terms, chain_id: int) -> None:
    kinds = [
        "address",
        "address",
        "bytes32",
        "bytes32",
        "bytes32",
        "uint96",
        "uint16",
        "uint16",
        "uint40",
        "uint40",
        "bytes32",
        "uint24",
        "uint32",
    ]
    signable = encode_typed_data(
        {"name": "iDML", "version": "1", "chainId": chain_id, "verifyingContract": ESCROW},
        {"Terms": [{"name": camel(n), "type": k} for n, k in zip(TERMS_FIELDS, kinds, strict=True)]},
        {camel(name): value for name, value in zip(TERMS_FIELDS, terms.as_tuple(), strict=True)},
    )
    expected = keccak(b"\x19" + signable.version + signable.header + signable.body)
    assert encounter_id(terms, Domain(chain_id=chain_id, escrow=ESCROW)) == expected


@given(agreed_terms())
def test_terms_survive_json(terms: Terms) -> None:
    assert terms_from_json(json.loads(json.dumps(terms_to_json(terms)))) == terms


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(agreed_terms(), st.sampled_from(TERMS_FIELDS), json_values)
def test_hostile_values_are_refused_by_field(terms: Terms, name: str, value: object) -> None:
    hostile = terms_to_json(terms) | {name: value}
    try:
        read = terms_from_json(hostile)
    except MalformedTerms as error:
        caught = error
    else:
        assert terms_to_json(read) == hostile
        return
    assert caught.field in (name, "neighbor", "report_by")
    assert caught.allowed in str(caught)
    assert len(str(caught)) < 300


@given(json_values)
def test_hostile_objects_are_refused(value: object) -> None:
    with pytest.raises(MalformedTerms):
        terms_from_json(value)


@given(agreed_terms(), st.sampled_from(TERMS_FIELDS))
def test_a_missing_or_foreign_field_is_named(terms: Terms, name: str) -> None:
    shown = terms_to_json(terms)
    with pytest.raises(MalformedTerms, match="only"):
        terms_from_json(shown | {"extra": 1})
    del shown[name]
    with pytest.raises(MalformedTerms, match=name):
        terms_from_json(shown)


@given(agreed_terms())
def test_values_that_no_contract_holds_are_refused(terms: Terms) -> None:
    for changes in (
        {"reward": 0},
        {"reward": 2**96},
        {"reward": True},
        {"tolerance_bps": 10_001},
        {"parameter_set": 2**16},
        {"seats": 2**24},
        {"nonce": -1},
        {"open_by": terms.report_by},
        {"previous": bytes(31)},
        {"previous": bytearray(32)},
        {"neighbor": terms.learner},
        {"learner": "0x" + "0" * 40},
        {"learner": terms.learner.swapcase()},
    ):
        with pytest.raises(MalformedTerms):
            replace(terms, **changes)


@given(words)
def test_a_commitment_is_the_hash_of_its_salt(salt: bytes) -> None:
    assert commitment(salt) == keccak(salt)
    assert both_salts(commitment(salt), bytes(32)) == keccak(keccak(salt) + bytes(32))
    with pytest.raises(ValueError, match="32 bytes"):
        both_salts(salt, salt[1:])
    with pytest.raises(ValueError, match="32 bytes"):
        commitment(salt[1:])


@pytest.mark.parametrize("name", ["", "x" * 32, "é", "a\n"])
def test_a_label_is_short_printable_ascii(name: str) -> None:
    assert algorithm_label("oppcl") == b"oppcl" + bytes(27)
    with pytest.raises(MalformedTerms):
        algorithm_label(name)
