"""How long an encounter is expected to take, and that none begins that does not fit."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from agent_rig import BATCHED
from agent_values import proposal
from hypothesis import given
from hypothesis import strategies as st
from test_agent_proposals import GOOD, PEER, Rig

from device_agent.journal import Journal
from device_agent.messages import Decline, Refusal
from device_agent.pace import Pace

MIB = 1 << 20


def learned(*, opening_s: float, per_mib_s: float, work_s: float) -> Pace:
    pace = Pace(30)
    pace.began(b"k", 0)
    pace.opened(b"k", opening_s)
    pace.fetched(MIB, per_mib_s, opening_s)
    pace.worked(work_s, opening_s)
    return pace


def test_until_every_part_was_measured_an_encounter_takes_what_was_expected() -> None:
    pace = Pace(30)
    assert pace.encounter_s(MIB, 0) == 30
    pace.worked(500, 0)
    pace.fetched(MIB, 500, 0)
    assert pace.encounter_s(MIB, 0) == 30
    assert pace.encounter_s(MIB, 0, on_credit=True) > 30  # which needs no opening


def test_an_encounter_is_its_opening_two_transfers_and_the_work_with_a_margin() -> None:
    pace = learned(opening_s=4, per_mib_s=2, work_s=8)
    assert pace.encounter_s(3 * MIB, 4) == pytest.approx(1.25 * (4 + 12 + 8))
    assert pace.encounter_s(3 * MIB, 4, on_credit=True) == pytest.approx(1.25 * (12 + 8))


def test_what_was_learned_fades_so_that_a_slow_hour_does_not_silence_a_device() -> None:
    pace = learned(opening_s=4, per_mib_s=0, work_s=3996)
    assert pace.encounter_s(MIB, 4) == 5000
    assert pace.encounter_s(MIB, 3604) == pytest.approx(30 + 4970 / 2)
    assert pace.encounter_s(MIB, 1e6) == pytest.approx(30)


def test_an_opening_that_is_seen_twice_or_began_elsewhere_is_none() -> None:
    pace = learned(opening_s=4, per_mib_s=0, work_s=0)
    pace.opened(b"k", 400)
    pace.opened(b"unknown", 400)
    assert pace.encounter_s(MIB, 4) == 5


def test_what_never_opens_is_forgotten() -> None:
    pace = Pace(30)
    for number in range(200):
        pace.began(bytes([number]), number)
    assert len(pace._began) == 64


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=30))
def test_the_mean_stays_within_what_was_measured(measured_s: list[float]) -> None:
    pace = learned(opening_s=0, per_mib_s=0, work_s=measured_s[0])
    for one in measured_s[1:]:
        pace.worked(one, 0)
    assert min(measured_s) * 1.25 - 1e-6 <= pace.encounter_s(0, 0) <= max(measured_s) * 1.25 + 1e-6


@pytest.mark.parametrize(("work_s", "fits"), [(60.0, True), (120.0, False)])
def test_no_encounter_begins_that_does_not_fit_the_contact(journal: Journal, work_s: float, fits: bool) -> None:
    rig = Rig(journal, settings=replace(BATCHED, usual_contact_s=120))
    rig.pace.began(b"k", 0)
    rig.pace.opened(b"k", 0)
    rig.pace.fetched(1, 0, 0)
    rig.pace.worked(work_s, 0)
    (answer,) = rig.answers((PEER, proposal(**GOOD, nonce=16)))
    assert (answer.reason if isinstance(answer, Decline) else None) == (None if fits else Refusal.CONTACT)
    rig.party.live(lambda: asyncio.ensure_future(rig.proposals.seek()))
    assert any(one.role == "learner" for one in journal.live_encounters()) is fits
