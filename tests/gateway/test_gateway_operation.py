"""Which operations are taken at all: hostile bytes, foreign signatures, the wrong door."""

from dataclasses import replace

import pytest
from gateway_rig import ALICE, BOB, PERSONS, SALTS, TOKEN, UPDATED
from hypothesis import given
from hypothesis import strategies as st
from signed_calls import act, ballot, half, opening, permit

from contracts import calls, terms
from contracts.signing import MISSING
from contracts.states import ActionKind, VoteReason
from contracts.terms import Domain, Terms
from gateway.errors import Code, Refusal
from gateway.operation import MAX_OPERATION_BYTES, check_operation, over_after

DOMAIN = Domain(chain_id=1337, escrow="0x" + "E" * 40)
ELSEWHERE = Domain(chain_id=1338, escrow="0x" + "E" * 40)
AGREED = Terms(
    learner=ALICE.address,
    neighbor=BOB.address,
    algorithm=terms.algorithm_label("oppcl"),
    architecture=bytes(32),
    previous=bytes([3]) * 32,
    reward=TOKEN,
    tolerance_bps=200,
    parameter_set=0,
    open_by=1_000,
    report_by=2_000,
    salts=terms.both_salts(*map(terms.commitment, SALTS)),
    seats=6,
    nonce=16,
)
DIRECT = replace(AGREED, nonce=0)
VOTER = PERSONS[2]
OPEN = opening(AGREED, DOMAIN, ALICE, BOB)
REPORT = half(AGREED, DOMAIN, BOB)
VOTE = ballot(AGREED, DOMAIN, VOTER)
ACT = act(VOTER, DOMAIN, ActionKind.STAKE, amount=5, nonce=1, deadline=77)


def refusal(call: calls.Call | bytes) -> tuple[int, Code]:
    with pytest.raises(Refusal) as caught:
        check_operation(call if isinstance(call, bytes) else calls.encode(call), DOMAIN)
    return caught.value.status, caught.value.code


@pytest.mark.parametrize(
    ("call", "account", "over"),
    [
        (OPEN, ALICE, 1_000),
        (half(AGREED, DOMAIN, ALICE), ALICE, None),
        (REPORT, BOB, None),
        (VOTE, VOTER, None),
        (ACT, VOTER, 77),
        (permit(VOTER, DOMAIN, DOMAIN.escrow, 5, deadline=88), VOTER, 88),
        (calls.Expire(terms=AGREED), None, None),
        (calls.Finalise(terms=AGREED, updated=UPDATED, panel=(1, 2)), None, None),
    ],
)
def test_what_is_taken_names_its_signer_and_its_end(call: calls.Call, account: object, over: int | None) -> None:
    checked = check_operation(calls.encode(call), DOMAIN)
    assert checked.account == (None if account is None else account.address)
    assert checked.encounter == (
        None if isinstance(call, calls.Act | calls.Permit) else "0x" + terms.encounter_id(AGREED, DOMAIN).hex()
    )
    assert over_after(checked.call) == over


@pytest.mark.parametrize(
    "call",
    [
        opening(AGREED, DOMAIN, BOB, ALICE),
        opening(AGREED, ELSEWHERE, ALICE, BOB),
        replace(OPEN, neighbor_r=bytes(32)),
        half(AGREED, ELSEWHERE, BOB),
        replace(REPORT, updated=bytes(32)),
        replace(VOTE, r=bytes(32)),
        replace(ACT, action=replace(ACT.action, amount=6)),
        replace(ACT, action=replace(ACT.action, account=ALICE.address)),
    ],
)
def test_a_signature_by_another_is_refused(call: calls.Call) -> None:
    assert refusal(call) == (400, Code.BAD_SIGNATURE)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (opening(DIRECT, DOMAIN, ALICE, BOB), (422, Code.WRONG_DOOR)),
        (half(DIRECT, DOMAIN, BOB), (422, Code.WRONG_DOOR)),
        (replace(REPORT, signatures=MISSING * 2), (400, Code.MALFORMED_OPERATION)),
        (replace(REPORT, signatures=REPORT.signatures[64:] * 2), (400, Code.MALFORMED_OPERATION)),
        (replace(REPORT, signatures=REPORT.signatures[:-1]), (400, Code.MALFORMED_OPERATION)),
        (replace(REPORT, learner_salt=bytes(32)), (400, Code.MALFORMED_OPERATION)),
        (
            ballot(AGREED, DOMAIN, VOTER, valid=True, reason=VoteReason.UPDATED_WITHHELD),
            (400, Code.MALFORMED_OPERATION),
        ),
        (calls.CheckIn(terms=AGREED), (422, Code.UNKNOWN_CALL)),
        (calls.Stake(amount=1, nonce=0), (422, Code.UNKNOWN_CALL)),
        (calls.Batch(calls=(calls.encode(OPEN),)), (422, Code.UNKNOWN_CALL)),
        (b"", (400, Code.MALFORMED_OPERATION)),
        (b"\0" * 36, (400, Code.UNKNOWN_OPERATION)),
        (calls.encode(OPEN) + b"\0", (400, Code.MALFORMED_OPERATION)),
        (calls.encode(OPEN)[:-1], (400, Code.MALFORMED_OPERATION)),
        (b"\0" * (MAX_OPERATION_BYTES + 1), (400, Code.MALFORMED_OPERATION)),
    ],
)
def test_what_is_no_operation_is_refused_by_name(call: calls.Call | bytes, answer: tuple[int, Code]) -> None:
    assert refusal(call) == answer


@given(call=st.sampled_from([OPEN, REPORT, VOTE, ACT]), at=st.integers(0, 2000), bit=st.integers(0, 7))
def test_one_flipped_bit_is_refused_or_is_a_vote_of_somebody_else(call: calls.Call, at: int, bit: int) -> None:
    data = bytearray(calls.encode(call))
    data[at % len(data)] ^= 1 << bit
    try:
        checked = check_operation(bytes(data), DOMAIN)
    except Refusal:
        return
    # Who voted is not told beside the signature, and where on the panel is not signed.
    assert isinstance(checked.call, calls.VoteSigned)
    changed = replace(checked.call, panel=VOTE.panel, position=VOTE.position)
    assert checked.account != VOTER.address or changed == VOTE


@given(data=st.binary(max_size=700))
def test_any_bytes_are_answered_with_a_refusal(data: bytes) -> None:
    assert refusal(data)[0] in (400, 422)
