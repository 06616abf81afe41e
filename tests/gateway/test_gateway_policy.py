"""Which raw transactions are taken; whatever bytes come, nothing but a Refusal comes out."""

import pytest
import rlp
from eth_account import Account
from eth_hash.auto import keccak
from gateway_rig import ALICE, sign
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import calls
from contracts.settlement import DEFAULT_PARAMETERS
from contracts.states import ActionKind, VoteReason
from gateway.config import Limits
from gateway.errors import Code, Refusal
from gateway.policy import CheckedTransaction, check
from gateway.transaction import MAX_RAW_BYTES

TOKEN, ESCROW, OTHER = (Account.from_key(bytes([n]) * 32).address for n in (11, 12, 13))
LIMITS = Limits()
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
STAKE = calls.encode_stake(5)
WORD = bytes(range(32))
SEAT = {"encounter": WORD, "updated": WORD, "panel": (4, 2), "position": 1}
SIGNED = {"r": WORD, "vs": WORD}
CALLS = [
    (calls.encode_stake(5), ESCROW),
    (calls.encode_withdraw(), ESCROW),
    (calls.encode_register_validator(), ESCROW),
    (calls.encode_burn_fines(), ESCROW),
    (calls.encode(calls.StakeWithPermit(amount=5, nonce=1, deadline=9, v=27, r=WORD, s=WORD)), ESCROW),
    (calls.encode(calls.Dismiss(validator=OTHER)), ESCROW),
    (calls.encode(calls.Vote(**SEAT, valid=True, reason=VoteReason.ACCURACY)), ESCROW),
    (calls.encode(calls.Seal(**SEAT, commitment=WORD)), ESCROW),
    (
        calls.encode(
            calls.RevealVote(encounter=WORD, position=1, voter=OTHER, valid=True, reason=VoteReason.ACCURACY, salt=WORD)
        ),
        ESCROW,
    ),
    (calls.encode_buy(), TOKEN),
    (calls.encode_sell(5, 0), TOKEN),
    (calls.encode_approve(ESCROW, 5), TOKEN),
]


def look(raw: bytes) -> CheckedTransaction:
    return check(raw, chain_id=1337, token=TOKEN, escrow=ESCROW, limits=LIMITS)


def stake(**changes: object) -> bytes:
    return sign(ALICE, **({"data": STAKE, "to": ESCROW, "nonce": 3} | changes))


def members(raw: bytes) -> list:
    return rlp.decode(raw[1:])


def remade(raw: bytes, place: int, value: object) -> bytes:
    found = members(raw)
    found[place] = value
    return b"\x02" + rlp.encode(found)


