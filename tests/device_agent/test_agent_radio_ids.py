"""Rotating ids: the same for their minutes, then another one, and not for all devices at the same moment."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from device_agent.radio.ids import INTERVAL_S, changes_in_s, radio_id

ROOT = bytes(range(32))
NOW_S = 1_790_000_000
DAY_S = 86_400

roots = st.binary(min_size=32, max_size=32)
moments = st.integers(0, 1 << 36)


@given(roots, moments)
def test_an_id_has_sixteen_hex_digits(root: bytes, now_s: int) -> None:
    assert re.fullmatch("[0-9a-f]{16}", radio_id(root, now_s))


@given(roots, moments, st.data())
def test_it_stays_until_it_changes_and_then_is_another(root: bytes, now_s: int, data: st.DataObject) -> None:
    left_s = changes_in_s(root, now_s)
    assert 0 < left_s <= INTERVAL_S
    within = data.draw(st.integers(0, int(left_s) - 1))
    assert radio_id(root, now_s + within) == radio_id(root, now_s)
    assert radio_id(root, now_s + left_s) != radio_id(root, now_s)
    assert changes_in_s(root, now_s + left_s) == INTERVAL_S


def test_it_changes_every_ten_to_fifteen_minutes() -> None:
    assert 10 * 60 <= INTERVAL_S <= 15 * 60


def test_it_is_a_truncated_hmac_of_the_days_key_and_the_intervals_number() -> None:
    def of(key: bytes, text: str) -> bytes:
        return hmac.digest(key, text.encode(), hashlib.sha256)

    shift_s = int.from_bytes(of(ROOT, "iDML radio shift")[:4], "big") % INTERVAL_S
    number = (NOW_S + shift_s) // INTERVAL_S
    day_key = of(ROOT, f"iDML radio day {number * INTERVAL_S // DAY_S}")
    assert radio_id(ROOT, NOW_S) == of(day_key, f"iDML radio interval {number}")[:8].hex()


def test_no_id_comes_back_in_thirty_days() -> None:
    ids = [radio_id(ROOT, NOW_S + step * INTERVAL_S) for step in range(30 * DAY_S // INTERVAL_S)]
    assert len(set(ids)) == len(ids)


@given(roots, roots, moments)
def test_two_devices_show_two_ids(one: bytes, other: bytes, now_s: int) -> None:
    assert (radio_id(one, now_s) == radio_id(other, now_s)) == (one == other)


def test_devices_change_at_moments_of_their_own() -> None:
    fleet = [hashlib.sha256(bytes([number])).digest() for number in range(120)]
    minutes = Counter((int(changes_in_s(root, NOW_S)) - 1) // 60 for root in fleet)
    assert set(minutes) == set(range(INTERVAL_S // 60))
    assert max(minutes.values()) < len(fleet) // 4


def test_a_moment_between_two_seconds_will_do() -> None:
    left_s = changes_in_s(ROOT, NOW_S + 0.25)
    assert left_s == (changes_in_s(ROOT, NOW_S) - 0.25) % INTERVAL_S
    assert radio_id(ROOT, NOW_S + 0.25) == radio_id(ROOT, NOW_S)
