"""What peers say: written and read back, and hostile bytes refused as the peer's fault."""

from __future__ import annotations

import json

import pytest
from agent_values import NEIGHBOR, proposal
from hypothesis import given
from hypothesis import strategies as st

from contracts.terms import Domain, encounter_id
from device_agent.errors import PeerFault
from device_agent.messages import (
    MAX_MESSAGE_BYTES,
    Accept,
    Decline,
    Message,
    Offer,
    Propose,
    Refusal,
    Reveal,
    encode,
    parse,
)

HEX32 = st.binary(min_size=32, max_size=32).map(bytes.hex)
ADDRESS = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
LABEL = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=31)
SIZE = st.integers(1, 1 << 30)
AGE = st.integers(0, (1 << 48) - 1)
TIME = st.integers(0, (1 << 40) - 1)

MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Propose,
        learner=ADDRESS,
        algorithm=LABEL,
        architecture=HEX32,
        previous=HEX32,
        size_bytes=SIZE,
        age=AGE,
        reward=st.integers(1, (1 << 96) - 1),
        tolerance_bps=st.integers(0, 10_000),
        parameter_set=st.integers(0, (1 << 16) - 1),
        open_by=TIME,
        report_by=TIME,
        seats=st.integers(0, (1 << 24) - 1),
        nonce=st.integers(0, (1 << 32) - 1),
        commitment=HEX32,
    ),
    st.builds(Accept, key=HEX32, neighbor=ADDRESS, commitment=HEX32),
    st.builds(Decline, key=HEX32, reason=st.sampled_from(Refusal)),
    st.builds(Offer, key=HEX32, updated=HEX32, size_bytes=SIZE, age=AGE),
    st.builds(Reveal, key=HEX32, salt=HEX32),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=12,
)


@given(MESSAGES)
def test_a_message_comes_back_as_it_went(message: Message) -> None:
    data = encode(message)
    assert len(data) <= MAX_MESSAGE_BYTES
    assert parse(data) == message


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_other_bytes_are_the_peers_fault(data: bytes) -> None:
    with pytest.raises(PeerFault):
        parse(data)


@given(MESSAGES, st.data())
def test_a_changed_member_is_refused_or_is_another_valid_message(message: Message, data: st.DataObject) -> None:
    values = json.loads(encode(message))
    member = data.draw(st.sampled_from(sorted(values)))
    values[member] = data.draw(JSON)
    try:
        taken = parse(json.dumps(values).encode())
    except PeerFault:
        return
    assert parse(encode(taken)) == taken


@given(MESSAGES, st.integers(min_value=0))
def test_a_cut_message_is_refused(message: Message, cut: int) -> None:
    data = encode(message)
    with pytest.raises(PeerFault):
        parse(data[: cut % len(data)])


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"reward": 0}, "reward"),
        ({"reward": 1 << 96}, "reward"),
        ({"reward": "5"}, "reward"),
        ({"reward": True}, "reward"),
        ({"age": -1}, "age"),
        ({"tolerance_bps": 10_001}, "tolerance_bps"),
        ({"size_bytes": (1 << 30) + 1}, "size_bytes"),
        ({"seats": -1}, "seats"),
        ({"seats": 1 << 24}, "seats"),
        ({"nonce": 1 << 32}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"commitment": "00" * 31}, "commitment"),
        ({"commitment": "AA" * 32}, "commitment"),
        ({"commitment": "00" * 32 + "\n"}, "commitment"),
        ({"learner": "0x12"}, "learner"),
        ({"algorithm": ""}, "algorithm"),
        ({"algorithm": "gossip\u00e9"}, "algorithm"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_a_value_out_of_bounds_is_named(changes: dict[str, object], where: str) -> None:
    values = json.loads(encode(proposal())) | changes
    with pytest.raises(PeerFault, match=where):
        parse(json.dumps(values).encode())


def test_a_long_message_is_not_even_read() -> None:
    with pytest.raises(PeerFault, match=f"at most {MAX_MESSAGE_BYTES}"):
        parse(b"[" * (MAX_MESSAGE_BYTES + 1))


def test_terms_that_make_no_sense_together_are_the_peers_fault() -> None:
    with pytest.raises(PeerFault, match="report_by"):
        proposal(report_by=10, open_by=10).terms(neighbor=NEIGHBOR, commitment=b"c" * 32)
    with pytest.raises(PeerFault, match="learner"):
        proposal(learner=proposal().learner.lower()).terms(neighbor=NEIGHBOR, commitment=b"c" * 32)
    with pytest.raises(PeerFault, match="another address"):
        proposal().terms(neighbor=proposal().learner, commitment=b"c" * 32)


def test_both_sides_compute_the_same_encounter_id() -> None:
    mine = proposal().terms(neighbor=NEIGHBOR, commitment=b"c" * 32)
    theirs = parse(encode(proposal()))
    assert isinstance(theirs, Propose)
    domain = Domain(chain_id=1337, escrow=NEIGHBOR)
    assert encounter_id(theirs.terms(neighbor=NEIGHBOR, commitment=b"c" * 32), domain) == encounter_id(mine, domain)