def refused(raw: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        look(raw)
    assert caught.value.message
    return caught.value


@pytest.mark.parametrize(("data", "to"), CALLS)
def test_a_call_of_ours_is_taken(data: bytes, to: str) -> None:
    raw = sign(ALICE, data, to=to, nonce=7)
    checked = look(raw)
    assert (checked.sender, checked.nonce, checked.target, checked.raw) == (ALICE.address, 7, to, raw)
    assert checked.digest == keccak(raw)
    assert calls.encode(checked.call) == data


def test_buying_sends_value_along() -> None:
    assert look(sign(ALICE, calls.encode_buy(), to=TOKEN, nonce=0, value=5)).name == "buy"


@pytest.mark.parametrize(
    ("raw", "code", "says"),
    [
        (stake(chainId=1), Code.WRONG_CHAIN, "chain 1;"),
        (stake(to=OTHER), Code.FOREIGN_TARGET, OTHER),
        (stake(to=b""), Code.FOREIGN_TARGET, "creates a contract"),
        (stake(to=TOKEN), Code.UNKNOWN_CALL, "stake is a function of the escrow"),
        (stake(gas=LIMITS.max_gas + 1), Code.GAS_ABOVE_CAP, str(LIMITS.max_gas)),
        (stake(maxFeePerGas=10**13), Code.FEE_ABOVE_CAP, str(LIMITS.max_fee_wei)),
        (stake(value=LIMITS.max_value_wei + 1), Code.VALUE_ABOVE_CAP, str(LIMITS.max_value_wei)),
        (stake(value=1), Code.VALUE_ABOVE_CAP, "stake takes none"),
        (stake(data=b"\1\2\3\4"), Code.UNKNOWN_CALL, "0x01020304"),
        (stake(data=b""), Code.MALFORMED_TRANSACTION, "at least 4 bytes"),
        (stake(data=STAKE + b"\0"), Code.MALFORMED_TRANSACTION, "canonical"),
        (
            stake(data=calls.encode_add_parameter_set(1, DEFAULT_PARAMETERS)),
            Code.UNKNOWN_CALL,
            "addParameterSet is for the contracts' owner",
        ),
        (stake(data=calls.encode_retire_parameter_set(0)), Code.UNKNOWN_CALL, "owner"),
        (sign(ALICE, calls.encode_transfer(OTHER, 1), to=TOKEN, nonce=0), Code.UNKNOWN_CALL, "transfer"),
        (sign(ALICE, calls.encode_burn(1), to=TOKEN, nonce=0), Code.UNKNOWN_CALL, "burn"),
        (sign(ALICE, calls.encode_approve(OTHER, 1), to=TOKEN, nonce=0), Code.UNKNOWN_CALL, "approve"),
        (
            stake(accessList=[{"address": OTHER, "storageKeys": ["0x" + "00" * 32]}]),
            Code.MALFORMED_TRANSACTION,
            "accessList must be empty",
        ),
        (stake(maxPriorityFeePerGas=10**12), Code.MALFORMED_TRANSACTION, "above maxFeePerGas"),
        (stake(nonce=2**63), Code.MALFORMED_TRANSACTION, "nonce"),
        (stake() + b"\0", Code.MALFORMED_TRANSACTION, "too many"),
        (stake()[:-1], Code.MALFORMED_TRANSACTION, "not RLP"),
        (b"", Code.MALFORMED_TRANSACTION, "bytes"),
        (b"\2" * (MAX_RAW_BYTES + 1), Code.MALFORMED_TRANSACTION, "bytes"),
        (b"\2" + b"\xc0", Code.MALFORMED_TRANSACTION, "12 members, got a list of 0"),
        (b"\2" + b"\x80", Code.MALFORMED_TRANSACTION, "got a string"),
        (b"\2" + b"\xf9\x0f\xff" * 2_000, Code.MALFORMED_TRANSACTION, "not RLP"),
        (remade(stake(), 0, b"\0\x05"), Code.MALFORMED_TRANSACTION, "chainId starts with a zero"),
        (remade(stake(), 1, []), Code.MALFORMED_TRANSACTION, "nonce must be a string"),
        (remade(stake(), 5, b"\1" * 19), Code.MALFORMED_TRANSACTION, "to must have 0 or 20"),
        (remade(stake(), 6, b"\1" * 33), Code.MALFORMED_TRANSACTION, "value has at most 32"),
        (remade(stake(), 9, b"\2"), Code.MALFORMED_TRANSACTION, "yParity must be 0 or 1"),
        (remade(stake(), 10, b""), Code.BAD_SIGNATURE, "out of range"),
        (remade(stake(), 11, b""), Code.BAD_SIGNATURE, "out of range"),
        (remade(stake(), 10, ORDER.to_bytes(32)), Code.BAD_SIGNATURE, "out of range"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_told_why(raw: bytes, code: Code, says: str) -> None:
    error = refused(raw)
    assert error.code is code
    assert says in error.message
    assert error.status == (400 if code in (Code.MALFORMED_TRANSACTION, Code.BAD_SIGNATURE) else 422)
    assert not error.retry


@pytest.mark.parametrize(
    "call",
    [
        calls.Batch(calls=(STAKE,)),
        calls.Permit(owner=OTHER, amount=5, deadline=9, v=27, r=WORD, s=WORD),
        calls.VoteSigned(**SEAT, valid=True, reason=VoteReason.ACCURACY, **SIGNED),
        calls.SealSigned(**SEAT, commitment=WORD, **SIGNED),
        calls.Act(action=calls.Action(account=OTHER, kind=ActionKind.STAKE, amount=5, nonce=1, deadline=9), **SIGNED),
    ],
)
def test_the_signed_door_is_not_relayed(call: calls.Call) -> None:
    error = refused(stake(data=calls.encode(call)))
    assert error.code is Code.UNKNOWN_CALL
    assert f"no device has to send {calls.function_name(call)}" in error.message


def test_a_legacy_transaction_is_refused_by_its_type() -> None:
    fields = {"chainId": 1337, "nonce": 0, "gas": 21_000, "gasPrice": 1, "to": ESCROW, "value": 0}
    error = refused(bytes(ALICE.sign_transaction(fields).raw_transaction))
    assert error.code is Code.MALFORMED_TRANSACTION
    assert "EIP-1559" in error.message


def test_the_same_signature_with_a_high_s_is_refused() -> None:
    raw = stake()
    found = members(raw)
    found[9] = b"" if found[9] else b"\1"
    found[11] = (ORDER - int.from_bytes(found[11])).to_bytes(32)
    assert refused(b"\2" + rlp.encode(found)).code is Code.BAD_SIGNATURE


def test_lists_in_lists_do_not_exhaust_the_decoder() -> None:
    nested = b"\xc0"
    while len(nested) < MAX_RAW_BYTES - 10:
        nested = rlp.codec.length_prefix(len(nested), 0xC0) + nested
    assert refused(b"\2" + nested).code is Code.MALFORMED_TRANSACTION


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_a_refusal(body: bytes) -> None:
    refused(b"\2" + body)
    refused(body)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_changed_transaction_raises_nothing_but_a_refusal_or_has_another_sender(data: st.DataObject) -> None:
    raw = stake()
    at = data.draw(st.integers(0, len(raw) - 1))
    until = data.draw(st.integers(at, min(len(raw), at + 4)))
    changed = raw[:at] + data.draw(st.binary(max_size=4)) + raw[until:]
    try:
        checked = look(changed)
    except Refusal:
        return
    assert (checked.sender == ALICE.address) == (changed == raw)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 11), st.recursive(st.binary(max_size=40), lambda inner: st.lists(inner, max_size=4)))
def test_any_member_may_be_anything(place: int, value: object) -> None:
    changed = remade(stake(), place, value)
    try:
        checked = look(changed)
    except Refusal:
        return
    assert (checked.sender == ALICE.address) == (changed == stake())
