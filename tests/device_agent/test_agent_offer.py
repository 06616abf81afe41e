"""Offers: what one device offers another of the same settings takes, as far apart as they may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent_rig import ARCHITECTURE, SETTINGS
from agent_rig import FACTS as VIEW
from agent_values import LEARNER
from hypothesis import given
from hypothesis import strategies as st

from device_agent import offer
from device_agent.learning import Model
from device_agent.messages import Propose
from device_agent.settings import Door, Settings

NOW_S = 1_800_000_000
FACTS = replace(VIEW, chain_time_s=NOW_S)
MODEL = Model(data=b"model", digest=b"\xd1" * 32, age=4)
SOME = st.builds(
    replace,
    st.just(SETTINGS),
    reward=st.integers(1, (1 << 96) - 1),
    tolerance_bps=st.integers(0, 10_000),
    door=st.sampled_from(Door),
    open_within_s=st.integers(8, 86_400),
    report_within_s=st.integers(0, 86_400),
    credit_within_s=st.integers(8, 86_400),
    expected_encounter_s=st.floats(0, 30),
).map(lambda one: replace(one, report_within_s=one.report_within_s + one.open_within_s + 100))


def made(settings: Settings, *, credit: bool, **facts: Any) -> Propose:
    return offer.make(
        settings,
        replace(FACTS, **facts),
        MODEL,
        learner=LEARNER,
        algorithm="oppcl",
        architecture=ARCHITECTURE,
        nonce=0 if settings.door is Door.DIRECT else 16,
        commitment=b"\xc0" * 32,
        on_credit=credit,
    )


@given(settings=SOME, credit=st.booleans(), apart=st.floats(-1, 1))
def test_devices_with_the_same_settings_take_each_others_offers_though_their_clocks_differ(
    settings: Settings, credit: bool, apart: float
) -> None:
    within_s = settings.credit_within_s if credit else settings.open_within_s
    known_s = NOW_S + int(apart * (within_s // 4 - 1))
    assert offer.acceptable(made(settings, credit=credit, chain_time_s=known_s), settings, FACTS)


@given(settings=SOME, credit=st.booleans(), later=st.integers(0, 10**5))
def test_no_offer_is_taken_for_which_too_little_time_is_left(settings: Settings, credit: bool, later: int) -> None:
    within_s = settings.credit_within_s if credit else settings.open_within_s
    known_s = NOW_S - within_s + within_s // 4 - later
    assert not offer.acceptable(made(settings, credit=credit, chain_time_s=known_s), settings, FACTS)


@given(seats=st.integers(1, 10_000), known=st.integers(0, 10_000), credit=st.booleans())
def test_a_learner_knows_of_all_seats_or_on_credit_of_most(seats: int, known: int, credit: bool) -> None:
    taken = offer.acceptable(
        made(SETTINGS, credit=credit, seat_count=known), SETTINGS, replace(FACTS, seat_count=seats)
    )
    assert taken is (0.75 * seats <= known <= seats if credit else known == seats)


@given(free=st.none() | st.integers(0, 10**20), reward=st.integers(1, 10**20), promised=st.integers(0, 10**20))
def test_a_stake_covers_what_the_chain_will_lock_and_what_was_promised(
    free: int | None, reward: int, promised: int
) -> None:
    covered = offer.covered(free, reward, FACTS, promised=promised)
    assert covered is (free is not None and free >= FACTS.min_stake + reward + promised)
