"""The small pure rules: who is near, how a vote comes about, whether a device is fit, whose signature it is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from eth_account import Account
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from contracts.identity import Fees, Identity
from contracts.states import VoteReason
from device_agent.ballot import judge, judge_missing
from device_agent.clock import SystemClock
from device_agent.health import Guards, Unfit, Vitals, unfit, vitals_reader
from device_agent.learning import Assessment

# -- ballot -----------------------------------------------------------------------------------------------------------

TOTAL = st.integers(1, 10_000)
BPS = st.integers(0, 10_000)


@given(TOTAL, BPS, st.data())
def test_a_vote_is_yes_if_no_more_than_tau_of_accuracy_is_lost(total: int, tau: int, data: st.DataObject) -> None:
    previous, updated = data.draw(st.integers(0, total)), data.draw(st.integers(0, total))
    ballot = judge(Assessment(previous_correct=previous, updated_correct=updated, total=total), tolerance_bps=tau)
    assert ballot.valid is (Fraction(updated, total) >= Fraction(previous, total) - Fraction(tau, 10_000))
    assert ballot.reason is VoteReason.ACCURACY


@pytest.mark.parametrize(("lost", "valid"), [(19, True), (20, True), (21, False)])
def test_the_boundary_itself_is_yes(lost: int, valid: bool) -> None:
    assessment = Assessment(previous_correct=500, updated_correct=500 - lost, total=1000)
    assert judge(assessment, tolerance_bps=200).valid is valid


@pytest.mark.parametrize(("lost", "valid"), [(0, True), (1, False)])
def test_no_tolerance_allows_no_loss(lost: int, valid: bool) -> None:
    assessment = Assessment(previous_correct=1, updated_correct=1 - lost, total=10_000)
    assert judge(assessment, tolerance_bps=0).valid is valid


@pytest.mark.parametrize(
    ("previous", "updated", "valid", "reason"),
    [
        (None, 5, True, VoteReason.PREVIOUS_WITHHELD),
        (5, None, False, VoteReason.UPDATED_MALFORMED),
        (None, None, False, VoteReason.UPDATED_MALFORMED),
    ],
)
def test_an_unusable_model_is_the_fault_of_who_made_it(
    previous: int | None, updated: int | None, valid: bool, reason: VoteReason
) -> None:
    ballot = judge(Assessment(previous_correct=previous, updated_correct=updated, total=9), tolerance_bps=0)
    assert (ballot.valid, ballot.reason) == (valid, reason)


def test_a_missing_model_is_the_fault_of_who_owes_it() -> None:
    assert judge_missing(previous=True, updated=True) is None
    for previous in (True, False):
        ballot = judge_missing(previous=previous, updated=False)
        assert ballot is not None
        assert (ballot.valid, ballot.reason) == (False, VoteReason.UPDATED_WITHHELD)
    ballot = judge_missing(previous=False, updated=True)
    assert ballot is not None
    assert (ballot.valid, ballot.reason) == (True, VoteReason.PREVIOUS_WITHHELD)


@given(st.none() | st.integers(0, 9), st.none() | st.integers(0, 9), BPS)
def test_the_contract_takes_every_ballot(previous: int | None, updated: int | None, tau: int) -> None:
    ballot = judge(Assessment(previous_correct=previous, updated_correct=updated, total=9), tolerance_bps=tau)
    assert ballot.reason.allows(valid=ballot.valid)


# -- health -----------------------------------------------------------------------------------------------------------

WELL = Vitals(temperature_c=74.9, throttled=0, available_memory_bytes=64 << 20, free_disk_bytes=64 << 20)


@pytest.mark.parametrize(
    ("vitals", "reasons"),
    [
        (WELL, ()),
        (Vitals(), ()),
        (Vitals(temperature_c=75.0), (Unfit.HOT,)),
        (Vitals(throttled=0b0100), (Unfit.THROTTLED,)),
        (Vitals(throttled=0b0001), (Unfit.UNDER_VOLTAGE,)),
        (Vitals(throttled=0x50000), ()),  # was throttled once since boot
        (Vitals(throttled=0x50005), (Unfit.THROTTLED, Unfit.UNDER_VOLTAGE)),
        (Vitals(available_memory_bytes=(64 << 20) - 1), (Unfit.MEMORY,)),
        (Vitals(free_disk_bytes=(64 << 20) - 1), (Unfit.DISK,)),
    ],
)
def test_a_device_is_unfit_for_each_reason(vitals: Vitals, reasons: tuple[Unfit, ...]) -> None:
    assert unfit(vitals, Guards()) == reasons


def test_this_machine_has_vitals(tmp_path: Path) -> None:
    vitals = vitals_reader(tmp_path)()
    assert vitals.free_disk_bytes is not None
    assert vitals.available_memory_bytes is None or vitals.available_memory_bytes > 0


def test_the_system_clock_goes_forward() -> None:
    clock = SystemClock()
    first_s = clock.monotonic_s()
    assert clock.monotonic_s() >= first_s
    assert clock.wall_s() > 1_700_000_000


# -- identity ---------------------------------------------------------------------------------------------------------

KEY = bytes(range(1, 33))


def test_a_signature_is_of_the_address() -> None:
    one = Identity(KEY)
    raw, found = one.sign(
        chain_id=1337,
        nonce=7,
        target="0x" + "12" * 20,
        data=b"\x01\x02",
        gas=500_000,
        fees=Fees(tip_wei=1, max_fee_wei=2),
        value_wei=3,
    )
    assert found == keccak(raw)
    assert Account.recover_transaction(raw) == one.address
    again, _ = one.sign(
        chain_id=1337,
        nonce=7,
        target="0x" + "12" * 20,
        data=b"\x01\x02",
        gas=500_000,
        fees=Fees(tip_wei=1, max_fee_wei=2),
        value_wei=3,
    )
    assert again == raw


def test_the_key_shows_nowhere() -> None:
    one = Identity(KEY)
    for shown in (repr(one), str(one), f"{one}"):
        assert KEY.hex() not in shown.lower()
        assert one.address in shown


@pytest.mark.parametrize("key", [b"", b"\x01" * 31, b"\x00" * 32, b"\xff" * 32])
def test_what_is_no_key_is_refused_without_showing_it(key: bytes) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Identity(key)
    assert not key or key.hex() not in str(caught.value)
